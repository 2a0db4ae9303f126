import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripOf } from '../../web/js/cells.js'
import { draw } from '../../web/js/drawing.js'
import { CELLS, edges, layoutOf, RULER, yOf } from '../../web/js/layout.js'

/** A canvas that only notes what is called on it, and in which colour. */
function recorder() {
  const calls = []
  const state = { measureText: (text) => ({ width: 6 * text.length }) }
  const context = new Proxy(state, {
    get: (_target, name) =>
      name in state
        ? state[name]
        : (...values) => {
            calls.push({ name, values, style: state.fillStyle })
          },
    set: (_target, name, value) => {
      state[name] = value
      return true
    },
  })
  return { calls, context }
}

function drawn(text, more = {}, area = null) {
  const given = [0, 1, 2].map((frame) => ({ first: frame, last: frame, fromEnd: false, image: null, level: 0 }))
  const { cells } = stripOf(text, { frames: 5, given, before: [] }, null, area)
  const layout = layoutOf(5, 400, 0)
  const { calls, context } = recorder()
  const scene = { cells, layout, fps: 16, active: 0, focused: false, live: null, picture: () => null, disabled: false }
  draw(context, { ...scene, ...more })
  return { calls, layout, texts: calls.filter(({ name }) => name === 'fillText').map(({ values }) => values[0]) }
}

test('each cell says in a word or a number how its frame is made, whatever the colours', () => {
  const { texts, calls } = drawn('1:0.3, 3:0.5')
  for (const word of ['kept', '0.3', 'new', '!']) assert.ok(texts.includes(word), word)
  assert.equal(calls.filter(({ name }) => name === 'arc').length, 2 * 2) // padlocks on frames 0 and 2, in two strokes
})

test('cells of frames that nobody gave are hatched', () => {
  const { calls, layout } = drawn('')
  const hatched = calls.filter(({ name }) => name === 'moveTo').map(({ values }) => values[0])
  assert.ok(hatched.some((x) => x > edges(layout, 3)[0]))
  assert.ok(!hatched.some((x) => x > edges(layout, 0)[1] && x < edges(layout, 2)[0] - CELLS))
})

test('the ruler tells seconds and pixel frames', () => {
  assert.ok(['0 s · 0', '0.5 s · 8'].every((text) => drawn('').texts.includes(text)))
})

test('a line in each cell is as high as its present noise', () => {
  const live = [0, 0.1, 0.2, 0.8, 0.4]
  const { calls, layout } = drawn('', { live })
  for (const [frame, level] of live.entries()) {
    const y = Math.min(Math.max(yOf(level), RULER + 2), RULER + CELLS - 2) - 1
    const line = ({ name, values, style }) =>
      name === 'fillRect' && values[0] === edges(layout, frame)[0] && values[1] === y && style === '#ffffff'
    assert.ok(calls.some(line), `frame ${frame}`)
  }
})

test('a part of the frames has a bar of its own where its level is another', () => {
  const boxes = (area) => {
    const { calls, layout, texts } = drawn('0-2:0', {}, area)
    const dashed = calls.filter(({ name }) => name === 'strokeRect' && area !== null)
    const inside = (frame) => (box) => box[0] > edges(layout, frame)[0] && box[0] + box[2] < edges(layout, frame)[1]
    const found = [0, 1, 2, 3, 4].map((frame) => dashed.map(({ values }) => values).filter(inside(frame)))
    return { texts, tops: found.map((each) => each.filter(([, , , height]) => height > 20).map(([, top]) => top)) }
  }
  const { texts, tops } = boxes(0.9)
  assert.ok(texts.includes('area'))
  assert.ok(tops.every((each) => each.length === 1 && each[0] === yOf(0.9)))
  assert.ok(!boxes(null).texts.includes('area'))
  const at1 = boxes(1).tops.map((each) => each.length)
  assert.deepEqual(at1, [1, 1, 1, 0, 0]) // frames 3 and 4 are made anew as a whole
})
