// What is known of a video before it runs: its length and its given frames, from the nodes that a LATENT comes from.

import { evaluate } from './expression.js'
import { latentLength, placeOf } from './frames.js'
import { BYPASSED, inputSlot, isLinked, widgetOf } from './graph.js'

/**
 * @typedef {import('./comfy').GraphNode} GraphNode
 * @typedef {import('./graph.js').RunGraph} RunGraph
 * @typedef {import('./graph.js').Spot} Spot
 * @typedef {import('./graph.js').Source} Source
 *
 * Frames that one node gives, at the noise level `level`. `image`: the file of a Load Image node.
 * @typedef {{first: number, last: number, fromEnd: boolean, image: string | null, level: number}} Given
 *
 * What a Frame Conditioning Mask says. `area`: the level of what is white in the MASK that is linked to it, if one is.
 * @typedef {{text: string, area: number | null}} Levels
 *
 * `frames`: latent frames, null where unknown. `given`: null where it is unknown which frames are given. `before`: of the
 * Frame Conditioning Mask nodes on the way, in order.
 * @typedef {{frames: number | null, given: Given[] | null, before: Levels[]}} Video
 */

const DEEPEST = 100 // nodes that are followed
const EMPTY = new Set(['EmptyHunyuanLatentVideo', 'EmptyWanLatentVideo', 'Wan22ImageToVideoLatent'])
const ONE_PICTURE = new Set(['LoadImage', 'PusaDemoImage', 'LoadImageMask', 'LoadImageOutput'])
const KEEPS_LENGTH = new Set([
  'ImageScale',
  'ImageScaleBy',
  'ImageInvert',
  'ImageScaleToTotalPixels',
  'ImageCrop',
  'ImagePadForOutpaint',
  'Reroute',
])
/** @type {Video} */
const UNKNOWN = { frames: null, given: null, before: [] }

/** @param {Spot} spot */
const typeOf = ({ node }) => node.comfyClass ?? node.type ?? ''

/**
 * The LATENT that a mask gets, and the text of its noise levels; unknown where they differ from place to place.
 * @param {RunGraph} graph
 * @param {GraphNode} mask
 * @returns {{video: Video, text: string | null, area: number | null}}
 */
export function maskInputs(graph, mask) {
  const found = graph.spotsOf(mask).map((spot) => {
    const text = inputValue(graph, spot, 'noise_levels')
    const video = videoInto(graph, spot, 'latent', 0)
    return { video, text: typeof text === 'string' ? text : null, area: areaOf(graph, spot) }
  })
  const one = new Set(found.map((each) => JSON.stringify(each))).size === 1
  return one ? found[0] : { video: UNKNOWN, text: null, area: null }
}

/**
 * The level of what is white in the MASK of a Frame Conditioning Mask; null where none is linked.
 * @param {RunGraph} graph
 * @param {Spot} spot
 */
function areaOf(graph, spot) {
  const mask = graph.source(spot, inputSlot(spot.node, 'mask'))?.spot
  return mask && mask.node.mode !== BYPASSED ? (numberOf(graph, spot, 'mask_level') ?? 1) : null
}

/**
 * @param {RunGraph} graph
 * @param {Spot} spot
 * @param {string} name of the input
 * @param {number} depth
 */
const videoInto = (graph, spot, name, depth) => videoFrom(graph, graph.source(spot, inputSlot(spot.node, name)), depth)

/**
 * The value of an input: of its widget, of a widget that shows it on a subgraph, or what the node before it says.
 * @param {RunGraph} graph
 * @param {Spot} spot
 * @param {string} name
 * @param {number} [depth]
 * @returns {unknown} null where it is not known
 */
function inputValue(graph, spot, name, depth = 0) {
  const source = graph.source(spot, inputSlot(spot.node, name))
  if (source === null) return widgetOf(spot.node, name)?.value ?? null
  if (source.spot === null || depth > DEEPEST) return source.widget?.value ?? null
  if (typeOf(source.spot) === 'ComfyMathExpression') return resultOf(graph, source.spot, source.output, depth + 1)
  if (typeOf(source.spot) === 'Reroute')
    return inputValue(graph, source.spot, source.spot.node.inputs?.[0].name ?? '', depth + 1)
  return inputValue(graph, source.spot, 'value', depth + 1) // of a primitive
}

/**
 * The number that a Math Expression makes.
 * @param {RunGraph} graph
 * @param {Spot} spot
 * @param {number} output
 * @param {number} depth
 */
function resultOf(graph, spot, output, depth) {
  const text = inputValue(graph, spot, 'expression', depth)
  /** @type {Record<string, number>} */
  const names = {}
  for (const { name } of spot.node.inputs ?? []) {
    const value = name.startsWith('values.') ? inputValue(graph, spot, name, depth) : null
    if (typeof value === 'number') names[name.slice('values.'.length)] = value
  }
  const result = typeof text === 'string' ? evaluate(text, names) : null
  return result !== null && output === 1 ? Math.trunc(result) : result
}

/**
 * @param {RunGraph} graph
 * @param {Spot} spot
 * @param {string} name
 * @returns {number | null}
 */
function numberOf(graph, spot, name) {
  const value = inputValue(graph, spot, name)
  return typeof value === 'number' ? value : null
}

/**
 * The pictures of an IMAGE: how many, and the file of the first where it is loaded from one.
 * @param {RunGraph} graph
 * @param {Source | null} source
 * @param {number} [depth]
 * @returns {{count: number | null, image: string | null}}
 */
function picturesOf(graph, source, depth = 0) {
  const spot = source?.spot
  if (!spot || depth > DEEPEST) return { count: null, image: null }
  const type = typeOf(spot)
  if (spot.node.mode === BYPASSED || KEEPS_LENGTH.has(type))
    return picturesOf(graph, firstSource(graph, spot, 'IMAGE'), depth + 1)
  if (ONE_PICTURE.has(type)) {
    const file = type === 'LoadImage' ? inputValue(graph, spot, 'image') : null
    return { count: 1, image: typeof file === 'string' ? file : null }
  }
  if (type === 'EmptyImage') return { count: numberOf(graph, spot, 'batch_size'), image: null }
  if (type === 'PusaDemoClip' || type === 'ImageFromBatch')
    return { count: numberOf(graph, spot, 'length'), image: null }
  return { count: null, image: null }
}

/**
 * What the first input of a type is linked to, as ComfyUI links through a bypassed node.
 * @param {RunGraph} graph
 * @param {Spot} spot
 * @param {string} type
 */
function firstSource(graph, spot, type) {
  return graph.source(
    spot,
    (spot.node.inputs ?? []).findIndex((input) => input.type === type || input.type === '*'),
  )
}

/**
 * The video of a LATENT.
 * @param {RunGraph} graph
 * @param {Source | null} source
 * @param {number} depth
 * @returns {Video}
 */
function videoFrom(graph, source, depth) {
  const spot = source?.spot
  if (!spot || depth > DEEPEST) return UNKNOWN
  const { node } = spot
  const type = typeOf(spot)
  if (node.mode === BYPASSED || type === 'Reroute')
    return videoFrom(graph, firstSource(graph, spot, 'LATENT'), depth + 1)
  if (EMPTY.has(type)) return newVideo(graph, spot)
  const before = () => videoInto(graph, spot, 'latent', depth + 1)
  if (type === 'PusaEncodeKeyframes')
    return withKeyframe(graph, spot, isLinked(node, 'latent') ? before() : newVideo(graph, spot))
  if (type !== 'PusaFrameMask') return UNKNOWN
  const text = inputValue(graph, spot, 'noise_levels')
  const video = before()
  if (typeof text !== 'string') return video
  return { ...video, before: [...video.before, { text, area: areaOf(graph, spot) }] }
}

/**
 * @param {RunGraph} graph
 * @param {Spot} spot
 * @returns {Video}
 */
function newVideo(graph, spot) {
  const length = numberOf(graph, spot, 'length')
  return { frames: length === null ? null : latentLength(length), given: [], before: [] }
}

/**
 * @param {RunGraph} graph
 * @param {Spot} spot of VAE Encode Keyframes
 * @param {Video} video that it adds to
 * @returns {Video}
 */
function withKeyframe(graph, spot, video) {
  const position = numberOf(graph, spot, 'position')
  const { count, image } = picturesOf(graph, graph.source(spot, inputSlot(spot.node, 'image')))
  if (video.frames === null || video.given === null || position === null || count === null)
    return { ...video, given: null }
  const inPixels = inputValue(graph, spot, 'position_counts') === 'pixel frames'
  const place = placeOf(count, position, inPixels, video.frames)
  if (place === null) return video // the server refuses it, and says why
  const level = numberOf(graph, spot, 'noise_level') ?? 0
  return { ...video, given: [...video.given, { ...place, fromEnd: position < 0, image, level }] }
}

const FPS = 16 // of Wan

/**
 * Frames per second of the first node after `node` that asks for them, such as Create Video.
 * @param {RunGraph} graph
 * @param {GraphNode} node
 * @returns {number}
 */
export function framesPerSecond(graph, node) {
  for (const spot of graph.spots()) {
    const name = ['fps', 'frame_rate'].find((each) => widgetOf(spot.node, each))
    const fps = name ? numberOf(graph, spot, name) : null
    if (fps !== null && fps > 0 && graph.isUpstream(spot, node)) return fps
  }
  return FPS
}
