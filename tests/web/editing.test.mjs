import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allowed, refusal, stripOf } from '../../web/js/cells.js'
import { latentFrameOf, latentLength, pixelFramesOf, pixelLength, placeOf } from '../../web/js/frames.js'
import { edges, frameAt, GUTTER, layoutOf, levelAtY, ramp, stroke, TARGET, yOf } from '../../web/js/layout.js'
import { editText, readLevels } from '../../web/js/levels_text.js'
import { namedNoiseLevels } from '../../web/js/noise_levels.js'
import { general } from '../../web/js/numbers.js'
import { PRESETS, pasted } from '../../web/js/presets.js'

const known = (frames, given = []) => ({ frames, given, before: [] })
const clip = (first, last, more = {}) => ({ first, last, fromEnd: false, image: null, level: 0, ...more })

test('an edit is written as short as it can be', () => {
  const edit = (text, changes, frames = 21) => editText(text, frames, new Map(changes))
  assert.equal(edit('0-4:0', [[5, 0]]), '0-5:0')
  assert.equal(edit('0-10:0', [[5, 0.4]]), '0-4:0, 5:0.4, 6-10:0')
  assert.equal(
    edit(
      '',
      [0, 1, 2, 3, 4].map((frame) => [frame, frame / 8]),
    ),
    '0-4:0..0.5',
  )
  assert.equal(
    edit(
      '0-3:0',
      [4, 5, 6].map((frame) => [frame, (frame - 3) / 4]),
    ),
    '0-2:0, 3-6:0..0.75',
  )
  assert.equal(edit('0:0, 1:0.5', []), '0:0, 1:0.5')
  assert.equal(edit('0:0, 1:0.5', [[1, null]]), '0:0')
})

test('entries from the end, in pixel frames and of frames that are gone stay as they are', () => {
  const edit = (text, changes, frames = 21) => editText(text, frames, new Map(changes))
  assert.equal(edit('0:0.3, -1:0.7', [[20, 0.5]]), '0:0.3, -1:0.5')
  assert.equal(edit('-3--1:0', [[18, 0.5]]), '-3:0.5, -2--1:0')
  assert.equal(edit('p76:0.3, 0:0', [[0, 0.2]]), '0:0.2, p76:0.3')
  assert.equal(edit('p76:0.3', [[19, 0.2]]), '19:0.2')
  assert.equal(edit('30:0.5, 0:0, oops', [[0, 0.2]]), '0:0.2, 30:0.5, oops')
  assert.equal(edit('3--2:0.2', [[0, 0]]), '0:0, 3--2:0.2')
  assert.equal(
    editText('', 21, new Map([[20, 0]]), (frame) => frame === 20),
    '-1:0',
  )
})

test('whatever is edited, the text says the levels that were set', () => {
  let seed = 7
  const random = () => {
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed / 2147483648
  }
  for (let round = 0; round < 300; round++) {
    const frames = 1 + Math.floor(random() * 30)
    let text = ''
    const levels = new Map()
    for (let edit = 0; edit < 8; edit++) {
      const from = Math.floor(random() * frames)
      const to = Math.floor(random() * frames)
      const pair = [
        [from, Math.round(random() * 100) / 100],
        [to, Math.round(random() * 100) / 100],
      ]
      const changes = (random() < 0.5 ? ramp : stroke)(...pair)
      for (const [frame, level] of changes) levels.set(frame, level)
      text = editText(text, frames, changes, (frame) => frame > frames / 2)
      const named = namedNoiseLevels(text, frames) // throws where the server would refuse it
      assert.deepEqual(
        [...named.keys()].sort((a, b) => a - b),
        [...levels.keys()].sort((a, b) => a - b),
        text,
      )
      for (const [frame, level] of named) assert.ok(Math.abs(level - levels.get(frame)) < 1e-3, `${text}: ${frame}`)
    }
  }
})

test('a text that is partly wrong is read as far as it goes', () => {
  const { named, lost, error } = readLevels('0:0.3, 99:0, x', 21)
  assert.deepEqual([...named], [[0, { level: 0.3, fromEnd: false }]])
  assert.deepEqual(lost, ['99:0', 'x'])
  assert.equal(error.entry, 'x')
})

test('cells without a picture cannot be lowered', () => {
  const { cells } = stripOf('0:0.2', known(5, [clip(0, 1), clip(4, 4, { fromEnd: true, level: 0.5 })]), null)
  assert.deepEqual(
    cells.map((cell) => cell.state),
    ['given', 'given', 'empty', 'empty', 'given'],
  )
  assert.deepEqual(
    cells.map((cell) => cell.level),
    [0.2, 0, 1, 1, 0.5],
  )
  assert.match(refusal(cells[2], 0.5), /latent frame 2/)
  assert.equal(refusal(cells[2], 1), '')
  assert.deepEqual(
    [
      ...allowed(
        cells,
        new Map([
          [0, 0.5],
          [2, 0.5],
          [3, 1],
        ]),
      ),
    ],
    [
      [0, 0.5],
      [3, null],
    ],
  )
})

test('the last run tells what the graph does not', () => {
  const unknown = { frames: null, given: null, before: [] }
  assert.equal(stripOf('', unknown, null), null)
  const { cells } = stripOf('', unknown, { frames: 3, given: [1] })
  assert.deepEqual(
    cells.map((cell) => cell.state),
    ['empty', 'given', 'empty'],
  )
  assert.deepEqual(
    stripOf('', { ...unknown, frames: 3 }, null).cells.map((cell) => cell.state),
    Array(3).fill('unknown'),
  )
})

test('latent frames cover the pixel frames that Python says', () => {
  assert.deepEqual([1, 5, 81].map(latentLength), [1, 2, 21])
  assert.equal(pixelLength(21), 81)
  for (let pixel = 0; pixel < 81; pixel++) {
    const [first, last] = pixelFramesOf(latentFrameOf(pixel))
    assert.ok(first <= pixel && pixel <= last)
  }
  const places = [
    [1, 0, false],
    [13, 0, false],
    [12, -1, false],
    [4, 3, false],
    [1, 74, true],
    [12, 69, true],
    [12, -1, true],
    [24, -1, false],
    [1, 21, false],
    [8, 20, false],
  ]
  const expected = [[0, 0], [0, 3], [18, 20], [3, 3], [19, 19], [18, 20], [18, 20], [15, 20], null, null]
  const seen = places.map((place) => placeOf(...place, 21)).map((place) => place && [place.first, place.last])
  assert.deepEqual(seen, expected)
})

test('a cell is a target of 44 pixels, and a place finds its cell', () => {
  for (const [count, width] of [
    [1, 300],
    [21, 400],
    [21, 1200],
    [101, 500],
  ]) {
    const layout = layoutOf(count, width, 0)
    assert.ok(layout.cell >= TARGET)
    assert.ok(GUTTER + layout.cell / 4 >= TARGET - 1)
    for (let frame = 0; frame < count; frame++) {
      const [left, right] = edges(layout, frame)
      assert.equal(frameAt(layout, (left + right) / 2), frame)
    }
    assert.equal(frameAt(layout, 0), 0)
  }
  for (let width = 1000; width < 1200; width++) assert.equal(layoutOf(21, width, 50).most, 0)
  assert.equal(layoutOf(21, 400, 1e6).scroll, layoutOf(21, 400, 0).most)
})

test('a place is the level it shows', () => {
  for (const level of [0, 0.2, 0.3, 0.5, 0.7, 1]) assert.equal(levelAtY(yOf(level) + 2), level)
  assert.equal(levelAtY(yOf(0.42)), 0.42)
  assert.equal(levelAtY(-50), 1)
  assert.equal(levelAtY(999), 0)
})

test('presets set given cells alone', () => {
  const { cells } = stripOf('', known(9, [clip(0, 3), clip(8, 8)]), null)
  assert.deepEqual([...PRESETS.keep.levels(cells).values()], [0, 0, 0, 0, 0])
  assert.deepEqual(
    [...PRESETS.start_end.levels(cells)],
    [
      [0, 0.3],
      [1, 0.3],
      [2, 0.3],
      [3, 0.3],
      [8, 0.7],
    ],
  )
  assert.deepEqual(
    [...PRESETS.soft_seam.levels(cells)].map(([, level]) => Number(level.toFixed(2))),
    [0, 0.17, 0.33, 0.5, 0],
  )
  assert.deepEqual(
    [...pasted(cells, [0, 1])].map(([, level]) => level),
    [0, 0.13, 0.25, 0.38, 1],
  )
  assert.deepEqual([...PRESETS.keep.levels(stripOf('', known(5), null).cells)], [])
})

test('numbers are written as Python writes them', () => {
  for (const [value, text] of [
    [0.001953125, '0.00195312'],
    [1e-5, '1e-05'],
    [123456.5, '123456'],
    [1e6, '1e+06'],
    [0.1 + 0.2, '0.3'],
    [-0, '-0'],
    [Number.NaN, 'nan'],
  ]) {
    assert.equal(general(value), text)
  }
})
