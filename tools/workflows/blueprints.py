"""Each task as one node that the page's search finds: the files in ``subgraphs/``.

The same nodes as on the page, with Frame Conditioning Mask inside as a text.
"""

from .graph import Json, Place
from .graphs import user_graph
from .notes import has_newer_nodes
from .page import Page
from .tasks import TRAIN
from .workflow import Workflow

ALIASES = ["pusa", "wan", "video", "noise levels", "first frame", "last frame", "keyframes", "extend", "timeline"]
PART_ALIASES = {"mask": ["inpaint", "mask", "region"], "margin": ["outpaint"]}


def blueprint(task: Workflow, title: str) -> Json:
    """A file of one node, with the pictures as its inputs and the video as its output."""
    graph = user_graph(task, newest=has_newer_nodes(task))
    for number, node in enumerate(graph.nodes, 1):
        if node.place.subgraph or node.kind == "PusaFrameMask":
            node.place = Place(1, title)
        if node.kind == "PusaFrameMask":
            graph.knob("noise_levels", "Noise levels", (number, "noise_levels"))
            if "mask" in node.values:
                graph.knob("mask_level", "Mask level", (number, "mask_level"))
    page = Page(graph)
    (canvas,) = page.subgraphs
    (drawn,) = (drawn for drawn in page.root.nodes if drawn["id"] == canvas.number)
    for end in drawn["inputs"]:
        end["link"] = None
    for end in drawn["outputs"]:
        end["links"] = None
    return {
        "id": page.id_of(page.root),
        "revision": 0,
        "last_node_id": canvas.number,
        "last_link_id": 0,
        "nodes": [drawn],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [page.definition(canvas)]},
        "config": {},
        "extra": {
            "BlueprintDescription": task.summary,
            "BlueprintSearchAliases": ALIASES + PART_ALIASES.get(task.part, []),
        },
        "version": 0.4,
    }


def has_blueprint(task: Workflow) -> bool:
    return task is not TRAIN
