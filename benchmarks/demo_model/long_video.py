"""How far a long video drifts, hop by hop: ``python -m benchmarks.demo_model.long_video``.

Goes on from the first frame of held-out scenes, by the recipes of ``RECIPES``; at every hop the prompt turns the object
round. Writes ``demo/LONG.md``. What was measured before is read from ``benchmarks/.cache/long_video.json``, so that an
interrupted run goes on; with other options it begins anew. The defaults take about an hour on one core.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.demo_model.long_report import HopMeasures, report
from benchmarks.demo_model.long_truth import Truth, measure_hop, true_video
from demo.clips import Scene, draw_scene
from demo.training.machine import DEVICE, machine
from pusa_core import Settings, WanModel, load_model
from pusa_core.film.film import STILL
from pusa_core.media.demo_text import encode_text
from pusa_core.media.vae import WanVae
from pusa_core.sampling.denoise import denoise
from pusa_core.sampling.keyframes import STRIDE
from pusa_core.sampling.long_video import Past, Sample, Window, make_hop
from pusa_core.sampling.windows import CHUNK, ROLLING, Recipe, calls_of_shift
from pusa_core.storage.atomic import write_whole
from pusa_core.weights.demo_files import LONG_LORA, LORA_STRENGTH, VAE

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "demo" / "LONG.md"
CACHE = ROOT / "benchmarks" / ".cache" / "long_video.json"
FIRST_SCENE = 5000  # held out
WINDOW = 21
PIXELS = 13  # frames that the pixel chain encodes again

_LATENT = replace(CHUNK, anchor=False, history=4, levels=(0.0, 0.0), match_colour=False, fade=0)
_ANCHOR = replace(_LATENT, anchor=True)
_LEVELS = replace(CHUNK, match_colour=False, fade=0)
_ROLLING = replace(ROLLING, levels=(0.0, 0.0), match_colour=False)
How = Recipe | Literal["truth", "pixel chain"]
RECIPES: dict[str, How] = {
    "the truth, through the VAE": "truth",
    "the default: all of them": CHUNK,
    "pixel chain: decode, last 13 frames, encode again": "pixel chain",
    "latent chain: last 4 latents, level 0": _LATENT,
    "+ anchor": _ANCHOR,
    "+ levels: anchor, 2 latents at 0.1 and 0.4": _LEVELS,
    "+ matched colour": replace(CHUNK, fade=0),
    "rolling (the default)": ROLLING,
    "rolling, history at level 0, colour not matched": _ROLLING,
    "rolling without anchor, the same": replace(_ROLLING, anchor=False, history=5),
    "the default with history guidance 1.5": replace(CHUNK, history_guidance=1.5),
}


@dataclass(frozen=True)
class Plan:
    """What is measured: ``scenes`` of them, ``hops`` each, in ``steps`` steps; of the default, ``most_hops``."""

    scenes: int
    hops: int
    steps: int
    most_hops: int

    @property
    def settings(self) -> Settings:
        return Settings(width=64, height=64, steps=self.steps)


LONGEST = "the default, longest"
Hops = Iterator[Tensor]  # the given picture as it is decoded, and the new frames [B, T, H, W, 3] of every hop


def network(model: WanModel, settings: Settings, recipe: Recipe, contexts: Tensor) -> Sample:
    """The demo model at the prompts ``[hop parity, B, L, 4096]`` of a batch; a prompt is "0" or "1"."""
    negative = encode_text("").expand(contexts.shape[1], -1, -1)

    def sample(window: Window, prompt: str) -> Tensor:
        history = window.history(recipe)
        context = contexts[int(prompt)]
        return denoise(model, window.start, window.table, context, negative, settings, history=history).cpu()

    return sample


def latent_hops(plan: Plan, recipe: Recipe, sample: Sample, still: Tensor, vae: WanVae) -> Hops:
    """Latents handed over, and decoded once, in order."""
    past, decode = Past.start(still[:, :, :1], WINDOW, still[:, :, 1:]), vae.decoder()
    yield decode(still[:, :, :1])
    for hop in range(plan.hops):
        blocks = (WINDOW - recipe.context) // recipe.block if recipe.rolls_after(past.length) else 0
        made = make_hop(past, recipe, plan.settings, hop, str(hop % 2), blocks, sample)
        past = past.followed_by(made)
        yield torch.cat([decode(latent) for latent in made.latents.split(1, dim=2)], dim=1)


def pixel_hops(plan: Plan, sample: Sample, still: Tensor, vae: WanVae) -> Hops:
    """Every hop is a video of its own that begins with the last frames of the one before, encoded again."""
    given = still[:, :, :1]
    yield vae.decode_batch(given)
    recipe = replace(_LATENT, history=3)
    for hop in range(plan.hops):
        # image latent and three more, all given as they are: an anchor and its history
        past = replace(Past.start(given, WINDOW), reference=None)
        made = make_hop(past, replace(recipe, anchor=True), plan.settings, hop, str(hop % 2), 0, sample)
        frames = vae.decode_batch(torch.cat((given, made.latents), dim=2))
        new = frames[:, 4 * (given.shape[2] - 1) + 1 :]
        given = vae.encode(new[:, -PIXELS:])
        yield new


def true_hops(plan: Plan, scenes: list[Scene], vae: WanVae) -> Hops:
    """What is right, encoded and decoded: the least that a hop can err by."""
    new = STRIDE * (WINDOW - CHUNK.context)
    videos = (torch.from_numpy(true_video(scene, new, plan.hops))[None] for scene in scenes)
    return iter(torch.cat([vae.decode_batch(vae.encode(video)) for video in videos]).split([1] + [new] * plan.hops, 1))


def hops_of(plan: Plan, how: How, scenes: list[Scene], sample: Sample, still: Tensor, vae: WanVae) -> Hops:
    if how == "truth":
        return true_hops(plan, scenes, vae)
    return pixel_hops(plan, sample, still, vae) if how == "pixel chain" else latent_hops(plan, how, sample, still, vae)


def measure(plan: Plan, how: How, model: WanModel, vae: WanVae) -> list[HopMeasures]:
    """The means over the scenes at every hop."""
    scenes = [draw_scene(FIRST_SCENE + index) for index in range(plan.scenes)]
    truths = [Truth(scene) for scene in scenes]
    pictures = np.stack([scene.render([0])[0] for scene in scenes])
    still = vae.encode(torch.from_numpy(pictures)[:, None].repeat(1, STILL, 1, 1, 1))
    contexts = torch.stack([torch.cat([encode_text(truth.caption(hop)) for truth in truths]) for hop in (0, 1)])
    sample = network(model, plan.settings, how if isinstance(how, Recipe) else CHUNK, contexts)
    made = hops_of(plan, how, scenes, sample, still, vae)
    before, results, started = next(made)[:, -1].numpy(), [], time.perf_counter()
    for new in made:
        seconds = time.perf_counter() - started
        videos = new.numpy()
        each = [measure_hop(*one) for one in zip(truths, videos, before, strict=True)]
        mean = {name: float(np.mean([errors[name] for errors in each])) for name in each[0]}
        results.append(HopMeasures(**mean, frames=videos.shape[1], seconds=seconds / plan.scenes))
        before, started = videos[:, -1], time.perf_counter()
    return results


def cache_speed_up(plan: Plan, model: WanModel, rounds: int = 3) -> float:
    """How much faster a new frame is with the KV cache of given frames, with 11 of 21 latents given as they are."""
    recipe = replace(CHUNK, history=10, levels=(0.0, 0.0), match_colour=False)
    past = Past.start(torch.randn(1, 16, WINDOW, 8, 8, generator=torch.Generator().manual_seed(0)), WINDOW)
    contexts = encode_text("a red square")[None].expand(2, -1, -1, -1)
    seconds: dict[int, list[float]] = {1: [], 0: []}
    for _ in range(rounds + 1):
        for refresh, taken in seconds.items():
            settings = replace(plan.settings, given_frames_refresh=refresh, steps=10)
            started = time.perf_counter()
            make_hop(past, recipe, settings, 0, "0", 0, network(model, settings, recipe, contexts))
            taken.append(time.perf_counter() - started)
    return float(np.median([every / once for every, once in zip(seconds[1][1:], seconds[0][1:], strict=True)]))


def network_calls(how: How, steps: int) -> int:
    """Calls of the network for a hop, with guidance."""
    if how == "truth":
        return 0
    if how == "pixel chain" or how.mode == "chunk":
        calls = steps
    else:
        width = WINDOW - how.context
        calls = width // how.block * calls_of_shift(width, how.block, steps)
    return calls * 2 * (2 if isinstance(how, Recipe) and how.history_guidance != 1 else 1)


def read_cache(plan: Plan) -> dict:
    known = json.loads(CACHE.read_text(encoding="utf-8")) if CACHE.exists() else {}
    return known if known.get("plan") == asdict(plan) else {"plan": asdict(plan), "recipes": {}}


def write_cache(known: dict) -> None:
    text = json.dumps(known, indent=1)
    write_whole(CACHE, lambda path: path.write_text(text, encoding="utf-8"))


def write_report(known: dict, plan: Plan, path: Path) -> None:
    """The page of what has been measured so far."""
    kept = {name: [HopMeasures(**hop) for hop in hops] for name, hops in known["recipes"].items()}
    longest, missing = kept.get(LONGEST, []), [name for name in RECIPES if name not in kept]
    measured = {name: kept[name] for name in RECIPES if name in kept}
    calls = {name: network_calls(RECIPES[name], plan.steps) for name in measured}
    path.write_text(report(measured, calls, longest, missing, plan, known.get("cache"), machine()), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--hops", type=int, default=10)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--most-hops", type=int, default=40, help="of the default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan(args.scenes, args.hops, args.steps, args.most_hops)
    known = read_cache(plan)
    loras: list[tuple[str | PathLike, float]] = [("demo", LORA_STRENGTH), (LONG_LORA, LORA_STRENGTH)]
    model, vae = load_model("demo", loras, device=DEVICE, dtype=torch.float32), WanVae(VAE, DEVICE)
    longest = replace(plan, hops=max(plan.hops, plan.most_hops))
    for name, how in {LONGEST: CHUNK, **RECIPES}.items():
        if name not in known["recipes"]:
            if how == CHUNK and name != LONGEST:  # the same bits
                made = known["recipes"][LONGEST][: plan.hops]
            else:
                hops = measure(longest if name == LONGEST else plan, how, model, vae)
                made = [asdict(each) for each in hops]
            known["recipes"][name] = made
            write_cache(known)
            write_report(known, plan, args.out)
            log.info("%s: done", name)
    if "cache" not in known:
        known["cache"] = cache_speed_up(plan, model)
        write_cache(known)
        write_report(known, plan, args.out)


if __name__ == "__main__":
    main()
