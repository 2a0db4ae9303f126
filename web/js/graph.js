// The graph as it runs: with the nodes inside of subgraphs, and links followed through their boundaries.

/**
 * @typedef {import('./comfy').Graph} Graph
 * @typedef {import('./comfy').GraphNode} GraphNode
 * @typedef {import('./comfy').Widget} Widget
 * @typedef {import('./comfy').Link} Link
 *
 * A node where it runs. `id`: as messages of a run have it, such as "27:22" for node 22 in the subgraph of node 27.
 * `outer`: the subgraph's node, null on the canvas.
 * @typedef {{node: GraphNode, outer: Spot | null, id: string}} Spot
 *
 * What an input is linked to: output `output` of `spot`, or the `widget` of a subgraph's node. Both null: unknown.
 * @typedef {{spot: Spot | null, output: number, widget: Widget | null}} Source
 */

const INPUTS = '-10' // where links inside of a subgraph start that come from its inputs
const OUTPUTS = '-20' // where those end that go to its outputs
const DEEPEST = 100 // boundaries on the way of a link
/** @type {Source} */
const UNKNOWN = { spot: null, output: 0, widget: null }

export const BYPASSED = 4 // of a node's modes

/**
 * @param {GraphNode} node
 * @param {string} name
 */
export function inputSlot(node, name) {
  return (node.inputs ?? []).findIndex((input) => input.name === name || input.widget?.name === name)
}

/**
 * @param {GraphNode} node
 * @param {string} name
 */
export const isLinked = (node, name) => {
  const slot = inputSlot(node, name)
  return slot >= 0 && node.isInputConnected(slot)
}

/**
 * @param {GraphNode} node
 * @param {string} name
 * @returns {Widget | null}
 */
export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name) ?? null

export class RunGraph {
  /** By graph, and in it by target and slot. @type {Map<Graph, Map<string, Link>>} */
  #links = new Map()

  /** @param {Graph | null | undefined} root the graph of the canvas */
  constructor(root) {
    this.root = root ?? null
  }

  /**
   * Every node where it runs: one in a subgraph that is used twice runs in two places.
   * @param {Graph | null} [graph]
   * @param {Spot | null} [outer]
   * @returns {Generator<Spot>}
   */
  *spots(graph = this.root, outer = null) {
    for (const node of graph?.nodes ?? []) {
      const spot = spotOf(node, outer)
      yield spot
      if (node.subgraph) yield* this.spots(node.subgraph, spot)
    }
  }

  /** The places where a node runs. @param {GraphNode} node */
  spotsOf(node) {
    return [...this.spots()].filter((spot) => spot.node === node)
  }

  /**
   * The widget that holds the value of an input: the node's own or, through the boundary of a subgraph, the one on its
   * node. Null where another node makes the value, or where it differs from place to place.
   * @param {GraphNode} node
   * @param {string} name
   */
  widget(node, name) {
    if (!isLinked(node, name)) return widgetOf(node, name)
    const slot = inputSlot(node, name)
    const widgets = new Set(this.spotsOf(node).map((spot) => this.source(spot, slot)?.widget ?? null))
    const [first] = widgets
    return widgets.size === 1 ? first : null
  }

  /**
   * The node that a message names.
   * @param {string} id
   * @returns {Spot | null}
   */
  at(id) {
    let graph = this.root
    /** @type {Spot | null} */
    let spot = null
    for (const part of id.split(':')) {
      const node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part))
      if (!node) return null
      spot = spotOf(node, spot)
      graph = node.subgraph ?? null
    }
    return spot
  }

  /**
   * What an input is linked to; null where it is not. Subgraphs are seen through.
   * @param {Spot} spot
   * @param {number} slot
   * @param {number} [depth]
   * @returns {Source | null}
   */
  source({ node, outer }, slot, depth = 0) {
    const link = slot < 0 || !node.graph ? null : this.#linkInto(node.graph, node.id, slot)
    return link && node.graph ? this.#start(node.graph, outer, link, depth) : null
  }

  /**
   * Whether `node` is reached from `start` by going back along links.
   * @param {Spot} start
   * @param {GraphNode} node
   */
  isUpstream(start, node) {
    const seen = new Set()
    const open = [start]
    for (let spot = open.pop(); spot; spot = open.pop()) {
      if (spot.node === node) return true
      if (seen.has(spot.id)) continue
      seen.add(spot.id)
      for (let slot = 0; slot < (spot.node.inputs?.length ?? 0); slot++) {
        const source = this.source(spot, slot)
        if (source?.spot) open.push(source.spot)
      }
    }
    return false
  }

  /**
   * @param {Graph} graph
   * @param {Spot | null} outer
   * @param {Link} link
   * @param {number} depth
   * @returns {Source}
   */
  #start(graph, outer, link, depth) {
    if (depth > DEEPEST) return UNKNOWN
    if (String(link.origin_id) === INPUTS) {
      const name = graph.inputs?.[link.origin_slot]?.name
      if (!outer || name === undefined) return UNKNOWN
      const linked = this.source(outer, inputSlot(outer.node, name), depth + 1)
      return linked ?? { ...UNKNOWN, widget: widgetOf(outer.node, name) }
    }
    const node = graph.getNodeById(link.origin_id)
    if (!node) return UNKNOWN
    const spot = spotOf(node, outer)
    if (!node.subgraph || node.mode === BYPASSED) return { spot, output: link.origin_slot, widget: null }
    const inner = this.#linkInto(node.subgraph, OUTPUTS, link.origin_slot)
    return inner ? this.#start(node.subgraph, spot, inner, depth + 1) : UNKNOWN
  }

  /**
   * Read from the graph, not from the node: a subgraph's node answers for its outputs instead of its inputs.
   * @param {Graph} graph
   * @param {number | string} target
   * @param {number} slot
   * @returns {Link | null}
   */
  #linkInto(graph, target, slot) {
    let links = this.#links.get(graph)
    if (!links) {
      links = new Map([...(graph.links?.values() ?? [])].map((link) => [`${link.target_id}:${link.target_slot}`, link]))
      this.#links.set(graph, links)
    }
    return links.get(`${target}:${slot}`) ?? null
  }
}

/**
 * @param {GraphNode} node
 * @param {Spot | null} outer
 * @returns {Spot}
 */
const spotOf = (node, outer) => ({ node, outer, id: outer ? `${outer.id}:${node.id}` : `${node.id}` })
