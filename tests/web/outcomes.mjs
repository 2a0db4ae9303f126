// What JavaScript makes of texts of noise levels: reads a JSON list of {text, frames}, writes the outcomes in order.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { checkEntries, NoiseLevelError, namedNoiseLevels, parseEntries } from '../../web/js/noise_levels.js'

const LONGEST = 1000

function message(attempt) {
  try {
    attempt()
  } catch (error) {
    if (error instanceof NoiseLevelError) return error.message
    throw error
  }
  return undefined
}

export function outcome({ text, frames }) {
  let levels
  const refused = message(() => checkEntries(parseEntries(text), LONGEST))
  const error = message(() => {
    levels = [...namedNoiseLevels(text, frames)].sort((a, b) => a[0] - b[0])
  })
  return Object.fromEntries(
    Object.entries({ text, frames, refused, levels, error }).filter(([, value]) => value !== undefined),
  )
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(outcome)))
}
