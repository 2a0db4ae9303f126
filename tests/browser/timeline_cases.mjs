// What the timeline on Frame Conditioning Mask does, case by case. Each gets a page whose graph it builds itself.
import assert from 'node:assert/strict'
import { TimelinePage } from './timeline_page.mjs'

const WHOLE = '0-20:0'

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
  async 'is there before any run, with a cell for each latent frame'(t) {
    await t.build({ clip: false })
    const cells = await t.cells()
    assert.equal(cells.length, 21)
    assert.deepEqual(
      [cells[0].pixels, cells[1].pixels, cells[20].pixels],
      [
        [0, 0],
        [1, 4],
        [77, 80],
      ],
    )
    assert.deepEqual(
      cells.filter((cell) => cell.state === 'given').map((cell) => cell.frame),
      [0, 20],
    )
    const widths = await t.inside((_mask, editor) => editor.view.layout)
    assert.ok(widths.cell >= 44)
  },

  async 'follows length, position and links'(t) {
    await t.build({ clip: false })
    const set = (type, name, value) =>
      t.page.evaluate(
        ([type, name, value]) => {
          const node = window.app.graph._nodes.filter((each) => each.type === type).at(-1)
          const widget = node.widgets.find((each) => each.name === name)
          widget.value = value
          widget.callback?.(value)
        },
        [type, name, value],
      )
    await set('PusaEncodeKeyframes', 'position', 7)
    await t.settle()
    assert.deepEqual(
      (await t.cells()).filter((cell) => cell.state === 'given').map((cell) => cell.frame),
      [0, 7],
    )
    await t.page.evaluate(() => {
      const first = window.app.graph._nodes.find((each) => each.type === 'PusaEncodeKeyframes')
      first.widgets.find((each) => each.name === 'length').value = 33
    })
    await t.settle()
    assert.equal((await t.cells()).length, 9)
    await t.inside((mask) => mask.disconnectInput(0))
    await t.settle()
    assert.match(await t.note(), /after the first run/)
  },

  async 'a frame that nobody gave cannot be lowered, and says why'(t) {
    await t.build({ clip: false })
    await t.drag([5, 0.9], [5, 0.3])
    assert.equal((await t.levels())[5], 1)
    assert.equal(await t.text(), '')
    assert.match(await t.bubble(), /No picture is given at latent frame 5/)
    await t.setText('5:0.3')
    assert.match(await t.note(), /No picture is given at latent frame 5/)
  },

  async 'a drag sets a level and the text'(t) {
    await t.build({ text: WHOLE })
    await t.drag([5, 0.1], [5, 0.4])
    await t.near(5, 0.4)
    assert.match(await t.text(), /^0-4:0, 5:0\.(39|4|41), 6-20:0$/)
    const sent = await t.page.evaluate(async () => Object.values((await window.app.graphToPrompt()).output))
    assert.equal(sent.find((node) => node.class_type === 'PusaFrameMask').inputs.noise_levels, await t.text())
  },

  async 'a drag sideways paints'(t) {
    await t.build({ text: WHOLE })
    await t.drag([3, 0.1], [3, 0.6], [9, 0.6])
    for (const frame of [3, 4, 5, 6, 7, 8, 9]) await t.near(frame, 0.6)
    assert.deepEqual((await t.levels()).slice(10), Array(11).fill(0))
    assert.match(await t.text(), /^0-2:0, 3-9:0\.\d+, 10-20:0$/)
  },

  async 'Shift makes a ramp'(t) {
    await t.build({ text: WHOLE })
    await t.page.keyboard.down('Shift')
    await t.drag([4, 0], [12, 0.9], [8, 0.5])
    await t.page.keyboard.up('Shift')
    assert.equal(await t.text(), '0-3:0, 4-8:0..0.5, 9-20:0')
    assert.deepEqual((await t.levels()).slice(4, 9), [0, 0.125, 0.25, 0.375, 0.5])
  },

  async 'Alt-click toggles 0 and 1'(t) {
    await t.build({ text: WHOLE })
    await t.page.keyboard.down('Alt')
    await t.click(6, 0.5)
    assert.equal((await t.levels())[6], 1)
    await t.click(6, 0.5)
    await t.page.keyboard.up('Alt')
    assert.equal((await t.levels())[6], 0)
  },

  async 'a click alone changes nothing, a double click asks for a number'(t) {
    await t.build({ text: WHOLE })
    await t.click(6, 0.8)
    assert.equal(await t.text(), WHOLE)
    await t.page.waitForTimeout(600)
    await t.page.mouse.dblclick(...(await t.place(6, 0.8)))
    await t.page.keyboard.type('.37')
    await t.page.keyboard.press('Enter')
    assert.equal(await t.text(), '0-5:0, 6:0.37, 7-20:0')
  },

  async 'wheel and keys move a level by .05, Tab walks'(t) {
    await t.build({ text: WHOLE })
    const { keyboard, mouse } = t.page
    await t.click(3, 0.5)
    await mouse.wheel(0, -100)
    await t.page.waitForTimeout(100)
    await t.near(3, 0.05)
    for (let press = 0; press < 3; press++) await keyboard.press('ArrowUp')
    await t.near(3, 0.2)
    await keyboard.press('Tab')
    await keyboard.press('ArrowUp')
    await keyboard.press('ArrowRight')
    await keyboard.press('ArrowUp')
    await keyboard.press('ArrowUp')
    await keyboard.press('ArrowDown')
    await keyboard.press('Shift+Tab')
    await keyboard.press('Shift+Tab')
    assert.equal(await t.inside((_mask, editor) => editor.view.active), 3)
    assert.equal(await t.text(), '0-2:0, 3:0.2, 4-5:0.05, 6-20:0')
    assert.match(
      await t.inside((_mask, editor) => editor.view.canvas.getAttribute('aria-valuetext')),
      /^level 0\.2 · latent frame 3 ·/,
    )
  },

  async 'levels snap, and a bubble names level, frames and seconds'(t) {
    await t.build({ text: WHOLE })
    for (const [near, level] of [
      [0.19, 0.2],
      [0.32, 0.3],
      [0.52, 0.5],
      [0.69, 0.7],
      [0.98, 1],
    ]) {
      await t.drag([5, 0.1], [5, near])
      assert.equal((await t.levels())[5], level)
    }
    await t.drag([5, 0.1], [5, 0.3])
    assert.equal(await t.bubble(), 'level 0.3 · latent frame 5 · frames 17–20 · 1.06–1.31 s')
  },

  async 'presets set the given frames, a curve can be copied'(t) {
    await t.build({ text: '' })
    const choose = (name) => t.page.locator('.pusa-timeline select').selectOption(name)
    await choose('video_to_video')
    assert.equal(await t.text(), '0-20:0.7')
    await choose('keep')
    assert.equal(await t.text(), '0-20:0')
    await choose('loose_start')
    assert.equal(await t.text(), '0-20:0.2')
    await choose('soft_seam')
    assert.equal(await t.text(), '0-16:0, 17-20:0..0.5')
    await choose('mirror')
    assert.equal(await t.text(), '0-3:0.5..0, 4-20:0')
    await choose('copy')
    await choose('keep')
    await choose('paste')
    assert.equal(await t.text(), '0:0.5, 1:0.33, 2:0.17, 3-20:0')
    await t.build({ clip: false })
    await choose('start_end')
    assert.equal(await t.text(), '0:0.3, -1:0.7')
  },

  async 'typed text is drawn; a wrong one is underlined, with the message of the server'(t) {
    await t.build({ text: WHOLE })
    await t.page.locator('textarea').last().fill('0-10:0..0.5')
    await t.settle()
    assert.equal((await t.levels())[5], 0.25)
    for (const wrong of ['0:1.5', '0:0.3, 0:0.4', 'zero:1', '3-1:0', '2:0..1']) {
      await t.setText(wrong)
      const marked = await t.page
        .locator('textarea')
        .last()
        .evaluate((box) => getComputedStyle(box).textDecorationLine)
      assert.equal(marked, 'underline')
      const details = await t.page.evaluate(async () => {
        const { output } = await window.app.graphToPrompt()
        const masks = Object.fromEntries(
          Object.entries(output).filter(([, node]) => node.class_type === 'PusaFrameMask'),
        )
        const [id] = Object.keys(masks)
        masks[id].inputs.latent = ['empty', 0]
        masks.empty = {
          class_type: 'EmptyHunyuanLatentVideo',
          inputs: { width: 64, height: 64, length: 81, batch_size: 1 },
        }
        masks.show = { class_type: 'PreviewImage', inputs: { images: [id, 1] } }
        const body = JSON.stringify({ prompt: masks })
        const answer = await (
          await fetch('/prompt', { method: 'POST', body, headers: { 'Content-Type': 'application/json' } })
        ).json()
        return answer.node_errors[id].errors.map((error) => error.details)
      })
      const note = await t.note()
      assert.ok(
        details.some((detail) => note.includes(detail.replace(/^noise_levels - /, ''))),
        `${note} | ${details}`,
      )
    }
    await t.setText('0:0')
    assert.equal(
      await t.page
        .locator('textarea')
        .last()
        .evaluate((box) => getComputedStyle(box).textDecorationLine),
      'none',
    )
  },

  async 'entries from the end stay there, entries of frames that are gone stay in the text'(t) {
    await t.build({ clip: false, text: '0:0.3, -1:0.7' })
    await t.drag([20, 0.6], [20, 0.5])
    assert.equal(await t.text(), '0:0.3, -1:0.5')
    await t.page.evaluate(() => {
      const first = window.app.graph._nodes.find((each) => each.type === 'PusaEncodeKeyframes')
      first.widgets.find((each) => each.name === 'length').value = 41
    })
    await t.settle()
    assert.equal((await t.levels()).at(-1), 0.5)
    assert.equal((await t.levels()).length, 11)
    await t.setText('0:0.3, 15:0.5, -1:0.7')
    assert.match(await t.note(), /15:0\.5 .*latent frame 15 does not exist; there are 11/)
    await t.drag([0, 0.4], [0, 0.2])
    assert.equal(await t.text(), '0:0.2, 15:0.5, -1:0.7')
  },

  async 'each drag is one step of undo'(t) {
    await t.build({ text: WHOLE })
    await t.click(2, 0.5)
    await t.drag([5, 0.1], [5, 0.3])
    await t.page.waitForTimeout(300)
    const one = await t.text()
    await t.drag([9, 0.1], [9, 0.6], [12, 0.7])
    await t.page.waitForTimeout(300)
    const two = await t.text()
    assert.ok(new Set([WHOLE, one, two]).size === 3)
    for (const [key, wanted] of [
      ['Control+z', one],
      ['Control+z', WHOLE],
      ['Control+y', one],
      ['Control+y', two],
      ['Control+z', one],
    ]) {
      await t.page.keyboard.press(key)
      await t.page.waitForTimeout(900)
      assert.equal(await t.text(), wanted, key)
    }
    await t.drag([15, 0.1], [15, 0.7]) // the strip on the page is the node's own again
    assert.match(await t.text(), /15:0\.7/)
    await t.near(15, 0.7)
  },

  async 'a clone and a reloaded graph have their own editor and the same text'(t) {
    await t.build({ text: WHOLE })
    await t.drag([5, 0.1], [5, 0.3])
    const text = await t.text()
    const seen = await t.inside((mask) => {
      const clone = mask.clone()
      window.app.graph.add(clone)
      const widget = (node, name) => node.widgets.find((each) => each.name === name)
      const own = widget(clone, 'timeline_editor').element !== widget(mask, 'timeline_editor').element
      const value = widget(clone, 'noise_levels').value
      window.app.graph.remove(clone)
      return { own, value, stored: mask.serialize().widgets_values }
    })
    assert.deepEqual(seen, { own: true, value: text, stored: [text] })
    await t.page.evaluate(() => window.app.loadGraphData(JSON.parse(JSON.stringify(window.app.graph.serialize()))))
    await t.settle()
    assert.equal(await t.text(), text)
    await t.near(5, 0.3)
    await t.drag([7, 0.1], [7, 0.5])
    await t.near(7, 0.5)
  },

  async 'a linked text disables the strip and says why'(t) {
    await t.build({ text: WHOLE })
    await t.inside((mask) => {
      const source = window.LiteGraph.createNode('PrimitiveString')
      window.app.graph.add(source)
      const slot = mask.inputs.findIndex(
        (input) => input.name === 'noise_levels' || input.widget?.name === 'noise_levels',
      )
      source.connect(0, mask, slot)
    })
    await t.settle()
    assert.equal(await t.inside((_mask, editor) => editor.enabled), false)
    assert.match(await t.note(), /comes from another node/)
    await t.drag([5, 0.1], [5, 0.3])
    assert.equal(await t.text(), WHOLE)
  },

  async 'in a subgraph the text reaches the prompt, and the strip is inside'(t) {
    await t.build({ text: WHOLE })
    const possible = await t.inside((mask) => {
      if (!window.app.graph.convertToSubgraph) return false
      window.app.graph.convertToSubgraph(new Set([mask]))
      return true
    })
    if (!possible) return
    await t.settle()
    const sent = await t.page.evaluate(async () => Object.values((await window.app.graphToPrompt()).output))
    assert.equal(sent.find((node) => node.class_type === 'PusaFrameMask').inputs.noise_levels, WHOLE)
    await t.page.evaluate(() => {
      const outer = window.app.graph._nodes.find((node) => node.subgraph)
      window.app.canvas.openSubgraph(outer.subgraph, outer)
    })
    await t.page.waitForTimeout(1200)
    assert.equal(await t.page.locator('.pusa-timeline canvas').count(), 1)
    assert.match(await t.page.locator('.pusa-timeline-note').textContent(), /after the first run/)
  },

  async 'without JavaScript the text box is there, and its text reaches the prompt'(t) {
    const plain = await TimelinePage.open(t.page.context().browser(), t.url, { vue: t.vue, blocked: true })
    await plain.build({ text: '0:0.3' })
    const seen = await plain.page.evaluate(async () => {
      const mask = window.app.graph._nodes.find((node) => node.type === 'PusaFrameMask')
      const { output } = await window.app.graphToPrompt()
      const sent = Object.values(output).find((node) => node.class_type === 'PusaFrameMask').inputs.noise_levels
      return { widgets: mask.widgets.map((widget) => widget.name), stored: mask.serialize().widgets_values, sent }
    })
    const boxes = await plain.page.locator('textarea').count()
    await plain.page.close()
    assert.deepEqual(seen, { widgets: ['noise_levels'], stored: ['0:0.3'], sent: '0:0.3' })
    assert.ok(boxes >= 1)
  },

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

  async 'text and strip are equal after each of 1,000 random drags'(t, report) {
    await t.build({ text: WHOLE, width: 1100 })
    const seen = []
    let seed = 22
    const random = () => {
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed / 2147483648
    }
    const places = []
    for (let frame = 0; frame < 21; frame++) places.push([await t.place(frame, 0), await t.place(frame, 1)])
    const at = () => {
      const [low, high] = places[Math.floor(random() * 21)]
      return [low[0], low[1] + (high[1] - low[1]) * random()]
    }
    const { mouse, keyboard } = t.page
    for (let drag = 0; drag < 1000; drag++) {
      const shift = random() < 0.3
      if (shift) await keyboard.down('Shift')
      await mouse.move(...at())
      await mouse.down()
      await mouse.move(...at())
      await mouse.move(...at())
      await mouse.up()
      if (shift) await keyboard.up('Shift')
      seen.push(
        await t.inside((_mask, editor) => ({
          text: editor.text,
          levels: editor.strip.cells.map((cell) => cell.level),
        })),
      )
    }
    assert.ok(new Set(seen.map(({ text }) => text)).size > 900)
    report({ drags: seen })
  },

  async 'a drag redraws in a few milliseconds'(t, report) {
    const medians = {}
    for (const length of [81, 161, 401]) {
      await t.build({ clip: false, length, text: '', width: 1000 })
      medians[length] = await t.inside(async (_mask, editor) => {
        for (const cell of editor.strip.cells) cell.state = 'given' // the longest strip has as much to draw as it can
        const times = []
        for (let move = 0; move < 200; move++) {
          const start = performance.now()
          editor.change(
            new Map([
              [0, (move % 90) / 100],
              [editor.view.cells.length - 1, (move % 70) / 100],
            ]),
          )
          editor.view.draw()
          times.push(performance.now() - start)
          if (move % 10 === 0) await new Promise(requestAnimationFrame)
        }
        return times.sort((a, b) => a - b)[100]
      })
    }
    report({ medians })
    for (const median of Object.values(medians)) assert.ok(median < 8, JSON.stringify(medians))
  },
}
