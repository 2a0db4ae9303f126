// The strip while the graph runs, and afterwards.
import assert from 'node:assert/strict'

const START_END_NOISE = new URL('../../workflows/demo_start_end_noise.json', import.meta.url)

/** Runs the graph, and returns the levels that the strip showed meanwhile: those of the frames' own falling noise. */
async function watchedRun(t) {
  await t.inside((_mask, editor) => {
    window.lines = []
    const { draw } = editor.view
    editor.view.draw = function () {
      if (this.live) window.lines.push([...this.live])
      draw.call(this)
    }
  })
  assert.equal(await t.run(), 'execution_success')
  const lines = await t.page.evaluate(() => window.lines)
  assert.ok(lines.length > 1 && lines[0].length === 21, JSON.stringify(lines))
  for (const [step, line] of lines.entries()) {
    assert.ok(step === 0 || line[5] <= lines[step - 1][5])
    assert.ok(Math.abs(line[0] - 0.3 * line[5]) < 1e-3 && Math.abs(line[20] - 0.7 * line[5]) < 1e-3)
  }
  return lines
}

export const cases = {
  async 'while it runs each cell shows its present noise, afterwards the frame that was made'(t, report) {
    await t.drop(START_END_NOISE)
    report({ lines: (await watchedRun(t)).length })
    await t.page.waitForFunction(async () => {
      const { editors } = await import('/extensions/ComfyUI-Pusa/js/timeline.js')
      return [...editors.values()].some((editor) => editor.made?.length === 21)
    })
    assert.equal(await t.inside((_mask, editor) => editor.view.live), null)
    await t.inside((mask) => window.app.canvas.centerOnNode?.(mask))
    await t.page.waitForTimeout(500)
  },

  async 'the noise is shown under KSampler too'(t, report) {
    await t.drop(START_END_NOISE)
    await t.page.evaluate(() => {
      const { graph } = window.app
      const old = graph._nodes.find((node) => node.type === 'PusaSampler')
      const sampler = window.LiteGraph.createNode('KSampler')
      graph.add(sampler)
      const slot = (node, name) => node.inputs.findIndex((input) => input.name === name)
      for (const name of ['model', 'positive', 'negative', 'latent']) {
        const own = name === 'latent' ? 'latent_image' : name
        const link = old.getInputLink(slot(old, name))
        graph.getNodeById(link.origin_id).connect(link.origin_slot, sampler, slot(sampler, own))
      }
      for (const user of old.getOutputNodes(0)) sampler.connect(0, user, slot(user, 'samples'))
      graph.remove(old)
      for (const [name, value] of Object.entries({ steps: 5, cfg: 3, sampler_name: 'euler', scheduler: 'simple' })) {
        sampler.widgets.find((widget) => widget.name === name).value = value
      }
    })
    report({ lines: (await watchedRun(t)).length })
  },
}
