// Opens ComfyUI's page in Chromium, without greeting, minimap or default graph's leftovers.
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)("playwright-core");

/** `settings`: of the page, besides those that keep it quiet. Returns the browser and its page. */
export async function openPage(url, executablePath, viewport, settings = {}) {
  const quiet = { "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false };
  await fetch(`${url}/api/settings`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...quiet, ...settings }),
  });
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport });
  page.setDefaultTimeout(180_000);
  await page.goto(url);
  await page.waitForFunction(() => Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100);
  await page.waitForTimeout(2000);
  return { browser, page };
}

/** Queues the page's graph; a promise of its end, which fails where the graph does. */
export async function runGraph(page) {
  const end = await page.evaluate(async () => {
    const { app } = window;
    const ended = new Promise((resolve) => {
      for (const name of ["execution_success", "execution_error"]) app.api.addEventListener(name, () => resolve(name));
    });
    await app.queuePrompt(0, 1);
    return ended;
  });
  if (end !== "execution_success") throw new Error(`the workflow did not run: ${end}`);
}
