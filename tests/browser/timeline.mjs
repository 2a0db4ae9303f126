// Tries every case of the timeline in one renderer of ComfyUI's page.
//   node timeline.mjs URL SCREENSHOT_FOLDER CHROMIUM classic|vue [PART_OF_A_CASE'S_NAME]
// Prints a JSON object for each case: {name, error, ...what it reports}. Exit status 0 whenever the page could be driven.
import { join } from 'node:path'
import { cases as graph } from './timeline_graph.mjs'
import { cases as hand } from './timeline_hand.mjs'
import { openBrowser, TimelinePage } from './timeline_page.mjs'
import { cases as run } from './timeline_run.mjs'

const cases = { ...graph, ...run, ...hand }

const [url, folder, executablePath, renderer, part = ''] = process.argv.slice(2)
const browser = await openBrowser(executablePath)
try {
  for (const [name, attempt] of Object.entries(cases).filter(([name]) => name.includes(part))) {
    const page = await TimelinePage.open(browser, url, { vue: renderer === 'vue' })
    let reported = {}
    let error = null
    try {
      await attempt(page, (more) => {
        reported = more
      })
    } catch (failure) {
      error = String(failure.stack ?? failure)
    }
    await page.page.screenshot({ path: join(folder, `timeline ${renderer} ${name.replaceAll('/', ' ')}.png`) })
    console.log(JSON.stringify({ name, error, errors: page.errors, ...reported }))
    await page.page.close()
  }
} finally {
  await browser.close()
}
