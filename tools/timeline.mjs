// Pictures of the timeline on Frame Conditioning Mask, before, while and after it runs:
//   node timeline.mjs URL CHROMIUM classic|nodes2 WORKFLOW FOLDER PICTURE...
// The pictures are given to the workflow's keyframes, in order. Writes before.png, while.png and after.png.
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { openPage, runGraph } from "./page.mjs";

const [url, executablePath, renderer, workflow, folder, ...pictures] = process.argv.slice(2);
const [WIDTH, HEIGHT] = [1060, 400];
const MODULE = "/extensions/ComfyUI-Pusa/js/timeline.js";

for (const file of pictures) {
  const form = new FormData();
  form.append("image", new Blob([readFileSync(file)]), basename(file));
  await fetch(`${url}/upload/image`, { method: "POST", body: form });
}
const { browser, page } = await openPage(
  url,
  executablePath,
  { width: 1300, height: 900 },
  { "Comfy.VueNodes.Enabled": renderer === "nodes2", "Comfy.Graph.CanvasInfo": false },
);

/** Puts the pictures in place of the demo's, and the mask, wide enough for all frames, into view. */
await page.evaluate(
  async ([graph, names, width, height]) => {
    const { app, LiteGraph } = window;
    await app.loadGraphData(graph);
    const given = app.graph._nodes.find((node) => node.inputs.some((input) => input.name === "image_2"));
    for (const [index, name] of names.entries()) {
      const source = LiteGraph.createNode("LoadImage");
      app.graph.add(source);
      source.pos = [-600, 400 * index];
      source.widgets.find((widget) => widget.name === "image").value = name;
      const input = index === 0 ? "image" : `image_${index + 1}`;
      source.connect(0, given, given.inputs.findIndex((each) => each.name === input));
    }
    const mask = app.graph._nodes.find((node) => node.type === "PusaFrameMask");
    mask.pos = [0, 3000];
    mask.setSize([width, height]);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [100, -2850];
    app.canvas.setDirty(true, true);
  },
  [JSON.parse(readFileSync(workflow, "utf8")), pictures.map((file) => basename(file)), WIDTH, HEIGHT],
);
await page.waitForTimeout(2500);

// waitForFunction awaits no promise: the module is imported once, before it
await page.evaluate(async (module) => {
  window.editors = (await import(module)).editors;
}, MODULE);

/** Waits for an editor of which `test` holds. */
const editorIs = (test) =>
  page.waitForFunction((test) => [...window.editors.values()].some(new Function("editor", `return ${test}`)), test);

async function take(name) {
  const { x, y, width, height } = await page.locator(".pusa-timeline").boundingBox();
  const clip = { x: x - 8, y: y - 8, width: width + 16, height: height + 8 };
  await page.screenshot({ path: join(folder, `${name}.png`), clip });
}

await editorIs("editor.view.cells.length === 21");
await take("before");
const ended = runGraph(page);
await editorIs("editor.view.live?.[5] < 0.8");
await take("while");
await ended;
await editorIs("editor.made?.length === 21");
await page.waitForTimeout(500);
await take("after");
await browser.close();
