"""The type check reaches the nodes and the tests' support, in a clone of any name."""

import shutil
from pathlib import Path

import pytest

from tools.check_types import ROOT, check_types

FILES = {
    "__init__.py": "",
    "run.py": "",
    "benchmarks/__init__.py": "",
    "demo/clips.py": "",
    "pusa_core/__init__.py": "def latent_length(frames: int) -> int:\n    return (frames + 3) // 4\n",
    "nodes/__init__.py": "",
    "nodes/sampler.py": "from ..pusa_core import latent_length\n\nlatent_length(81)\n",
    "nodes/comfyui/__init__.py": "",
    "nodes/comfyui/latents.py": "import comfy.utils\n\nfrom ...pusa_core import latent_length\n\nlatent_length(81)\n",
    "tests/conftest.py": "",
    "tests/support/graphs.py": "from pusa_core import latent_length\n\nlatent_length(81)\n",
    "tests/support/scripts/in_comfyui.py": "def load_pack(name: str) -> None: ...\n",
    "tests/support/scripts/run_load.py": "from in_comfyui import load_pack\n\nload_pack('pack')\n",
    "tools/__init__.py": "",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "ComfyUI-Pusa 2"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_errors_are_found_in_nodes_and_in_the_support_of_the_tests(clone: Path) -> None:
    code, text = check_types(clone)
    assert code == 0, text
    broken = ["nodes/sampler.py", "nodes/comfyui/latents.py", "tests/support/graphs.py"]
    for name in broken:
        (clone / name).write_text(FILES[name].replace("(81)", "('81')"))
    broken.append("tests/support/scripts/run_load.py")
    (clone / broken[-1]).write_text(FILES[broken[-1]].replace("'pack'", "1"))
    code, text = check_types(clone)
    assert code == 1
    found = {line.split(":")[0].replace("\\", "/") for line in text.splitlines() if "[arg-type]" in line}
    assert found == set(broken), text
