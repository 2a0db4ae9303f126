"""A user who looks for a task finds the node or the blueprint for it among the first three."""

import json
import subprocess

import pytest

from tests.support.patience import HANGS
from tools.comfy_client import ComfyClient
from tools.comfyui import PACK

from .conftest import HERE

NODES = {
    "timeline": "PusaFrameMask",
    "noise level": "PusaFrameMask",
    "start and end frames": "PusaEncodeKeyframes",
    "extend video": "PusaExtendVideo",
}
BLUEPRINTS = ("first frame", "image to video")
"""Many core nodes have these words in their names, and names count more than aliases."""


@pytest.fixture(scope="module")
def found(chromium: str, server_url: str) -> dict[str, list[list[str]]]:
    """Ids and names of the first three nodes and blueprints, by what was typed."""
    command = ["node", str(HERE / "search.mjs"), server_url, chromium, *NODES, *BLUEPRINTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def aliases(comfy: ComfyClient) -> None:
    if "search_aliases" not in comfy.get_json("/object_info/PusaLoad")["PusaLoad"]:
        pytest.skip("this version of ComfyUI searches names alone")


@pytest.mark.usefixtures("aliases")
@pytest.mark.parametrize("query", NODES)
def test_a_task_leads_to_its_node(found: dict[str, list[list[str]]], query: str) -> None:
    assert NODES[query] in [name for name, _ in found[query]]


@pytest.mark.usefixtures("aliases")
@pytest.mark.parametrize("query", BLUEPRINTS)
def test_a_common_task_leads_to_a_blueprint(found: dict[str, list[list[str]]], query: str) -> None:
    if not list((PACK / "subgraphs").glob("*.json")):
        pytest.skip("this pack has no blueprints")
    assert any(title.lower().startswith("pusa") for _, title in found[query]), found[query]
