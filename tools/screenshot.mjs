// Opens a workflow in ComfyUI's page, runs it, and takes a screenshot: node screenshot.mjs URL CHROMIUM WORKFLOW PNG
import { readFileSync } from "node:fs";
import { openPage, runGraph } from "./page.mjs";

const [url, executablePath, workflow, png] = process.argv.slice(2);
const { browser, page } = await openPage(url, executablePath, { width: 1600, height: 1000 });
await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(readFileSync(workflow, "utf8")));
await runGraph(page);
await page.waitForTimeout(4000); // pictures and videos arrive on their nodes
await page.screenshot({ path: png });
await browser.close();
