// Opens ComfyUI's page in Chromium and, for each workflow file in turn, drops it on the canvas; if its name starts with
// 'Pusa demo', presses Run and waits for the end.
//   node drive.mjs URL SCREENSHOT_FOLDER CHROMIUM classic|nodes2 WORKFLOW...
// Prints a JSON object for each file: {name, missing, refused, view, errors, end, error, outputs}; view has the
// boxes of the nodes and groups on the screen. Exit status 0 whenever the page could be driven.
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { closeDialogs, dropWorkflow, openBrowser, openPage, pressRun } from './page.mjs'

const [url, folder, executablePath, renderer, ...files] = process.argv.slice(2)

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

const browser = await openBrowser(executablePath)
const notRun = { end: 'not run', error: null, outputs: [] }
try {
  const page = await openPage(browser, url, renderer)
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
    await closeDialogs(page)
  }
} finally {
  await browser.close()
}
