// Prints the widgets of every node of this pack, as the page makes it, and what its extensions raise for a node without
// a list of widgets: node widgets.mjs URL CHROMIUM
import { createRequire } from 'node:module'

const { chromium } = createRequire(import.meta.url)('playwright-core')
const [url, executablePath] = process.argv.slice(2)
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
try {
  const page = await browser.newPage()
  page.setDefaultTimeout(600_000)
  await page.goto(url, { waitUntil: 'domcontentloaded' })
  // the page loads its default graph last
  await page.waitForFunction(() => window.LiteGraph?.registered_node_types?.PusaSampler && window.app?.graph?._nodes.length)
  const seen = await page.evaluate(() => {
    const { app, LiteGraph } = window
    const own = Object.keys(LiteGraph.registered_node_types).filter((type) => type.startsWith('Pusa'))
    const widgets = {}
    const raised = []
    for (const type of own) {
      const node = LiteGraph.createNode(type)
      app.graph.add(node)
      widgets[type] = (node.widgets ?? []).map((widget) => widget.name)
      for (const extension of app.extensions.filter(({ name }) => name.startsWith('Pusa'))) {
        try {
          extension.nodeCreated?.({ comfyClass: type, widgets: undefined }, app)
        } catch (error) {
          raised.push(`${extension.name}, ${type}: ${error}`)
        }
      }
    }
    return { widgets, raised, extensions: app.extensions.filter(({ name }) => name.startsWith('Pusa')).length }
  })
  console.log(JSON.stringify(seen))
} finally {
  await browser.close()
}
