// Latent and pixel frames. The VAE makes latent frame 0 of pixel frame 0, and every later one of four pixel frames.
// The same rules in Python: pusa_core/sampling/keyframes.py.

export const STRIDE = 4

/** Latent frames of a video of `pixelFrames`. @param {number} pixelFrames */
export const latentLength = (pixelFrames) => Math.floor((pixelFrames - 1) / STRIDE) + 1

/** Pixel frames of a video of `latentFrames`. @param {number} latentFrames */
export const pixelLength = (latentFrames) => (latentFrames - 1) * STRIDE + 1

/** The latent frame that covers a pixel frame. @param {number} pixelFrame */
export const latentFrameOf = (pixelFrame) => Math.floor((pixelFrame + STRIDE - 1) / STRIDE)

/**
 * The first and last pixel frame that a latent frame covers.
 * @param {number} latentFrame
 * @returns {[number, number]}
 */
export const pixelFramesOf = (latentFrame) =>
  latentFrame === 0 ? [0, 0] : [STRIDE * latentFrame - STRIDE + 1, STRIDE * latentFrame]

/**
 * The latent frames that a picture or clip occupies, as VAE Encode Keyframes places it.
 * @param {number} clipFrames pixel frames of the clip
 * @param {number} position a latent frame, or a pixel frame with `inPixels`; negative: its last one, from the end
 * @param {boolean} inPixels
 * @param {number} frames latent frames of the video
 * @returns {{first: number, last: number} | null} null where it does not fit
 */
export function placeOf(clipFrames, position, inPixels, frames) {
  const total = inPixels ? pixelLength(frames) : frames
  if (position < -total || position >= total) return null
  const at = position < 0 ? position + total : position
  const latent = inPixels ? latentFrameOf(at) : at
  const length = Math.ceil(clipFrames / STRIDE)
  let first = position < 0 ? latent - length + 1 : latent
  let last = first + length - 1
  if (first === 0) last = latentFrameOf(clipFrames - 1)
  if (position >= 0) first = latent
  return first < 0 || last >= frames ? null : { first, last }
}
