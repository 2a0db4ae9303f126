"""For scripts that run in ComfyUI's own Python, from its folder: this pack and ComfyUI, imported for the CPU."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACK = Path(__file__).resolve().parents[3]


def load_pack() -> ModuleType:
    """This pack as the package ``pack``; its nodes are in ``pack.nodes``."""
    sys.path.insert(0, str(Path.cwd()))
    from comfy.cli_args import args

    args.cpu = True  # before anything else of ComfyUI is imported
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None and spec.loader is not None
    module = sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
