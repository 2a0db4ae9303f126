"""The training command in a separate process, with ComfyUI's VAE and text encoders.

``python training_child.py COMFYUI_FOLDER DEVICE ARGUMENT...`` is ``python -m pusa_core.training ARGUMENT...``, except
that it has no dependencies beyond ComfyUI's and reads every file that ComfyUI's own loaders read.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[2]
NAME = "pusa_pack"  # the folder name may not be a valid identifier


def import_pack() -> None:
    """Make this pack importable as ``NAME``, regardless of its folder's path and name."""
    spec = importlib.util.spec_from_file_location(NAME, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{PACK / '__init__.py'} is no Python file; install the pack again")
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def import_encoders(device: str) -> Any:
    """Import ``training_encoders`` and with it ComfyUI, lazily: that takes seconds and is only needed for encoding."""
    # first, because some versions put comfy/ on the path, which has another module called utils
    importlib.import_module("utils.extra_config")
    from comfy.cli_args import args

    args.cpu = device == "cpu"
    return importlib.import_module(f"{NAME}.nodes.comfyui.training_encoders")


def main() -> int:
    comfyui, device, *arguments = sys.argv[1:]
    here = str(Path(__file__).resolve().parent)  # on the path as the script's folder, but not meant for imports
    sys.path[:] = [comfyui, *(folder for folder in sys.path if folder != here)]
    import_pack()
    training = importlib.import_module(f"{NAME}.pusa_core.cli.train")
    return training.main(
        arguments,
        load_vae=lambda path, **_: import_encoders(device).TrainingVae(path),
        load_text_encoder=lambda path, **_: import_encoders(device).text_encoder(path),
    )


if __name__ == "__main__":
    sys.exit(main())
