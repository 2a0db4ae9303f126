// The strip as a part of the graph: what it knows of other nodes, its text, undo, copies, subgraphs.
import assert from 'node:assert/strict'
import { TimelinePage } from './timeline_page.mjs'

const WHOLE = '0-20:0'
const BLUEPRINT = new URL('../../subgraphs/Pusa - Video to video.json', import.meta.url)
const workflow = (name) => new URL(`../../workflows/${name}.json`, import.meta.url)
const DROPPED = [
  ['Pusa demo - Start and end frames, loose', [0, 20]],
  ['Pusa - Three keyframes', [0, 10, 20]],
  ['Pusa - Fill between two clips', [0, 1, 2, 18, 19, 20]],
]

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

  async 'a given cell shows the picture of Load Image, a red one'(t) {
    await t.page.evaluate(async () => {
      const canvas = new OffscreenCanvas(64, 64)
      const context = canvas.getContext('2d')
      context.fillStyle = '#f00'
      context.fillRect(0, 0, 64, 64)
      const form = new FormData()
      form.append('image', await canvas.convertToBlob(), 'timeline_red.png')
      await window.app.api.fetchApi('/upload/image', { method: 'POST', body: form })
    })
    await t.build({ clip: false })
    await t.page.evaluate(() => {
      const { graph } = window.app
      const source = window.LiteGraph.createNode('LoadImage')
      graph.add(source)
      source.widgets.find((each) => each.name === 'image').value = 'timeline_red.png'
      const last = graph._nodes.filter((node) => node.type === 'PusaEncodeKeyframes').at(-1)
      const slot = last.inputs.findIndex((input) => input.name === 'image')
      source.connect(0, last, slot)
    })
    await t.until("editor.view.cells[20]?.image === 'timeline_red.png' && editor.view.picture(20)")
    await t.settle()
    const colour = await t.inside(async (_mask, { view }) => {
      const { edges, yOf } = await import('/extensions/ComfyUI-Pusa/js/layout.js')
      const scale = view.canvas.width / view.canvas.clientWidth
      const at = [edges(view.layout, 20)[0] + 4, yOf(0.9)].map((place) => place * scale)
      return [
        ...view.canvas
          .getContext('2d')
          .getImageData(...at, 1, 1)
          .data.slice(0, 3),
      ]
    })
    assert.ok(colour[0] > 200 && colour[1] < 60 && colour[2] < 60, String(colour))
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
      const stored = mask.serialize().widgets_values
      const inputs = mask.widgets.filter((each) => each.name !== 'timeline_editor')
      return { own, value, first: stored[0], gaps: stored.length - inputs.length }
    })
    assert.deepEqual(seen, { own: true, value: text, first: text, gaps: 0 })
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
    assert.equal((await t.cells()).filter((cell) => cell.state === 'given').length, 21) // given outside
    await t.drag([5, 0.1], [5, 0.5])
    await t.near(5, 0.5)
  },

  async 'a text that is shown on its subgraph can be drawn inside'(t) {
    if (!(await t.knows('ComfyMathExpression'))) return // as old as a page without blueprints
    await t.drop(BLUEPRINT)
    await t.page.evaluate(() => {
      const outer = window.app.graph._nodes.find((node) => node.subgraph)
      window.app.canvas.openSubgraph(outer.subgraph, outer)
    })
    await t.page.waitForTimeout(1200)
    await t.inside((mask) => {
      window.app.canvas.ds.scale = 1
      window.app.canvas.ds.offset = [100 - mask.pos[0], 100 - mask.pos[1]]
      mask.setSize([1000, 460])
      window.app.canvas.setDirty(true, true)
    })
    await t.page.waitForTimeout(600)
    await t.drag([20, 0.1], [20, 0.5])
    const sent = await t.page.evaluate(async () => Object.values((await window.app.graphToPrompt()).output))
    assert.equal(sent.find((node) => node.class_type === 'PusaFrameMask').inputs.noise_levels, '0:0.3, 1--2:1, -1:0.5')
  },

  async 'a workflow file shows its frames on drop, and follows the numbers on its subgraphs'(t) {
    const given = async () => (await t.cells()).filter((cell) => cell.state === 'given').map((cell) => cell.frame)
    const set = (name, value) =>
      t.page.evaluate(
        ([name, value]) => {
          const shown = window.app.graph._nodes.flatMap((node) => (node.subgraph ? node.widgets : []))
          const widget = shown.find((each) => each.name === name)
          widget.value = value
          widget.callback?.(value)
        },
        [name, value],
      )
    const newer = await t.knows('ComfyMathExpression')
    for (const [file, frames] of DROPPED.filter(([file]) => newer || file.startsWith('Pusa demo'))) {
      await t.drop(workflow(file))
      await t.settle()
      assert.equal((await t.cells()).length, 21, file)
      assert.deepEqual(await given(), frames, file)
    }
    await set(...(newer ? ['seconds', 2.5] : ['frames', 41]))
    await t.settle()
    assert.equal((await t.cells()).length, 11)
    assert.deepEqual(await given(), newer ? [0, 1, 2, 8, 9, 10] : [0, 10])
    if (!newer) return
    await set('start_frames', 5)
    await t.settle()
    assert.deepEqual(await given(), [0, 1, 8, 9, 10])
  },

  async 'without JavaScript the text box is there, and its text reaches the prompt'(t) {
    const plain = await TimelinePage.open(t.page.context().browser(), t.url, { vue: t.vue, blocked: true })
    await plain.build({ text: '0:0.3' })
    const seen = await plain.page.evaluate(async () => {
      const mask = window.app.graph._nodes.find((node) => node.type === 'PusaFrameMask')
      const { output } = await window.app.graphToPrompt()
      const sent = Object.values(output).find((node) => node.class_type === 'PusaFrameMask').inputs.noise_levels
      return { widget: mask.widgets[0].name, stored: mask.serialize().widgets_values[0], sent }
    })
    const boxes = await plain.page.locator('textarea').count()
    await plain.page.close()
    assert.deepEqual(seen, { widget: 'noise_levels', stored: '0:0.3', sent: '0:0.3' })
    assert.ok(boxes >= 1)
  },
}
