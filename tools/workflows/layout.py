"""Sizes and positions of nodes on the page, so that a graph fits a screen without scrolling, at 100 %."""

import math
import re
from typing import Any

Json = dict[str, Any]

FIT = (1465, 832)
"""What a graph may take up, with its groups: a screen of 1600 x 1000 less the bars of the page; of all versions, the
oldest leaves least."""
OFFSET = (65, 90)
"""Where the page shows the origin: right of the side bar, below the tabs and the Run bar."""
TITLE, SLOT, WIDGET, TEXT, FOOTER = 30, 20, 28, 68, 40  # heights in Nodes 2.0; TEXT: a field of several lines
GAP, MARGIN, HEADER = 20, 10, 36  # between nodes and groups; inside a group; a group's title
NARROW = 226  # of a picture; Nodes 2.0 makes none narrower
LEAST = {4: 240, 3: 320, 2: 270}  # what the columns may shrink to, in this order
LINE, LETTER = 16, 5.4  # of the note: height and width
INNER_GAP = 60
SIZES = {
    "MarkdownNote": (300, 0),
    "PusaLoad": (360, 180),
    "UNETLoader": (360, 90),
    "LoraLoaderModelOnly": (360, 110),
    "ModelSamplingSD3": (260, 60),
    "PusaPatchModel": (260, 30),
    "PusaDemoLoader": (260, 50),
    "CLIPLoader": (360, 110),
    "VAELoader": (300, 60),
    "PusaDemoImage": (260, 330),
    "PusaDemoClip": (260, 166),
    "PusaDemoDataset": (260, 116),
    "PusaTrainLora": (400, 1300),
    "LoadImage": (260, 340),
    "LoadVideo": (260, 340),
    "GetVideoComponents": (240, 70),
    "ImageCrop": (270, 140),
    "ImageFromBatch": (270, 90),
    "ImagePadForOutpaint": (270, 200),
    "MaskComposite": (270, 150),
    "SolidMask": (270, 110),
    "CLIPTextEncode": (340, 140),
    "EmptyHunyuanLatentVideo": (270, 140),
    "PusaEncodeKeyframes": (300, 170),
    "PusaFrameMask": (300, 402),
    "PusaSampler": (300, 300),
    "PusaExtendVideo": (400, 620),
    "ImageBatch": (220, 60),
    "KSampler": (300, 300),
    "VAEDecode": (220, 50),
    "CreateVideo": (220, 80),
    "PrimitiveInt": (220, 90),
    "PrimitiveFloat": (220, 60),
    "ComfySwitchNode": (220, 80),
    "ComfyMathExpression": (260, 120),
    "SaveVideo": (340, 330),
    "PreviewImage": (340, 200),
}
"""Width and height of each node type, including room for the image or video that it shows."""


def subgraph_size(sockets: int, widgets: list[bool], outputs: int) -> list[int]:
    """The size of a node with ``sockets`` that are only connected; ``widgets``: whether each has several lines."""
    rows = SLOT * max(sockets, outputs) + sum(TEXT if long else WIDGET for long in widgets)
    return [460 if any(widgets) else 300, rows + FOOTER]


def bottom(node: Json) -> int:
    return node["pos"][1] + node["size"][1]


def place(columns: dict[int, list[Json]], titles: dict[int, str]) -> list[Json]:
    """Position the nodes of the page's columns and return a group around each.

    A first column that is too high becomes two narrower ones. If the page is too wide then, the others shrink.
    """
    stacks = {number: split(nodes) if number == 1 else [nodes] for number, nodes in sorted(columns.items())}
    widths = {n: [NARROW] * 2 if len(s) > 1 else [max(node["size"][0] for node in s[0])] for n, s in stacks.items()}
    excess = sum(sum(own) + GAP * len(own) + 2 * MARGIN for own in widths.values()) - GAP - FIT[0]
    for number in [number for number in LEAST if number in widths]:
        taken = min(max(excess, 0), max(widths[number][0] - LEAST[number], 0))
        widths[number][0] -= taken
        excess -= taken
    groups: list[Json] = []
    left = 0
    for number, color in zip(stacks, COLORS, strict=False):
        start, ends = left, []
        for stack, width in zip(stacks[number], widths[number], strict=True):
            below = HEADER
            for node in stack:
                node["pos"], node["size"][0] = [left + MARGIN, below + TITLE], width
                below = bottom(node) + GAP
            ends.append(below - GAP + MARGIN)
            left += width + GAP
        bounding = [start, 0, left - GAP + 2 * MARGIN - start, max(ends)]
        title = f"{len(groups) + 1}  {titles[number]}"
        group = {"id": len(groups) + 1, "title": title, "bounding": bounding, "color": color, "font_size": 22}
        groups.append(group | {"flags": {}})
        left += 2 * MARGIN
    return groups


def relieve(columns: dict[int, list[Json]]) -> None:
    """Move the first node of a second column that is too high below the pictures."""
    if height(columns.get(2, [])) > FIT[1]:
        columns[1].append(columns[2].pop(0))


def split(nodes: list[Json]) -> list[list[Json]]:
    """The nodes of a column as one stack, or as two if one is too high."""
    middle = (len(nodes) + 1) // 2
    return [nodes] if height(nodes) <= FIT[1] else [nodes[:middle], nodes[middle:]]


def note_height(text: str, width: int) -> int:
    """The height of a note of Markdown in a node of a width, a little more than it needs."""
    shown = re.sub(r"\]\([^)]*\)|\*\*", "", text)  # links and bold type take no room
    lines = [max(1, math.ceil(len(line) * LETTER / (width - 30))) for line in shown.split("\n")]
    return LINE * sum(lines) + 14


def height(nodes: list[Json]) -> int:
    """What a column takes up, with its group."""
    return HEADER + sum(TITLE + node["size"][1] + GAP for node in nodes) - GAP + MARGIN


def add_note(note: Json, columns: dict[int, list[Json]]) -> None:
    """Put a note into the column where the page stays lowest, except for that of the results."""

    def end(column: int) -> int:
        width = max([node["size"][0] for node in columns[column]], default=note["size"][0])
        return height(columns[column]) + GAP + TITLE + note_height(note["widgets_values"][0], width)

    lowest = min(sorted(columns)[:-1], key=end)
    width = max([node["size"][0] for node in columns[lowest]], default=note["size"][0])
    note["size"] = [width, note_height(note["widgets_values"][0], width)]
    columns[lowest].append(note)


COLORS = ("#3f789e", "#8a6d3b", "#5a7d4a", "#88507a")


def depths(nodes: list[Json], links: list[list[Any]]) -> dict[int, int]:
    """How many links the longest way from a node without inputs has, by node."""
    depth = dict.fromkeys((node["id"] for node in nodes), 0)
    for _ in nodes:
        for _, start, _, end, *_ in links:
            if start in depth and end in depth:
                depth[end] = max(depth[end], depth[start] + 1)
    return depth


def arrange(nodes: list[Json], links: list[list[Any]]) -> tuple[list[int], list[int]]:
    """Position nodes by how far from the inputs they are; returns the boxes of the inputs and the outputs."""
    depth = depths(nodes, links)
    left = 0
    for column in range(max(depth.values()) + 1):
        members = [node for node in nodes if depth[node["id"]] == column]
        below = 0
        for node in members:
            node["pos"] = [left, below + TITLE]
            below = bottom(node) + GAP
        left += max(node["size"][0] for node in members) + INNER_GAP
    return [-260, TITLE, 180, 60], [left + INNER_GAP, TITLE, 120, 60]
