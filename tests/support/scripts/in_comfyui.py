"""For scripts that run in ComfyUI's own Python, from its folder: ComfyUI and this pack, imported for the CPU."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACK = Path(__file__).resolve().parents[3]


def use_cpu() -> None:
    """Make ComfyUI importable; to be called before anything of it is imported."""
    sys.path.insert(0, str(Path.cwd()))
    from comfy.cli_args import args

    args.cpu = True


def load_pack() -> ModuleType:
    """This pack as the package ``pack``; its nodes are in ``pack.nodes``. Calls :func:`use_cpu`."""
    use_cpu()
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None and spec.loader is not None
    module = sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
