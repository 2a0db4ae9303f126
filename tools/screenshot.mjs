// Opens a workflow in ComfyUI's page, runs it, and takes a screenshot: node screenshot.mjs URL CHROMIUM WORKFLOW PNG
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [url, executablePath, workflow, png] = process.argv.slice(2);
const quiet = { "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false };
await fetch(`${url}/api/settings`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(quiet),
});
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
await page.goto(url);
await page.waitForFunction(() => Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100, null, {
  timeout: 300_000,
});
await page.waitForTimeout(2000);
const end = await page.evaluate(async (graph) => {
  const { app } = window;
  await app.loadGraphData(graph);
  const ended = new Promise((resolve) => {
    for (const name of ["execution_success", "execution_error"]) app.api.addEventListener(name, () => resolve(name));
  });
  await app.queuePrompt(0, 1);
  return ended;
}, JSON.parse(readFileSync(workflow, "utf8")));
if (end !== "execution_success") throw new Error(`the workflow did not run: ${end}`);
await page.waitForTimeout(4000); // pictures and videos arrive on their nodes
await page.screenshot({ path: png });
await browser.close();
