// Prints what the page's own node search finds, best first: node search.mjs URL CHROMIUM QUERY...
import { createRequire } from "module";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [url, executablePath, ...queries] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(url);
await page.waitForFunction(() => Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100, null, {
  timeout: 300_000,
});
const find = (queries) => {
  const pinia = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia;
  const search = pinia._s.get("nodeDef").nodeSearchService;
  const first = (query) => search.searchNode(query, [], { limit: 3 }).map((node) => [node.name, node.display_name]);
  return Object.fromEntries(queries.map((query) => [query, first(query)]));
};
// blueprints arrive after the nodes
await page.waitForTimeout(3000);
console.log(JSON.stringify(await page.evaluate(find, queries)));
await browser.close();
