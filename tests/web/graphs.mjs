// Graphs as ComfyUI's page has them, without a page: built by hand, or read from a workflow file.

/**
 * A graph of nodes that name the nodes behind their inputs, with the subgraphs' own.
 * @param {{comfyClass: string, links?: Record<string, any>}[]} last nodes; those before them are found
 */
export function graphWith(...last) {
  const nodes = []
  const links = new Map()
  const graph = { nodes, links, getNodeById: (id) => nodes.find((node) => node.id === id) }
  graph.rootGraph = graph
  const add = (node) => {
    if (nodes.includes(node)) return node.id
    node.id = nodes.length + 1
    nodes.push(node)
    node.graph = graph
    for (const [slot, input] of node.inputs.entries()) {
      const source = node.links[input.name]
      if (source) link(links, add(source), source.output ?? 0, node.id, slot)
    }
    return node.id
  }
  last.forEach(add)
  return graph
}

/** A node with widgets, and the nodes that its inputs are linked to. */
export function node(comfyClass, values = {}, links = {}, more = {}) {
  const type = (name) => (name === 'image' ? 'IMAGE' : 'LATENT')
  return {
    comfyClass,
    links,
    inputs: Object.keys(links).map((name) => ({ name, type: type(name) })),
    widgets: Object.entries(values).map(([name, value]) => ({ name, value })),
    isInputConnected(slot) {
      return links[this.inputs[slot].name] != null
    },
    ...more,
  }
}

function link(links, origin_id, origin_slot, target_id, target_slot) {
  links.set(links.size + 1, { origin_id, origin_slot, target_id, target_slot })
}

/** The graph of a workflow file, with its subgraphs. */
export function graphOf(file) {
  const subgraphs = new Map((file.definitions?.subgraphs ?? []).map((subgraph) => [subgraph.id, subgraph]))
  const read = (data, root) => {
    const links = new Map()
    for (const each of data.links) {
      if (Array.isArray(each)) link(links, ...each.slice(1, 5))
      else link(links, each.origin_id, each.origin_slot, each.target_id, each.target_slot)
    }
    const nodes = []
    const graph = { nodes, links, inputs: data.inputs, getNodeById: (id) => nodes.find((node) => node.id === id) }
    graph.rootGraph = root ?? graph
    for (const stored of data.nodes) nodes.push(nodeOf(stored, graph, subgraphs, read))
    return graph
  }
  return read(file)
}

const CONTROLS = ['fixed', 'increment', 'decrement', 'randomize'] // the page's own widget behind a seed

function nodeOf(stored, graph, subgraphs, read) {
  const definition = subgraphs.get(stored.type)
  const subgraph = definition && read(definition, graph.rootGraph)
  const names = (stored.inputs ?? []).filter((input) => input.widget).map((input) => input.widget.name)
  const values = (stored.widgets_values ?? []).filter((value) => !CONTROLS.includes(value))
  const widgets = names.map((name, index) => ({ name, value: values[index] ?? innerValue(subgraph, name) }))
  const linked = (slot) => [...graph.links.values()].some((l) => l.target_id === stored.id && l.target_slot === slot)
  return { ...stored, graph, subgraph, widgets, comfyClass: stored.type, isInputConnected: linked }
}

/** The value of the first widget that an input of a subgraph shows. */
function innerValue(subgraph, name) {
  const origin = subgraph?.inputs.findIndex((input) => input.name === name)
  const shown = [...(subgraph?.links.values() ?? [])].find((l) => l.origin_id === -10 && l.origin_slot === origin)
  const inner = shown && subgraph.getNodeById(shown.target_id)
  return inner?.widgets.find((widget) => widget.name === inner.inputs[shown.target_slot].widget?.name)?.value
}
