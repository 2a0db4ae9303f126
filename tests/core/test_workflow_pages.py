"""Every graph has the form that a user meets: it fits a screen, has knobs, a note, and computes what it should."""

import itertools
import json

import pytest

from tests.support.pages import NOTES, Opened, computed, output_nodes
from tools.workflows.build import API_NAMES, documents
from tools.workflows.layout import FIT, HEADER, TITLE
from tools.workflows.tasks import EXTEND, WAN22

DOCUMENTS = documents()
PAGES = {title: json.loads(DOCUMENTS[f"{title}.json"]) for title in API_NAMES}
API = {title: json.loads(DOCUMENTS[f"api/{name}.json"]) for title, name in API_NAMES.items()}
TITLES = sorted(PAGES)
ONLY_SAVE = ("SaveVideo", "PreviewImage")


def box(node):
    """Left, top, right, bottom of a node with its title."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - TITLE, left + width, top + height


def bounding(group):
    left, top, width, height = group["bounding"]
    return left, top, left + width, top + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def contains(outer, inner):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


@pytest.mark.parametrize("title", TITLES)
def test_it_fits_a_screen_and_nothing_overlaps(title):
    page = PAGES[title]
    groups = [bounding(group) for group in page["groups"]]
    assert min(group[0] for group in groups) >= 0 and min(group[1] for group in groups) >= 0
    assert max(group[2] for group in groups) <= FIT[0] and max(group[3] for group in groups) <= FIT[1]
    assert page["extra"]["ds"]["scale"] == 1
    for nodes in [page["nodes"]] + [inner["nodes"] for inner in page["definitions"]["subgraphs"]]:
        for a, b in itertools.combinations(map(box, nodes), 2):
            assert not overlap(a, b), (a, b)
    for a, b in itertools.combinations(groups, 2):
        assert not overlap(a, b), (a, b)
    for node in page["nodes"]:
        (group,) = (group for group in groups if contains(group, box(node)))
        assert box(node)[1] >= group[1] + HEADER  # below the group's title


@pytest.mark.parametrize("title", TITLES)
def test_links_run_from_left_to_right_or_down(title):
    page = PAGES[title]
    for nodes, links in [(page["nodes"], page["links"])] + [
        (inner["nodes"], [list(link.values()) for link in inner["links"]]) for inner in page["definitions"]["subgraphs"]
    ]:
        boxes = {node["id"]: box(node) for node in nodes}
        for _, start, _, end, *_ in links:
            if start in boxes and end in boxes:
                a, b = boxes[start], boxes[end]
                assert a[2] <= b[0] or a[3] <= b[1], (title, start, end)


@pytest.mark.parametrize("title", TITLES)
def test_it_has_few_nodes_with_named_knobs(title):
    page = PAGES[title]
    inner = {subgraph["id"]: subgraph for subgraph in page["definitions"]["subgraphs"]}
    assert len(page["nodes"]) <= 10
    video = next(node for node in page["nodes"] if node.get("title") == "Pusa video")
    labels = [entry["label"] for entry in video["inputs"] if "widget" in entry]
    assert labels[:2] == ["Prompt", "Negative prompt"] and "Seed" in labels
    assert any("teps" in label for label in labels) and any("CFG" in label for label in labels)
    for node in page["nodes"]:
        names = [entry["name"] for entry in node["inputs"]]
        assert len(set(names)) == len(names)
        if node["type"] in inner:
            assert [end["name"] for end in inner[node["type"]]["inputs"]] == names
            assert [end["label"] for end in inner[node["type"]]["inputs"]] == [e["label"] for e in node["inputs"]]
    sizes = [
        entry["name"] for node in page["nodes"] for entry in node["inputs"] if entry["name"] in ("width", "height")
    ]
    assert sizes in ([], ["width", "height"])  # one place
    masks = [node for node in page["nodes"] if node["type"] == "PusaFrameMask"]
    assert len(masks) == (
        "Text to video" not in title and EXTEND.title not in title
    )  # on the canvas, where a timeline can be drawn


@pytest.mark.parametrize("title", TITLES)
def test_the_app_shows_every_picture_and_knob_and_the_results(title):
    page = PAGES[title]
    app = page["extra"]["linearData"]
    nodes = {str(node["id"]): node for node in page["nodes"]}
    for number, name in app["inputs"]:
        (entry,) = (entry for entry in nodes[number]["inputs"] if entry["name"] == name)
        assert entry["link"] is None and "widget" in entry
    assert [nodes[number]["type"] in ONLY_SAVE for number in app["outputs"]] == [True] * len(app["outputs"])
    shown = {nodes[number].get("title") for number, _ in app["inputs"]}
    assert "Pusa video" in shown and app["outputs"]
    assert ("mask_level" in [name for _, name in app["inputs"]]) == ("part of" in title or "Outpaint" in title)


@pytest.mark.parametrize("title", [title for title in TITLES if title.startswith("Pusa demo")])
def test_both_formats_of_a_demo_hold_the_same_graph(title):
    opened = Opened(PAGES[title]).prompt()
    stored = {key: {name: node[name] for name in ("class_type", "inputs")} for key, node in API[title].items()}
    assert opened == stored


@pytest.mark.parametrize("title", [title for title in TITLES if not title.startswith("Pusa demo")])
def test_the_page_with_its_default_length_computes_what_the_api_graph_does(title):
    """With turbo for Wan2.2, whose API graphs have its LoRAs, and without it for the others."""
    opened = Opened(PAGES[title]).prompt()
    turbo = API_NAMES[title] in {task.name for task in WAN22}

    def results(prompt):
        found = [computed(prompt, key, turbo=turbo) for key in output_nodes(prompt)]
        return sorted(found, key=lambda result: result[0])

    assert results(opened) == results(API[title])


@pytest.mark.parametrize("title", [title for title in TITLES if not title.startswith("Pusa demo")])
def test_its_note_has_a_link_to_every_file_that_it_loads(title):
    page = PAGES[title]
    (note,) = (node for node in page["nodes"] if node["type"] in NOTES)
    text = note["widgets_values"][0]
    nodes = [*page["nodes"], *(node for inner in page["definitions"]["subgraphs"] for node in inner["nodes"])]
    for node in nodes:
        files = [value for value in node.get("widgets_values", []) if str(value).endswith(".safetensors")]
        models = node["properties"].get("models", [])
        assert node["type"] in NOTES or files == [model["name"] for model in models]
        for model in models:
            assert model["url"].endswith(model["name"]) and f"{model['directory']}: [" in text
            assert f"]({model['url']})" in text
    assert "**Memory**" in text
