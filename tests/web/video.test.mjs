import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripOf } from '../../web/js/cells.js'
import { isLinked, RunGraph } from '../../web/js/graph.js'
import { videoFile } from '../../web/js/made_frames.js'
import { framesPerSecond, maskInputs } from '../../web/js/video.js'
import { graphWith, node } from './graphs.mjs'

const keyframe = (image, values, latent) =>
  node(
    'PusaEncodeKeyframes',
    { position: 0, length: 81, position_counts: 'latent frames', ...values },
    { image, latent },
  )
const picture = node('LoadImage', { image: 'a/start.png' })
const places = ({ given }) => given?.map(({ first, last }) => [first, last]) ?? null

/** What a mask behind a node is said of its video. */
function videoFrom(latent) {
  const mask = node('PusaFrameMask', { noise_levels: '' }, { latent })
  return maskInputs(new RunGraph(graphWith(mask)), mask).video
}

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
  const empty = () => node('EmptyHunyuanLatentVideo', { length: 33 })
  const video = videoFrom(empty())
  assert.deepEqual([video.frames, video.given], [9, []])
  const given = keyframe(picture, { position: 32, position_counts: 'pixel frames' }, empty())
  assert.deepEqual(places(videoFrom(given)), [[8, 8]])
})

test('resized pictures and bypassed nodes are seen through', () => {
  const scaled = node('ImageScale', {}, { image: node('ImageFromBatch', { length: 9 }) })
  assert.deepEqual(places(videoFrom(keyframe(scaled))), [[0, 2]])
  assert.deepEqual(places(videoFrom(keyframe(node('ImagePadForOutpaint', {}, { image: scaled })))), [[0, 2]])
  const bypassed = keyframe(picture, { position: 5 }, keyframe(picture))
  bypassed.mode = 4
  assert.deepEqual(places(videoFrom(bypassed)), [[0, 0]])
})

test('what cannot be known is unknown', () => {
  assert.equal(places(videoFrom(keyframe(node('SomeLoader')))), null)
  assert.equal(videoFrom(keyframe(node('SomeLoader'))).frames, 21)
  assert.deepEqual(videoFrom(node('VAEEncode')), { frames: null, given: null, before: [] })
  assert.equal(videoFrom(null).frames, null)
})

test('a linked number is that of the node it comes from', () => {
  const linked = (length) =>
    videoFrom(node('PusaEncodeKeyframes', { position: 0, length: 81 }, { image: picture, length })).frames
  assert.equal(linked(node('PrimitiveInt', { value: 41 })), 11)
  const half = node('PrimitiveFloat', { value: 2.5 })
  const maths = (expression, output) => node('ComfyMathExpression', { expression }, { 'values.a': half }, { output })
  assert.equal(linked(maths('4 * round(4 * a) + 1', 1)), 11)
  assert.equal(linked(maths('len(a)', 1)), null)
  assert.equal(linked(node('SomeNumber', { number: 41 })), null)
})

test('a mask that is linked gives an area its level, and a text after it whole frames', () => {
  const area = node('LoadImage', { image: 'area.png' })
  const first = node('PusaFrameMask', { noise_levels: '', mask_level: 0.9 }, { latent: keyframe(picture), mask: area })
  const second = node('PusaFrameMask', { noise_levels: '0-2:0' }, { latent: first, mask: null })
  const graph = new RunGraph(graphWith(second))
  assert.equal(maskInputs(graph, first).area, 0.9)
  const { video, text, area: none } = maskInputs(graph, second)
  assert.equal(none, null)
  const areas = stripOf(text, video, null, none).cells.map((cell) => cell.area)
  assert.deepEqual(areas.slice(0, 4), [null, null, null, 0.9])
  area.mode = 4 // bypassed: it gives no mask
  assert.equal(maskInputs(graph, first).area, null)
})

test('the text of a mask before this one is on the way', () => {
  const video = videoFrom(node('PusaFrameMask', { noise_levels: '0:0.2' }, { latent: keyframe(picture) }))
  assert.deepEqual(video.before, [{ text: '0:0.2', area: null }])
})

test('a linked text is read where its node says it, and cannot be written', () => {
  const text = node('PrimitiveString', { value: '0:0.4' })
  const mask = node('PusaFrameMask', { noise_levels: '0:0' }, { latent: keyframe(picture), noise_levels: text })
  const graph = new RunGraph(graphWith(mask))
  assert.equal(maskInputs(graph, mask).text, '0:0.4')
  assert.ok(isLinked(mask, 'noise_levels'))
  assert.equal(graph.widget(mask, 'noise_levels'), null)
})

test('a ring of links ends', () => {
  const ring = node('Reroute', {}, { latent: null })
  ring.links.latent = ring
  assert.equal(videoFrom(ring).frames, null)
  const graph = new RunGraph(ring.graph)
  assert.equal(graph.isUpstream(graph.at(`${ring.id}`), picture), false)
})

test('seconds are those of the video that is made of it', () => {
  const mask = node('PusaFrameMask')
  const other = node('CreateVideo', { fps: 8 })
  const made = node('CreateVideo', { fps: 24 }, { latent: mask })
  assert.equal(framesPerSecond(new RunGraph(graphWith(mask, other, made)), mask), 24)
  assert.equal(framesPerSecond(new RunGraph(graphWith(mask, other)), mask), 16)
})

test('the video of an output is found among its files', () => {
  const images = [{ filename: 'a.png' }, { filename: 'b.mp4', subfolder: 'video', type: 'output' }]
  assert.equal(String(videoFile({ images })), 'filename=b.mp4&subfolder=video&type=output')
  assert.equal(videoFile({ images: [images[0]] }), null)
})
