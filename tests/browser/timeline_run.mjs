// The strip while the graph runs, and afterwards.
import assert from 'node:assert/strict'
import { forgetResults } from './page.mjs'

const START_END_NOISE = new URL('../../workflows/Pusa demo - Start and end frames, loose.json', import.meta.url)
const KSAMPLER = new URL('../../workflows/Pusa demo - First frame to video with KSampler.json', import.meta.url)

/**
 * Runs the graph, and returns the levels that the strip showed meanwhile: those of the frames' own falling noise.
 * `first`, `last`: the noise levels of the first and the last latent frame.
 */
async function watchedRun(t, first, last) {
  await t.inside((_mask, editor) => {
    window.lines = []
    const { draw } = editor.view
    editor.view.draw = function () {
      if (this.live) window.lines.push([...this.live])
      draw.call(this)
    }
  })
  // what another case made of the same graph is forgotten: nothing is sampled where the result is kept
  await forgetResults(t.page)
  assert.equal(await t.run(), 'execution_success')
  const lines = await t.page.evaluate(() => window.lines)
  assert.ok(lines.length > 1 && lines[0].length === 21, JSON.stringify(lines))
  for (const [step, line] of lines.entries()) {
    assert.ok(step === 0 || line[5] <= lines[step - 1][5])
    assert.ok(Math.abs(line[0] - first * line[5]) < 1e-3 && Math.abs(line[20] - last * line[5]) < 1e-3)
  }
  return lines
}

export const cases = {
  async 'while it runs each cell shows its present noise, afterwards the frame that was made'(t, report) {
    await t.drop(START_END_NOISE)
    report({ lines: (await watchedRun(t, 0.3, 0.7)).length })
    await t.until('editor.made?.length === 21')
    assert.equal(await t.inside((_mask, editor) => editor.view.live), null)
    await t.inside((mask) => window.app.canvas.centerOnNode?.(mask))
    await t.page.waitForTimeout(500)
  },

  async 'the noise is shown under KSampler too'(t, report) {
    await t.drop(KSAMPLER)
    report({ lines: (await watchedRun(t, 0, 1)).length })
  },
}
