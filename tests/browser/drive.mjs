// Opens ComfyUI's page in Chromium and, for each workflow file in turn, drops it on the canvas; if its name starts with
// 'Pusa demo', presses Run and waits for the end.
//   node drive.mjs URL SCREENSHOT_FOLDER CHROMIUM classic|nodes2 WORKFLOW...
// Prints a JSON object for each file: {name, missing, refused, view, errors, end, error, outputs, asApp}; view has the
// boxes of the nodes and groups on the screen. Exit status 0 whenever the page could be driven.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'

const { chromium } = createRequire(import.meta.url)('playwright-core')
const [url, folder, executablePath, renderer, ...files] = process.argv.slice(2)
const HANGS_MS = 600_000 // never a bound on how long a page or a run may take
const ENDINGS = ['execution_success', 'execution_error', 'execution_interrupted']

// Nothing but the server under test may be reached: the result must not depend on the internet.
async function openPage(browser) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } })
  page.setDefaultTimeout(HANGS_MS)
  const { host } = new URL(url)
  await page.route('**/*', (route) => {
    const target = new URL(route.request().url())
    return target.host === host || target.protocol === 'blob:' || target.protocol === 'data:' ? route.continue() : route.abort()
  })
  await page.request.post(`${url}/api/settings`, { data: { 'Comfy.TutorialCompleted': true, 'Comfy.VueNodes.Enabled': renderer === 'nodes2' } })
  await page.goto(url, { waitUntil: 'domcontentloaded' })
  await page.waitForFunction(
    () =>
      document.querySelector('#graph-canvas') &&
      window.LiteGraph?.registered_node_types?.PusaSampler &&
      window.app?.graph?._nodes.length, // the page loads its default graph last
  )
  await page.evaluate((kinds) => {
    window.seen = []
    for (const kind of kinds) window.app.api.addEventListener(kind, (event) => window.seen.push({ kind, detail: event.detail }))
  }, [...ENDINGS, 'executed'])
  return page
}

async function dropWorkflow(page, name, text) {
  await page.evaluate(([name, text]) => {
    const canvas = document.querySelector('#graph-canvas')
    const { x, y, width, height } = canvas.getBoundingClientRect()
    const dataTransfer = new DataTransfer()
    dataTransfer.items.add(new File([text], name, { type: 'application/json' }))
    for (const kind of ['dragenter', 'dragover', 'drop']) {
      const at = { clientX: x + width / 2, clientY: y + height / 2 }
      canvas.dispatchEvent(new DragEvent(kind, { ...at, dataTransfer, bubbles: true, cancelable: true, composed: true }))
    }
  }, [name, text])
  const { id, nodes } = JSON.parse(text)
  const types = nodes.map((node) => node.type).sort().join()
  await page.waitForFunction(
    ({ id, types }) => window.app.graph.id === id && window.app.graph._nodes.map((node) => node.type).sort().join() === types,
    { id, types },
  )
  await page.waitForTimeout(1000)
}

// Node types that the page does not know, and values that a list widget does not offer.
function inspectGraph(page) {
  return page.evaluate(() => {
    const known = (node) => node.isVirtualNode === true || node.type in window.LiteGraph.registered_node_types
    const offered = (widget) => !Array.isArray(widget.options?.values) || widget.options.values.includes(widget.value)
    const { graph } = window.app
    const nodes = [graph, ...(graph.subgraphs?.values() ?? [])].flatMap(({ _nodes }) => _nodes)
    return {
      missing: nodes.filter((node) => !known(node)).map((node) => node.type),
      refused: nodes.flatMap((node) =>
        (node.widgets ?? []).filter((widget) => !offered(widget)).map((widget) => `${node.type}.${widget.name} = ${widget.value}`),
      ),
    }
  })
}

// Where each node and group is on the screen, and how much of a node its widgets need that it does not have.
function measure(page) {
  return page.evaluate(() => {
    const { graph, canvas } = window.app
    const { scale, offset } = canvas.ds
    const { left, top } = document.querySelector('#graph-canvas').getBoundingClientRect()
    const onScreen = ([x, y, w, h]) => [left + (x + offset[0]) * scale, top + (y + offset[1]) * scale, w * scale, h * scale]
    const title = window.LiteGraph.NODE_TITLE_HEIGHT
    const nodes = graph._nodes.map((node) => {
      const element = document.querySelector(`[data-node-id="${node.id}"]`)
      const drawn = element?.getBoundingClientRect()
      const box = drawn ? [drawn.x, drawn.y, drawn.width, drawn.height] : onScreen([node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title])
      return { name: node.title, box, lacks: drawn ? 0 : node.computeSize()[1] - node.size[1] }
    })
    const groups = graph._groups.map((group) => ({ name: group.title, box: onScreen([...group.pos, ...group.size]) }))
    return { nodes, groups, scale }
  })
}

async function pressRun(page) {
  // a node whose result is kept from another graph shows nothing
  const body = JSON.stringify({ free_memory: true })
  await page.evaluate((body) => { window.seen = []; return fetch('/free', { method: 'POST', body }) }, body)
  const posted = page.waitForResponse((response) => response.url().endsWith('/prompt') && response.request().method() === 'POST')
  await page.locator('button').filter({ hasText: /^\s*Run\s*$/ }).first().click()
  const response = await posted
  if (response.status() !== 200) return { end: 'refused', error: await response.text(), outputs: [] }
  const ended = (endings) => window.seen.some(({ kind }) => endings.includes(kind))
  await page.waitForFunction(ended, ENDINGS)
  await page.waitForTimeout(2000) // lets the page show the video
  const events = await page.evaluate(() => window.seen)
  const last = events.find(({ kind }) => ENDINGS.includes(kind))
  const outputs = events.filter(({ kind }) => kind === 'executed').map(({ detail }) => detail.output)
  return { end: last.kind, error: last.detail?.exception_message ?? null, outputs }
}

const browser = await chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu'] })
const notRun = { end: 'not run', error: null, outputs: [] }
try {
  const page = await openPage(browser)
  let errors = []
  page.on('pageerror', (error) => errors.push(String(error)))
  for (const file of files) {
    const name = basename(file, '.json')
    errors = []
    await dropWorkflow(page, basename(file), readFileSync(file, 'utf8'))
    const graph = await inspectGraph(page)
    const view = await measure(page)
    const run = name.startsWith('Pusa demo') && !graph.missing.length ? await pressRun(page) : notRun
    await page.screenshot({ path: join(folder, `${name}.png`) })
    console.log(JSON.stringify({ name, ...graph, view, ...run, errors }))
    await page.keyboard.press('Escape') // older versions list missing model files in a dialog, which takes the next drop
    await page.waitForTimeout(500)
  }
} finally {
  await browser.close()
}
