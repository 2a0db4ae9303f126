// Every workflow file and blueprint of this pack says on drop how long its video is, and which frames are given.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { stripOf } from '../../web/js/cells.js'
import { RunGraph } from '../../web/js/graph.js'
import { framesPerSecond, maskInputs } from '../../web/js/video.js'
import { graphOf } from './graphs.mjs'

const ALL = [...Array(21).keys()]
const GIVEN = {
  'Extend a clip, 13 frames given': [0, 1, 2, 3],
  'Extend a clip, 41 frames given': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  'Join two clips': [0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 18, 19, 20],
  'Loop a clip': [0, 1, 2, 3, 18, 19, 20],
  'Retake a span of a clip': ALL,
  'Fill between two clips': [0, 1, 2, 18, 19, 20],
  'Image to video': [0],
  'First frame to video with KSampler': [0],
  'SkyReels-V2-DF extend a clip': [0, 1, 2, 3, 4],
  'SkyReels-V2-DF image to video': [0],
  'SkyReels-V3 extend a clip': [0, 1, 2, 3, 4, 5, 6],
  'SkyReels-V3 image to video': [0],
  'Start and end frames': [0, 20],
  'Start and end frames, loose': [0, 20],
  'Three keyframes': [0, 10, 20],
  'Train a LoRA': [0],
  'Change a part of a clip': ALL,
  'Outpaint a clip': ALL,
  'Video to video': ALL,
  'Wan2.2 extend a clip, 4 steps': [0, 1, 2, 3],
  'Wan2.2 image to video, 4 steps': [0],
}

const read = (url) => graphOf(JSON.parse(readFileSync(url, 'utf8')))
const files = ['workflows', 'subgraphs'].flatMap((folder) => {
  const url = new URL(`../../${folder}/`, import.meta.url)
  return readdirSync(url)
    .filter((name) => name.endsWith('.json'))
    .map((name) => ({ name: `${folder}/${name}`, url: new URL(name, url), task: /- (.*)\.json$/.exec(name)[1] }))
})

const maskOf = (graph) => [...graph.spots()].find((spot) => spot.node.comfyClass === 'PusaFrameMask')
const givenFrames = (strip) => strip.cells.filter((cell) => cell.state === 'given').map((cell) => cell.frame)

const NO_MASK = ['Text to video', 'Video of any length']
for (const { name, url, task } of files.filter(({ task }) => !NO_MASK.includes(task))) {
  test(`${name} shows its frames on drop`, () => {
    const graph = new RunGraph(read(url))
    const { node } = maskOf(graph)
    const { video, text } = maskInputs(graph, node)
    const strip = stripOf(text, video, null)
    const skyReels = task.startsWith('SkyReels')
    assert.equal(strip.cells.length, skyReels ? 31 : 21) // 5 s at 24 frames a second or at 16
    assert.equal(strip.error, null)
    const unlinked = name.startsWith('subgraphs') && video.given === null // a blueprint's pictures come from outside
    if (!unlinked) assert.deepEqual(givenFrames(strip), GIVEN[task])
    assert.deepEqual(
      strip.cells.filter((cell) => cell.state === 'empty' && cell.level < 1),
      [],
    )
    assert.equal(framesPerSecond(graph, node), skyReels ? 24 : 16)
    const samplers = [...graph.spots()].filter((spot) => /Sampler/.test(spot.node.comfyClass))
    assert.ok(samplers.length && samplers.every((spot) => graph.isUpstream(graph.at(spot.id), node)))
  })
}

test('a number on a subgraph is followed, in place of the one inside', () => {
  const root = read(new URL('../../workflows/Pusa - Fill between two clips.json', import.meta.url))
  const graph = new RunGraph(root)
  const mask = maskOf(graph).node
  const outer = root.nodes.find((node) => node.subgraph && node.inputs.some((input) => input.name === 'seconds'))
  const set = (name, value) => {
    outer.widgets.find((widget) => widget.name === name).value = value
  }
  set('seconds', 2.5)
  set('end_frames', 4)
  const { video } = maskInputs(graph, mask)
  assert.equal(video.frames, 11)
  assert.deepEqual(
    video.given.map(({ first, last, fromEnd }) => [first, last, fromEnd]),
    [
      [0, 2, false],
      [10, 10, true],
    ],
  )
})

test('the file of a picture is found outside of the subgraph that encodes it', () => {
  const graph = new RunGraph(read(new URL('../../workflows/Pusa - Start and end frames.json', import.meta.url)))
  const { video } = maskInputs(graph, maskOf(graph).node)
  assert.deepEqual(
    video.given.map(({ image }) => image),
    ['start.png', 'end.png'],
  )
})

test('in a subgraph that is used twice, what differs is unknown and what is the same is known', () => {
  const file = JSON.parse(readFileSync(new URL('../../subgraphs/Pusa - Image to video.json', import.meta.url), 'utf8'))
  const [one] = file.nodes
  file.nodes.push({ ...one, id: 1000 })
  const root = graphOf(file)
  root.nodes[1].subgraph = root.nodes[0].subgraph
  const graph = new RunGraph(root)
  const mask = maskOf(graph).node
  assert.equal(graph.spotsOf(mask).length, 2)
  assert.equal(maskInputs(graph, mask).video.frames, 21)
  assert.equal(graph.widget(mask, 'noise_levels'), null) // two texts
  root.nodes[1].widgets.find((widget) => widget.name === 'seconds').value = 1
  assert.equal(maskInputs(graph, mask).video.frames, null)
})

test('the text of a blueprint is the one on the subgraph, which can be written from inside', () => {
  const root = read(new URL('../../subgraphs/Pusa - Image to video.json', import.meta.url))
  const graph = new RunGraph(root)
  const mask = maskOf(graph).node
  const shown = root.nodes[0].widgets.find((widget) => widget.name === 'noise_levels')
  assert.equal(graph.widget(mask, 'noise_levels'), shown)
  shown.value = '0:0.4'
  assert.equal(maskInputs(graph, mask).text, '0:0.4')
})
