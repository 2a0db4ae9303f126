"""Measures noise levels on every kind of model: a script for ComfyUI's Python, run from ComfyUI's folder.

Prints one JSON object, by name of the kind: ``missing`` from this version; ``refused``, the message; or what
:func:`measure` found.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path.cwd())]
sys.path.append(str(PACK))  # behind ComfyUI, whose nodes.py is not our folder

from comfy.cli_args import args  # noqa: E402

args.cpu = True

import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.other_models.networks import (  # noqa: E402
    OTHER_KINDS,
    REFUSED,
    WAN_KINDS,
    Kind,
    build,
    nested,
    part_frames,
    prompt,
    streams,
)
from benchmarks.other_models.oracle import Oracle, raw  # noqa: E402

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # MiniMax-H3 takes steps of 1 / 256
EQUAL = 0.5
STEPS = 10


def load_pack() -> None:
    spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None and spec.loader is not None
    module = sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def of_pack(name: str) -> Any:
    return importlib.import_module(f"pack.nodes.comfyui.{name}")


def masks(kind: Kind, levels: tuple[float, ...]) -> list[Tensor]:
    """A ``noise_mask`` for each stream; the sound has them too, and the last one behind them."""
    video = torch.tensor(levels).view(1, 1, -1, 1, 1)
    if not kind.sound:
        return [video]
    axis = max(range(1, 3), key=lambda index: kind.sound[index] * (kind.sound[index] == 6))
    sound = torch.full((1, *kind.sound), levels[-1])
    shape = [1, 1, 1, 1]
    shape[axis + 1] = len(levels)
    sound.narrow(axis + 1, 0, len(levels)).copy_(
        torch.tensor(levels).view(shape).expand(sound.narrow(axis + 1, 0, len(levels)).shape)
    )
    return [video, sound]


class Runs:
    """Sampling of one kind with fixed noise, given latents and prompt."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.noise = nested(streams(kind, 2))
        self.given = nested(streams(kind, 3))
        self.prompt = prompt(kind)

    def sample(self, model: Any, name: str, sigmas: Tensor, levels: tuple[float, ...] | None) -> list[Tensor]:
        mask = None if levels is None else nested(masks(self.kind, levels))
        sampler = comfy.samplers.sampler_object(name)
        settings = (1.0, sampler, sigmas, self.prompt, self.prompt, self.given)
        with torch.inference_mode():
            result = comfy.sample.sample_custom(
                model, self.noise, *settings, noise_mask=mask, seed=5, disable_pbar=True
            )
        return result.unbind() if self.kind.sound else [result]


def schedule(model: Any) -> Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)


def scaled(model: Any, sigmas: Tensor, level: float) -> Tensor:
    """``sigmas`` at ``level`` times their fraction of noise."""
    if "COSMOS_RFLOW" not in {each.__name__ for each in type(model.get_model_object("model_sampling")).__mro__}:
        return sigmas * level
    fraction = level * sigmas / (1 + sigmas)
    return fraction / (1 - fraction)


def measure(kind: Kind, change: Callable[[Any], Any]) -> dict[str, Any]:
    """What comes out of ``change(MODEL)``, the MODEL as a user has it before Pusa Patch Model.

    With a network that knows the truth: ``error``, by sampler, the greatest difference from it where something is
    generated; ``core``, that of ComfyUI with the same mask, root mean square by frame; ``kept``, whether all samplers
    keep the bits of what is given; ``beside``, the error in the time of tokens that are not the video's.

    With ComfyUI's own network and random weights: ``alone``, the greatest difference of a frame from sampling at its
    level only; ``equal``, of equal levels from ComfyUI's sampler at that level; ``stock``, of level 1.
    """
    model = change(build(kind))
    patched = of_pack("noise_levels").read_noise_levels(model)
    of_pack("bases").check_base(model, "model")
    runs, sigmas = Runs(kind), schedule(model)
    part = {
        "stock": difference(
            runs.sample(patched, "dpmpp_2m", sigmas, None), runs.sample(model, "dpmpp_2m", sigmas, None)
        )
    }
    equal = runs.sample(patched, "euler", sigmas, (EQUAL,) * len(LEVELS))[:1]
    part["equal"] = difference(equal, runs.sample(model, "euler", scaled(model, sigmas, EQUAL), None)[:1])
    part_frames(kind, model.model)
    together = runs.sample(patched, "euler", sigmas, LEVELS)[0]
    alone = [runs.sample(model, "euler", scaled(model, sigmas, level), None)[0] for level in LEVELS[1:]]
    frames = torch.cat([each[:, :, index + 1 : index + 2] for index, each in enumerate(alone)], 2)
    part["alone"] = difference([together[:, :, 1:]], [frames])
    return {**part, **with_oracle(kind, model, patched, runs, sigmas)}


def with_oracle(kind: Kind, model: Any, patched: Any, runs: Runs, sigmas: Tensor) -> dict[str, Any]:
    truth = streams(kind, 4)
    oracle = model.model.diffusion_model._forward = Oracle(kind, model.model, truth)
    goal = raw(model.model, truth).unbind() if kind.sound else [raw(model.model, truth)]
    given = runs.given.unbind() if kind.sound else [runs.given]
    levels = [mask.expand_as(each) for mask, each in zip(masks(kind, LEVELS), given, strict=True)]
    report: dict[str, Any] = {"error": {}, "kept": True}
    for name in of_pack("exact_samplers").EXACT.values():
        result = runs.sample(patched, name, sigmas, LEVELS)
        made = [each[level > 0] - aim[level > 0] for each, aim, level in zip(result, goal, levels, strict=True)]
        report["error"][name] = max(each.abs().max().item() for each in made)
        report["kept"] &= all(
            torch.equal(each[level == 0], old[level == 0])
            for each, old, level in zip(result, given, levels, strict=True)
        )
    report["beside"] = oracle.beside
    runs.given = raw(model.model, truth)
    core = runs.sample(model, "euler", sigmas, LEVELS)[0]
    report["core"] = [(core - goal[0])[:, :, index].square().mean().sqrt().item() for index in range(len(LEVELS))]
    return report


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The greatest difference, in proportion to the greatest value."""
    pairs = list(zip(found, expected, strict=True))
    return max((a - b).abs().max().item() for a, b in pairs) / max(b.abs().max().item() for _, b in pairs)


def unchanged(model: Any) -> Any:
    return model


def talking(model: Any) -> Any:
    """As from WanInfiniteTalkToVideo: the first frame is put into the network's input at every step."""
    from comfy.ldm.wan.model_multitalk import InfiniteTalkOuterSampleWrapper
    from comfy.patcher_extension import WrappersMP

    first = streams(WAN_KINDS[1], 3)[0][:, :, :1]
    wrapper = InfiniteTalkOuterSampleWrapper(first, None)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "infinite_talk_outer_sample", wrapper)
    return model


def report_of(kind: Kind, change: Callable[[Any], Any] = unchanged) -> dict[str, Any]:
    if not kind.supported:
        return {"missing": True}
    try:
        return measure(kind, change)
    except ValueError as error:
        if kind not in REFUSED:
            raise
        return {"refused": str(error)}
    except ImportError:
        return {"missing": True}


def main() -> None:
    load_pack()
    only = sys.argv[1:]
    kinds = [kind for kind in (*WAN_KINDS, *OTHER_KINDS, *REFUSED) if not only or kind.name in only]
    report = {kind.name: report_of(kind) for kind in kinds}
    if not only or "InfiniteTalk" in only:
        report["InfiniteTalk"] = report_of(WAN_KINDS[1], talking)
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
