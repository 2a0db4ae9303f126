// ComfyUI's page in Chromium: opens it, drops a workflow file on its canvas, presses Run.
import { createRequire } from 'node:module'

const { chromium } = createRequire(import.meta.url)('playwright-core')
const CLICK_MS = 10_000
const HANGS_MS = Number(process.env.HANGS_MS ?? 600_000) // never a bound on how long a page or a run may take
const ENDINGS = ['execution_success', 'execution_error', 'execution_interrupted']

export const openBrowser = (executablePath) =>
  chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu'] })

// Nothing but the server under test may be reached: the result must not depend on the internet.
export async function openPage(browser, url, renderer) {
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

/** Drops a workflow, the text of its file, on the canvas. */
export async function dropWorkflow(page, name, text) {
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

/** Closes what covers the page: older versions list missing model files in a dialog, which comes when it likes. */
export async function closeDialogs(page) {
  for (const dialog = page.getByRole('dialog'); await dialog.first().isVisible(); await page.waitForTimeout(300)) {
    await page.keyboard.press('Escape')
  }
}

/** Has the server forget all results. It does so behind a graph, and says nothing of it. */
export const forgetResults = (page) =>
  page.evaluate(async () => {
    const post = (path, body) => fetch(path, { method: 'POST', body: JSON.stringify(body) })
    await post('/free', { free_memory: true })
    const behind = await post('/prompt', { prompt: { 1: { class_type: 'PreviewAny', inputs: { source: '' } } } })
    const { prompt_id: id } = await behind.json()
    while (!(id in (await (await fetch(`/history/${id}`)).json()))) await new Promise((done) => setTimeout(done, 50))
  })

/** Presses Run and waits for the end: {end, error, outputs}. */
export async function pressRun(page) {
  await closeDialogs(page)
  await forgetResults(page) // in older versions a node whose result is kept from another graph shows nothing
  await page.evaluate(() => { window.seen = [] })
  const posted = page.waitForResponse((response) => response.url().endsWith('/prompt') && response.request().method() === 'POST')
  const run = page.locator('button:visible').filter({ hasText: /^\s*Run\s*$/ }).first()
  const click = () => run.click({ timeout: CLICK_MS }).then(() => true, () => false)
  while (!(await click())) await closeDialogs(page) // one may have come meanwhile
  const response = await posted
  if (response.status() !== 200) return { end: 'refused', error: await response.text(), outputs: [] }
  const ended = (endings) => window.seen.some(({ kind }) => endings.includes(kind))
  await page.waitForFunction(ended, ENDINGS)
  if (process.env.PUSA_SCREENSHOTS) await page.waitForTimeout(2000) // lets the page show the video
  const events = await page.evaluate(() => window.seen)
  const last = events.find(({ kind }) => ENDINGS.includes(kind))
  const outputs = events.filter(({ kind }) => kind === 'executed').map(({ detail }) => detail.output)
  return { end: last.kind, error: last.detail?.exception_message ?? null, outputs }
}
