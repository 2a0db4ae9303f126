// Small pictures of the frames that a run has made, one for each latent frame, taken from the video it saved.

import { pixelFramesOf, pixelLength } from './frames.js'

const WIDTH = 96 // of a small picture

/**
 * The URL of the video among the files of an output node, or null.
 * @param {any} output of the "executed" event
 * @returns {URLSearchParams | null}
 */
export function videoFile(output) {
  const files = [...(output?.images ?? []), ...(output?.video ?? []), ...(output?.gifs ?? [])]
  const file = files.find((each) => /\.(mp4|webm|mkv|mov)$/i.test(each?.filename ?? ''))
  return file
    ? new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? '', type: file.type ?? 'output' })
    : null
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} kind
 */
const happens = (video, kind) =>
  new Promise((resolve, reject) => {
    video.addEventListener(kind, resolve, { once: true })
    video.addEventListener(
      'error',
      () => reject(new Error(`the video cannot be shown: ${video.error?.message ?? ''}`)),
      { once: true },
    )
  })

/**
 * A picture from the middle of each latent frame.
 * @param {string} url
 * @param {number} frames latent frames of the video
 * @returns {Promise<HTMLCanvasElement[]>}
 */
export async function picturesOf(url, frames) {
  const video = document.createElement('video')
  video.muted = true
  video.preload = 'auto'
  const loaded = happens(video, 'loadeddata')
  video.src = url
  await loaded
  const pictures = []
  for (let frame = 0; frame < frames; frame++) {
    const [first, last] = pixelFramesOf(frame)
    const sought = happens(video, 'seeked')
    video.currentTime = (video.duration * ((first + last) / 2 + 0.5)) / pixelLength(frames)
    await sought
    const canvas = document.createElement('canvas')
    canvas.width = WIDTH
    canvas.height = Math.max(1, Math.round((WIDTH * video.videoHeight) / video.videoWidth))
    canvas.getContext('2d')?.drawImage(video, 0, 0, canvas.width, canvas.height)
    pictures.push(canvas)
  }
  video.removeAttribute('src')
  return pictures
}
