// The part of ComfyUI's page that the timeline uses, in every supported version.

export interface Widget {
  name: string
  type?: string
  value: unknown
  serialize?: boolean
  options?: { serialize?: boolean; [key: string]: unknown }
  element?: HTMLElement
  inputEl?: HTMLElement
  callback?: (value: unknown) => void
  computedHeight?: number
}

export interface GraphNode {
  id: number | string
  type?: string
  comfyClass?: string
  mode?: number
  title?: string
  graph?: Graph | null
  inputs?: { name: string; type?: string; link?: number | null; widget?: { name: string } }[]
  outputs?: { name: string; type?: string; links?: number[] | null }[]
  widgets?: Widget[]
  size?: [number, number]
  hideOutputImages?: boolean
  subgraph?: Graph // of a subgraph's node
  isInputConnected(slot: number): boolean
  setSize?(size: [number, number]): void
  computeSize?(): [number, number]
  setDirtyCanvas?(foreground: boolean, background?: boolean): void
  addDOMWidget?(name: string, type: string, element: HTMLElement, options: Record<string, unknown>): Widget
  onSerialize?: (data: { widgets_values?: unknown[] }) => void
  onRemoved?: () => void
}

export interface Link {
  origin_id: number | string
  origin_slot: number
  target_id: number | string
  target_slot: number
}

export interface Graph {
  nodes?: GraphNode[]
  links?: Map<number | string, Link>
  inputs?: { name: string }[] // of a subgraph
  rootGraph?: Graph
  getNodeById(id: number | string): GraphNode | null | undefined
}

export interface App {
  graph: Graph
  canvas?: { graph?: Graph | null }
  api: EventTarget & { apiURL(path: string): string }
  registerExtension(extension: Record<string, unknown>): void
  extensionManager?: {
    workflow?: {
      activeWorkflow?: { changeTracker?: { checkState?: () => void; captureCanvasState?: () => void } } | null
    }
  }
}
