"""A step of the network in a MODEL, of this checkout against an earlier one: ``python -m benchmarks.revisions REV``.

Both packs are imported in one process of ComfyUI's Python and take turns, so that what else the machine does meets
both. A second copy of this checkout's network shows the noise: what two equal networks differ by. Prints the seconds of
a step without patches, and whether the velocities have the same bits.
"""

import argparse
import importlib
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[1]
SIZES = {"dim": 384, "ffn_dim": 1536, "num_heads": 3, "num_layers": 4, "in_dim": 16, "out_dim": 16}
LATENTS = (1, 16, 9, 30, 52)
TEXT = 64


def adopted(name: str, root: str) -> Any:
    """ComfyUI's network with weights drawn from one seed, adopted by the pack in ``root``, as Pusa Load does it."""
    import comfy.supported_models
    import torch

    spec = importlib.util.spec_from_file_location(name, Path(root) / "__init__.py", submodule_search_locations=[root])
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings = {"image_model": "wan2.1", "model_type": "t2v", "text_dim": 4096, "freq_dim": 256, "eps": 1e-6, **SIZES}
    made = comfy.supported_models.WAN21_T2V(settings)
    made.set_inference_dtype(torch.float32, None)
    network = made.get_model({}, "").diffusion_model
    generator = torch.Generator().manual_seed(0)
    for key, parameter in network.named_parameters():
        offset = 1.0 if "norm" in key and key.endswith("weight") else 0.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.03 + offset
    return importlib.import_module(f"{name}.nodes.comfyui.network").adopt(network)


def measure(earlier: str, rounds: int) -> None:
    """Run in ComfyUI's folder by its Python."""
    sys.path.insert(0, str(Path.cwd()))
    from comfy.cli_args import args

    args.cpu = True
    import torch

    networks = {
        "earlier": adopted("earlier", earlier),
        "now": adopted("now", str(PACK)),
        "again": adopted("again", str(PACK)),
    }
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(LATENTS, generator=generator)
    context = torch.randn(1, TEXT, 4096, generator=generator)
    timestep = torch.linspace(0, 1000, LATENTS[2])[None]
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    velocities = {}
    with torch.inference_mode():
        for index in range(rounds + 1):
            for name in list(networks)[:: 1 if index % 2 else -1]:
                started = time.perf_counter()
                velocities[name] = networks[name](latents, timestep, context, transformer_options={})
                if index:  # the first round warms up
                    seconds[name].append(time.perf_counter() - started)
    pairs = {"now": "earlier", "again": "now"}
    for name, taken in seconds.items():
        line = f"{name}: {statistics.median(taken):.3f} s"
        if name in pairs:
            ratios = [a / b for a, b in zip(taken, seconds[pairs[name]], strict=True)]
            low, _, high = statistics.quantiles(ratios, n=4)
            line += f", {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}) of {pairs[name]}"
        print(line)  # noqa: T201
    same = torch.equal(velocities["now"], velocities["earlier"])
    print("the same bits" if same else "other bits")  # noqa: T201


def main() -> None:
    from tools.comfyui import find_comfyui, python_of

    parser = argparse.ArgumentParser(prog="python -m benchmarks.revisions", description=__doc__)
    parser.add_argument("revision", help="of this repository, as git names it")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each network (default: %(default)d)")
    arguments = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("no ComfyUI found; set COMFYUI_PATH")
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", arguments.revision], cwd=PACK, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        command = [python_of(comfyui), __file__, "--worker", folder, str(arguments.rounds)]
        subprocess.run(command, cwd=comfyui, check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main()
