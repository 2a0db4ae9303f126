// What is known of a video before it runs: its length and its given frames, from the nodes that a LATENT comes from.

import { latentLength, placeOf } from './frames.js'

/**
 * @typedef {import('./comfy').GraphNode} GraphNode
 *
 * Frames that one node gives, at the noise level `level`. `image`: the file of a Load Image node.
 * @typedef {{first: number, last: number, fromEnd: boolean, image: string | null, level: number}} Given
 *
 * `frames`: latent frames, null where unknown. `given`: null where it is unknown which frames are given. `texts`: of the
 * Frame Conditioning Mask nodes on the way, in order.
 * @typedef {{frames: number | null, given: Given[] | null, texts: string[]}} Video
 */

const BYPASSED = 4 // of a node's modes
const DEEPEST = 100 // nodes that are followed
const EMPTY = new Set(['EmptyHunyuanLatentVideo', 'EmptyWanLatentVideo', 'Wan22ImageToVideoLatent'])
const ONE_PICTURE = new Set(['LoadImage', 'PusaDemoImage', 'LoadImageMask', 'LoadImageOutput'])
const KEEPS_LENGTH = new Set([
  'ImageScale',
  'ImageScaleBy',
  'ImageInvert',
  'ImageScaleToTotalPixels',
  'ImageCrop',
  'Reroute',
])
const UNKNOWN = { frames: null, given: null, texts: [] }

/**
 * @param {GraphNode} node
 * @param {string} name
 */
export function inputSlot(node, name) {
  return (node.inputs ?? []).findIndex((input) => input.name === name || input.widget?.name === name)
}

/**
 * The node that an input is connected to.
 * @param {GraphNode} node
 * @param {string} name
 * @returns {GraphNode | null}
 */
export function sourceOf(node, name) {
  const slot = inputSlot(node, name)
  return slot < 0 || !node.isInputConnected(slot) ? null : node.getInputNode(slot)
}

/**
 * @param {GraphNode} node
 * @param {string} name
 */
export const isLinked = (node, name) => {
  const slot = inputSlot(node, name)
  return slot >= 0 && node.isInputConnected(slot)
}

/**
 * The number in a widget, or that of the node that is linked to it; null where neither is known.
 * @param {GraphNode} node
 * @param {string} name
 * @returns {number | null}
 */
function numberOf(node, name) {
  const source = isLinked(node, name) ? sourceOf(node, name) : node
  const widget = source?.widgets?.find((each) => each.name === (source === node ? name : 'value'))
  return typeof widget?.value === 'number' ? widget.value : null
}

/**
 * The pictures of an IMAGE: how many, and the file of the first where it is loaded from one.
 * @param {GraphNode | null} node
 * @param {number} [depth]
 * @returns {{count: number | null, image: string | null}}
 */
function picturesOf(node, depth = 0) {
  const type = node?.comfyClass ?? node?.type ?? ''
  if (!node || depth > DEEPEST) return { count: null, image: null }
  if (ONE_PICTURE.has(type)) {
    const file = type === 'LoadImage' ? node.widgets?.find((each) => each.name === 'image')?.value : null
    return { count: 1, image: typeof file === 'string' ? file : null }
  }
  if (type === 'EmptyImage') return { count: numberOf(node, 'batch_size'), image: null }
  if (type === 'PusaDemoClip' || type === 'ImageFromBatch') return { count: numberOf(node, 'length'), image: null }
  if (KEEPS_LENGTH.has(type) || node.mode === BYPASSED) return picturesOf(firstSource(node, 'IMAGE'), depth + 1)
  return { count: null, image: null }
}

/**
 * The node behind the first input of a type, as ComfyUI links through a bypassed node.
 * @param {GraphNode} node
 * @param {string} type
 */
function firstSource(node, type) {
  const slot = (node.inputs ?? []).findIndex((input) => input.type === type || input.type === '*')
  return slot < 0 || !node.isInputConnected(slot) ? null : node.getInputNode(slot)
}

/**
 * The video whose LATENT comes out of `node`.
 * @param {GraphNode | null} node
 * @param {number} [depth]
 * @returns {Video}
 */
export function videoFrom(node, depth = 0) {
  if (!node || depth > DEEPEST) return UNKNOWN
  const type = node.comfyClass ?? node.type ?? ''
  const before = () => videoFrom(sourceOf(node, 'latent'), depth + 1)
  if (node.mode === BYPASSED || type === 'Reroute') return videoFrom(firstSource(node, 'LATENT'), depth + 1)
  if (type === 'PusaEncodeKeyframes') return withKeyframe(node, isLinked(node, 'latent') ? before() : null)
  if (type === 'PusaFrameMask') {
    const video = before()
    const text = isLinked(node, 'noise_levels')
      ? null
      : node.widgets?.find((each) => each.name === 'noise_levels')?.value
    return typeof text === 'string' ? { ...video, texts: [...video.texts, text] } : video
  }
  if (EMPTY.has(type)) {
    const length = numberOf(node, 'length')
    return { frames: length === null ? null : latentLength(length), given: [], texts: [] }
  }
  return UNKNOWN
}

/**
 * @param {GraphNode} node VAE Encode Keyframes
 * @param {Video | null} before the video it adds to, null where it begins one
 * @returns {Video}
 */
function withKeyframe(node, before) {
  const length = numberOf(node, 'length')
  const video = before ?? { frames: length === null ? null : latentLength(length), given: [], texts: [] }
  const position = numberOf(node, 'position')
  const { count, image } = picturesOf(sourceOf(node, 'image'))
  if (video.frames === null || video.given === null || position === null || count === null)
    return { ...video, given: null }
  const inPixels = node.widgets?.find((each) => each.name === 'position_counts')?.value === 'pixel frames'
  const place = placeOf(count, position, inPixels, video.frames)
  if (place === null) return video // the server refuses it, and says why
  const level = numberOf(node, 'noise_level') ?? 0
  return { ...video, given: [...video.given, { ...place, fromEnd: position < 0, image, level }] }
}

const FPS = 16 // of Wan

/**
 * Frames per second of the first node after `node` that asks for them, such as Create Video.
 * @param {GraphNode} node
 * @returns {number}
 */
export function framesPerSecond(node) {
  const users = node.graph?._nodes ?? []
  for (const user of users) {
    const fps = user.widgets?.find((each) => each.name === 'fps' || each.name === 'frame_rate')?.value
    if (typeof fps === 'number' && fps > 0 && isUpstream(user, node)) return fps
  }
  return FPS
}

/**
 * Whether `node` is reached from `start` by going back along its links.
 * @param {GraphNode} start
 * @param {GraphNode} node
 */
export function isUpstream(start, node) {
  const seen = new Set()
  const open = [start]
  for (let each = open.pop(); each; each = open.pop()) {
    if (each === node) return true
    if (seen.has(each)) continue
    seen.add(each)
    for (let slot = 0; slot < (each.inputs?.length ?? 0); slot++) {
      const source = each.isInputConnected(slot) ? each.getInputNode(slot) : null
      if (source) open.push(source)
    }
  }
  return false
}
