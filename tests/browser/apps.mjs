// Opens workflows as apps on a page of a phone's size and presses Run there.
//   node apps.mjs URL SCREENSHOT_FOLDER CHROMIUM WORKFLOW...
// Prints a JSON object for each file: {name, text, width, end, error}; text is what the page shows before the run, width
// how many pixels it needs. Prints nothing where the page has no app mode.
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { dropWorkflow, openBrowser, openPage, pressRun } from './page.mjs'

const [url, folder, executablePath, ...files] = process.argv.slice(2)
const DESKTOP = { width: 1600, height: 1000 }
const PHONE = { width: 390, height: 844 }

const toggleApp = (page) =>
  page.evaluate(async () => {
    const { command } = window.app.extensionManager
    if (!command.commands.some(({ id }) => id === 'Comfy.ToggleLinear')) return false
    await command.execute('Comfy.ToggleLinear')
    return true
  })

async function openApp(page, file, first) {
  await page.setViewportSize(DESKTOP)
  await dropWorkflow(page, basename(file), readFileSync(file, 'utf8'))
  if (!(await toggleApp(page))) return false
  if (first) await skipTour(page)
  await page.setViewportSize(PHONE)
  await page.getByText('Edit & Run').click()
  await page.waitForTimeout(1000)
  return true
}

/** Ends the page's own tour, which it gives at the first app. */
async function skipTour(page) {
  await page.waitForTimeout(2000)
  const skip = page.getByText('Skip', { exact: true })
  if (await skip.isVisible()) await skip.click()
}

const browser = await openBrowser(executablePath)
try {
  const page = await openPage(browser, url, 'classic')
  for (const file of files) {
    const name = basename(file, '.json')
    if (!(await openApp(page, file, file === files[0]))) break
    const shown = await page.evaluate(() => ({ text: document.body.innerText, width: document.documentElement.scrollWidth }))
    await page.screenshot({ path: join(folder, `${name} (app).png`) })
    const { end, error } = await pressRun(page)
    await page.screenshot({ path: join(folder, `${name} (app, made).png`) })
    console.log(JSON.stringify({ name, ...shown, end, error }))
    await toggleApp(page)
  }
} finally {
  await browser.close()
}
