// ComfyUI's page with a graph that has a timeline, and a hand on its mouse and keyboard.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const { chromium } = createRequire(import.meta.url)('playwright-core')
const HANGS_MS = Number(process.env.HANGS_MS ?? 600_000) // never a bound on how long a page or a run may take
const MODULES = '/extensions/ComfyUI-Pusa/js'

export const openBrowser = (executablePath) =>
  chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu'] })

export class TimelinePage {
  constructor(page, url) {
    this.page = page
    this.url = url
  }

  /** Opens the page in one of ComfyUI's two renderers; `blocked`: without the modules of this pack. */
  static async open(browser, url, { vue = false, blocked = false } = {}) {
    const page = await browser.newPage({ viewport: { width: 1700, height: 950 } })
    page.setDefaultTimeout(HANGS_MS)
    const { host } = new URL(url)
    await page.route('**/*', (route) => {
      const target = new URL(route.request().url())
      const own = target.host === host || ['blob:', 'data:'].includes(target.protocol)
      return own && !(blocked && target.pathname.startsWith(MODULES)) ? route.continue() : route.abort()
    })
    const settings = { 'Comfy.TutorialCompleted': true, 'Comfy.VueNodes.Enabled': vue }
    await page.request.post(`${url}/api/settings`, { data: settings })
    const opened = new TimelinePage(page, url)
    opened.vue = vue
    opened.errors = []
    page.on('pageerror', (error) => opened.errors.push(String(error.stack)))
    await page.goto(url, { waitUntil: 'domcontentloaded' })
    await page.waitForFunction(
      () => window.LiteGraph?.registered_node_types?.PusaSampler && window.app?.graph?._nodes.length,
    )
    await page.waitForTimeout(1500) // the page lays out its default graph last
    return opened
  }

  /** A graph with one mask behind a clip (or, without `clip`, a picture at the start and one at the end). */
  async build({ clip = true, length = 81, text = '', width = 1000 } = {}) {
    await this.page.evaluate(
      async ([clip, length, text, width]) => {
        const { graph, canvas } = window.app
        const data = {
          last_node_id: 0,
          last_link_id: 0,
          nodes: [],
          links: [],
          groups: [],
          config: {},
          extra: {},
          version: 0.4,
        }
        await window.app.loadGraphData(data)
        const add = (type, x, y) => {
          const node = window.LiteGraph.createNode(type)
          node.pos = [x, y]
          ;(window.app.graph ?? graph).add(node)
          return node
        }
        const set = (node, name, value) => {
          const widget = node.widgets.find((each) => each.name === name)
          widget.value = value
          widget.callback?.(value)
        }
        const link = (from, to, name) =>
          from.connect(
            0,
            to,
            to.inputs.findIndex((each) => each.name === name),
          )
        // in the order of execution, which undo would otherwise change
        const picture = add(clip ? 'PusaDemoClip' : 'PusaDemoImage', 60, 300)
        const keyframe = add('PusaEncodeKeyframes', 60, 560)
        if (clip)
          set(
            picture,
            'length',
            Math.min(length, picture.widgets.find((each) => each.name === 'length').options.max ?? length),
          )
        set(keyframe, 'length', length)
        link(picture, keyframe, 'image')
        let last = keyframe
        if (!clip) {
          last = add('PusaEncodeKeyframes', 60, 780)
          set(last, 'position', -1)
          link(picture, last, 'image')
          link(keyframe, last, 'latent')
        }
        const mask = add('PusaFrameMask', 460, 120)
        mask.setSize([width, 460])
        link(last, mask, 'latent')
        set(mask, 'noise_levels', text)
        // as a stored graph: undo compares with what loading makes of it
        await window.app.loadGraphData(JSON.parse(JSON.stringify(window.app.graph.serialize())))
        canvas.ds.scale = 1
        canvas.ds.offset = [0, 0]
        canvas.setDirty(true, true)
      },
      [clip, length, text, width],
    )
    await this.settle()
    await this.page.waitForTimeout(400)
  }

  /** Opens a workflow file. */
  async drop(file) {
    await this.page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(readFileSync(file, 'utf8')))
    await this.page.waitForTimeout(1000)
  }

  /** Whether the page has nodes of a type. */
  knows(type) {
    return this.page.evaluate((type) => type in window.LiteGraph.registered_node_types, type)
  }

  /** Queues the graph, and waits for its end. */
  run() {
    return this.page.evaluate(async () => {
      const ends = ['execution_success', 'execution_error', 'execution_interrupted']
      const ended = new Promise((resolve) => {
        for (const kind of ends) window.app.api.addEventListener(kind, () => resolve(kind), { once: true })
      })
      await window.app.queuePrompt(0, 1)
      return ended
    })
  }

  /** Waits until the editor has seen the graph as it is. */
  async settle() {
    await this.page.waitForTimeout(350)
  }

  /** Runs `body(mask, editor, argument)` in the page. */
  inside(body, argument) {
    return this.page.evaluate(
      async ([body, modules, argument]) => {
        const { editors } = await import(`${modules}/timeline.js`)
        const mask = window.app.canvas.graph.nodes.find((node) => node.type === 'PusaFrameMask')
        return new Function(`return (${body})(...arguments)`)(mask, editors.get(mask), argument)
      },
      [String(body), MODULES, argument],
    )
  }

  /** Waits until `test` holds of an editor of the page. */
  async until(test) {
    await this.page.evaluate(async (modules) => {
      window.editors = (await import(`${modules}/timeline.js`)).editors // waitForFunction awaits no promise
    }, MODULES)
    const holds = (test) => [...window.editors.values()].some(new Function('editor', `return ${test}`))
    await this.page.waitForFunction(holds, test)
  }

  text = () => this.inside((mask) => mask.widgets.find((widget) => widget.name === 'noise_levels').value)

  async setText(text) {
    await this.inside((mask, _editor, text) => {
      const widget = mask.widgets.find((each) => each.name === 'noise_levels')
      widget.value = text
      widget.callback?.(text)
    }, text)
    await this.settle()
  }

  cells = () => this.inside((_mask, editor) => editor.strip?.cells ?? null)
  levels = async () => (await this.cells()).map((cell) => cell.level)
  note = () => this.inside((_mask, editor) => editor.note.textContent)
  bubble = () => this.inside((_mask, editor) => editor.view.bubble.textContent)

  /** The place on the screen of a level in a cell. */
  place(frame, level) {
    return this.page.evaluate(
      async ([modules, frame, level]) => {
        const { editors } = await import(`${modules}/timeline.js`)
        const { edges, yOf } = await import(`${modules}/layout.js`)
        const mask = window.app.canvas.graph.nodes.find((node) => node.type === 'PusaFrameMask')
        const { view } = editors.get(mask)
        const box = view.canvas.getBoundingClientRect()
        const zoom = box.width / view.canvas.clientWidth
        const [left, right] = edges(view.layout, frame)
        return [box.left + (zoom * (left + right)) / 2, box.top + zoom * yOf(level)]
      },
      [MODULES, frame, level],
    )
  }

  /** Drags from cell to cell: `path` of [frame, level]. */
  async drag(...path) {
    const { mouse } = this.page
    const places = []
    for (const [frame, level] of path) places.push(await this.place(frame, level))
    await mouse.move(...places[0])
    await mouse.down()
    for (const place of places.slice(1)) await mouse.move(...place, { steps: 3 })
    await mouse.up()
  }

  async click(frame, level, options = {}) {
    await this.page.mouse.click(...(await this.place(frame, level)), options)
  }

  async near(frame, level) {
    const seen = (await this.levels())[frame]
    assert.ok(
      Math.abs(seen - level) < 0.02,
      `frame ${frame} is at ${seen}, not ${level}; the text is "${await this.text()}"`,
    )
  }
}
