"""What newer versions of the page ask of a node's widgets: names of their own, and patience where there is no list."""

import json
import subprocess
from typing import Any

import pytest

from tests.support.patience import HANGS
from tools.workflows.listing import is_of_pack
from tools.workflows.node_types import STORED

from .conftest import HERE

STORED_NODES = json.loads(STORED.read_text(encoding="utf-8"))
OF_PACK = {name for name, node in STORED_NODES.items() if is_of_pack(node)}


@pytest.fixture(scope="module")
def seen(chromium: str, server_url: str) -> dict[str, Any]:
    command = ["node", str(HERE / "widgets.mjs"), server_url, chromium]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_no_two_widgets_of_a_node_have_one_name(seen: dict[str, Any]) -> None:
    assert seen["widgets"].keys() == OF_PACK
    assert "timeline_editor" in seen["widgets"]["PusaFrameMask"]  # those that the page adds are there too
    for name, widgets in seen["widgets"].items():
        assert len(set(widgets)) == len(widgets), name


def test_a_node_without_a_list_of_widgets_is_left_alone(seen: dict[str, Any]) -> None:
    assert seen["extensions"]
    assert seen["raised"] == []
