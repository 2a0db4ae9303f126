import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseEntries } from '../../web/js/noise_levels.js'
import { outcome } from './outcomes.mjs'

const cases = JSON.parse(readFileSync(new URL('../data/noise_levels.json', import.meta.url), 'utf8'))

test('texts have the stored results and messages', () => {
  assert.ok(cases.length >= 300)
  for (const expected of cases) assert.deepEqual(outcome(expected), expected)
})

test('long texts are refused at once', () => {
  const blanks = ' '.repeat(20_000)
  for (const text of [`0${blanks}x`, '0-'.repeat(10_000), `0:${'9'.repeat(20_000)}`, `0:0${blanks}x`, `x${blanks}y`]) {
    const start = performance.now()
    assert.throws(() => parseEntries(text), /noise level entry/)
    assert.ok(performance.now() - start < 100)
  }
})
