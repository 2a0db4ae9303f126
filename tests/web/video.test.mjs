import assert from 'node:assert/strict'
import { test } from 'node:test'
import { videoFile } from '../../web/js/made_frames.js'
import { framesPerSecond, isUpstream, videoFrom } from '../../web/js/video.js'

/** A node of a graph, with the nodes that its inputs are linked to. */
function node(type, values = {}, links = {}, more = {}) {
  const inputs = Object.keys(links).map((name) => ({ name, type: name === 'image' ? 'IMAGE' : 'LATENT' }))
  return {
    comfyClass: type,
    inputs,
    widgets: Object.entries(values).map(([name, value]) => ({ name, value })),
    isInputConnected: (slot) => links[inputs[slot].name] != null,
    getInputNode: (slot) => links[inputs[slot].name],
    ...more,
  }
}

const keyframe = (image, values, latent) =>
  node(
    'PusaEncodeKeyframes',
    { position: 0, length: 81, position_counts: 'latent frames', ...values },
    { image, latent },
  )
const picture = node('LoadImage', { image: 'a/start.png' })
const places = ({ given }) => given?.map(({ first, last }) => [first, last]) ?? null

test('keyframes are followed along the latent', () => {
  const start = keyframe(picture)
  const video = videoFrom(keyframe(node('PusaDemoClip', { length: 12 }), { position: -1, noise_level: 0.3 }, start))
  assert.equal(video.frames, 21)
  assert.deepEqual(places(video), [
    [0, 0],
    [18, 20],
  ])
  assert.deepEqual(
    video.given.map(({ image, fromEnd, level }) => [image, fromEnd, level]),
    [
      ['a/start.png', false, 0],
      [null, true, 0.3],
    ],
  )
})

test('an empty latent has a length and no given frames', () => {
  const video = videoFrom(node('EmptyHunyuanLatentVideo', { length: 33 }))
  assert.deepEqual([video.frames, video.given], [9, []])
  assert.deepEqual(
    places(
      videoFrom(
        keyframe(
          picture,
          { position: 32, position_counts: 'pixel frames' },
          node('EmptyHunyuanLatentVideo', { length: 33 }),
        ),
      ),
    ),
    [[8, 8]],
  )
})

test('resized pictures and bypassed nodes are seen through', () => {
  const scaled = node('ImageScale', {}, { image: node('ImageFromBatch', { length: 9 }) })
  assert.deepEqual(places(videoFrom(keyframe(scaled))), [[0, 2]])
  const bypassed = keyframe(picture, { position: 5 }, keyframe(picture))
  bypassed.mode = 4
  assert.deepEqual(places(videoFrom(bypassed)), [[0, 0]])
})

test('what cannot be known is unknown', () => {
  assert.equal(places(videoFrom(keyframe(node('SomeLoader')))), null)
  assert.equal(videoFrom(keyframe(node('SomeLoader'))).frames, 21)
  assert.deepEqual(videoFrom(node('VAEEncode')), { frames: null, given: null, texts: [] })
  assert.equal(videoFrom(null).frames, null)
})

test('a linked number is that of the node it comes from', () => {
  const number = node('PrimitiveInt', { value: 41 })
  const linked = node('PusaEncodeKeyframes', { position: 0, length: 81 }, { image: picture, length: number })
  assert.equal(videoFrom(linked).frames, 11)
})

test('the text of a mask before this one is on the way', () => {
  const video = videoFrom(node('PusaFrameMask', { noise_levels: '0:0.2' }, { latent: keyframe(picture) }))
  assert.deepEqual(video.texts, ['0:0.2'])
})

test('a ring of links ends', () => {
  const ring = node('Reroute', {}, { latent: null })
  ring.isInputConnected = () => true
  ring.getInputNode = () => ring
  assert.equal(videoFrom(ring).frames, null)
  assert.equal(isUpstream(ring, picture), false)
})

test('seconds are those of the video that is made of it', () => {
  const mask = node('PusaFrameMask')
  const made = node('CreateVideo', { fps: 24 }, { latent: mask })
  mask.graph = { _nodes: [mask, node('CreateVideo', { fps: 8 }), made] }
  assert.equal(framesPerSecond(mask), 24)
  assert.equal(framesPerSecond(node('PusaFrameMask')), 16)
})

test('the video of an output is found among its files', () => {
  const images = [{ filename: 'a.png' }, { filename: 'b.mp4', subfolder: 'video', type: 'output' }]
  assert.equal(String(videoFile({ images })), 'filename=b.mp4&subfolder=video&type=output')
  assert.equal(videoFile({ images: [images[0]] }), null)
})
