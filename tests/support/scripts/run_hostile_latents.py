"""Tries hostile LATENTs, masks and IMAGEs on the nodes; a script for ComfyUI's own Python, from its folder.

``run_hostile_latents.py SEED CASES`` prints one JSON object: how many cases were accepted and refused, and the first
failures (``failed``), of which there should be none. Also what sampling and its checks do with single inputs.
"""

import importlib
import json
import random
import sys
from types import SimpleNamespace
from typing import Any

SEED, CASES = (int(argument) for argument in sys.argv[1:])
sys.argv = sys.argv[:1]

import torch  # noqa: E402
from in_comfyui import load_pack  # noqa: E402
from torch import Tensor  # noqa: E402

load_pack()
import comfy.utils  # noqa: E402

core = importlib.import_module("pack.pusa_core")
latents = importlib.import_module("pack.nodes.comfyui.latents")
mask_node = importlib.import_module("pack.nodes.frame_mask").PusaFrameMask
keyframe_node = importlib.import_module("pack.nodes.encode_keyframes").PusaEncodeKeyframes
timesteps = importlib.import_module("pack.nodes.comfyui.timesteps")
mask_node.hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
dice = random.Random(SEED)
torch.manual_seed(SEED)


class CopyingVae:
    """In place of a VAE: latents of the values that the pictures have."""

    latent_channels, latent_dim = 16, 3

    def encode(self, frames: Tensor) -> Tensor:
        size = frames.shape[1] // 8, frames.shape[2] // 8
        return frames[::4, :1, :1, :1].permute(3, 0, 1, 2).expand(16, -1, *size)[None].contiguous()


def values(shape: list[int]) -> Tensor:
    kind = dice.choice(["zero"] * 3 + ["normal"] * 10 + ["nan", "inf"])
    tensor = torch.zeros(shape) if kind == "zero" else torch.randn(shape)
    if tensor.numel() and kind in ("nan", "inf"):
        tensor.view(-1)[dice.randrange(tensor.numel())] = float(kind)
    return tensor


def some_latent() -> dict[str, Any]:
    frames = dice.choice([0] + [1, 2, 3, 3, 5] * 3)
    channels, size = dice.choice([16] * 12 + [4, 48]), dice.choice([(4, 4)] * 8 + [(2, 6), (3, 4), (0, 2)])
    shape = [dice.choice([1] * 8 + [2, 0]), channels, frames, *size]
    if dice.random() < 0.05:
        shape = shape[:-1]
    latent: dict[str, Any] = {"samples": values(shape)}
    if dice.random() < 0.7:
        exact = [1, 1, frames, 1, 1]
        other = [dice.choice([0, 1, 2, 3, 9]) for _ in range(dice.choice([2, 3, 4, 5, 5]))]
        tokens = [1, 1, frames, size[0] // 2, size[1] // 2]
        mask = torch.zeros(dice.choice([exact] * 6 + [tokens] * 3 + [other]))
        if mask.numel():
            mask += torch.tensor(dice.choices([0.0, 0.3, 1.0, 1.0, 1.5, -0.1, float("nan")], k=mask.numel())).view(
                mask.shape
            )
        latent["noise_mask"] = mask
    return latent


def some_text(frames: int) -> str:
    names = [str(dice.randint(-frames, frames)) for _ in range(dice.randint(0, 3))]
    return ", ".join(f"{name}:{dice.choice(['0', '0.3', '1', '.5', '0..1', 'x', '2'])}" for name in names)


def check_read(latent: dict[str, Any]) -> None:
    """What Pusa Sampler reads."""
    samples = latents.check_samples(latent, "latent")
    levels = latents.noise_levels_of(latent, "latent")
    latents.check_given(samples, levels, "latent")
    grid = (samples.shape[2], samples.shape[3] // 2, samples.shape[4] // 2)
    assert levels.shape in (grid[:1], grid) and levels.ge(0).all() and levels.le(1).all()
    given = (levels.reshape(len(levels), -1) < 1).any(dim=1)
    assert samples[:, :, given].flatten(3).any(3).any(1).all(1).all() or not given.any() or len(samples) > 1


def check_masked(latent: dict[str, Any]) -> None:
    frames = latent["samples"].shape[2]
    result = mask_node.execute(dict(latent), some_text(frames), some_mask(frames), dice.choice([1.0, 0.3])).result[0]
    levels = latents.noise_levels_of(result, "latent")
    assert levels.ge(0).all() and levels.le(1).all() and torch.equal(result["samples"], latent["samples"])


def some_mask(frames: int) -> Tensor | None:
    shape = [dice.choice([1, 1, 1, max(4 * frames - 3, 0), frames, 0]), *dice.choice([(32, 32), (64, 48), (1, 1)])]
    return dice.choice([None, None, values(shape), values(shape[1:]), values(shape).clamp(0, 1), values([*shape, 3])])


def check_encoded(latent: dict[str, Any]) -> None:
    size = dice.choice([(32, 32)] * 6 + [(16, 48), (20, 32), (0, 16)])
    image = values([dice.choice([0, 1, 1, 1, 4, 9]), *size, dice.choice([3, 3, 3, 4, 1])])
    before = latent if dice.random() < 0.7 else None
    counts = dice.choice(["latent frames"] * 4 + ["pixel frames", "frames"])
    arguments = (CopyingVae(), image, dice.randint(-4, 4), dice.choice([1, 9, 13, 17, 10]), before, counts)
    result = keyframe_node.execute(*arguments).result[0]
    levels = latents.noise_levels_of(result, "latent")
    assert levels.ge(0).all() and levels.le(1).all() and result["samples"].isfinite().all()
    if before is not None:
        levels = latents.noise_levels_of(before, "latent")
        kept = (levels.reshape(len(levels), -1) < 1).any(dim=1)
        assert torch.equal(result["samples"][:, :, kept], before["samples"][:, :, kept])


def fuzz() -> dict[str, Any]:
    counts: dict[str, Any] = {"accepted": 0, "refused": 0, "failed": []}
    named = ("latent", "image", "mask", "noise level", "position", "size", "clip", "frames:", "pixel frame", "keyframe")
    for case in range(CASES):
        check, latent = dice.choice([check_read, check_masked, check_encoded]), some_latent()
        try:
            check(latent)
            counts["accepted"] += 1
        except ValueError as error:
            counts["refused"] += 1
            if not any(name in str(error) for name in named):
                counts["failed"].append(f"{case} {check.__name__}: {error!r}")
        except Exception as error:
            counts["failed"].append(f"{case} {check.__name__} of {list(latent['samples'].shape)}: {error!r}")
    counts["failed"] = counts["failed"][:10]
    return counts


def message_of(call: Any) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "accepted"


def main() -> None:
    with torch.inference_mode():
        report = fuzz()
    report["no pictures"] = message_of(lambda: keyframe_node.execute(CopyingVae(), torch.zeros(0, 32, 32, 3), 0, 9))
    empty = {"samples": torch.zeros(1, 16, 0, 4, 4)}
    report["no frames"] = message_of(lambda: latents.check_samples(empty, "latent"))
    report["no frames, mask"] = message_of(lambda: mask_node.execute(empty, "0:0"))
    levels = torch.tensor([0.0, 1 / 3, 1.0])
    mask = latents.with_noise_levels({}, torch.zeros(1, 16, 3, 4, 4), levels)["noise_mask"]
    resampled = comfy.utils.reshape_mask(mask.repeat(2, 1, 1, 1, 1), (2, 16, 3, 4, 4))
    report["mask kept"] = torch.equal(resampled.as_subclass(Tensor), levels.view(1, 1, 3, 1, 1).expand(2, 16, 3, 4, 4))
    by_token = torch.rand(3, 2, 2)
    mask = latents.with_noise_levels({}, torch.zeros(1, 16, 3, 4, 4), by_token)["noise_mask"]
    resampled = comfy.utils.reshape_mask(mask, (2, 16, 3, 4, 4)).as_subclass(Tensor)
    report["mask of tokens kept"] = torch.equal(resampled[1, 3, :, ::2, 1::2], by_token) and torch.equal(
        latents.noise_levels_of({"samples": torch.zeros(2, 16, 3, 4, 4), "noise_mask": resampled}, "latent"), by_token
    )
    report["mask of other tokens"] = message_of(lambda: comfy.utils.reshape_mask(mask, (1, 16, 3, 4, 8)))
    uneven = torch.rand(1, 1, 3, 4, 4)
    report["mask within tokens"] = message_of(
        lambda: latents.noise_levels_of({"samples": torch.zeros(1, 16, 3, 4, 4), "noise_mask": uneven}, "latent")
    )
    mask = latents.with_noise_levels({}, torch.zeros(1, 16, 3, 4, 4), levels)["noise_mask"]
    report["mask of 4"] = message_of(lambda: comfy.utils.reshape_mask(mask, (1, 16, 4, 4, 4)))
    report["other frames"] = message_of(lambda: timesteps.check_frames(torch.zeros(3), torch.zeros(1, 16, 4, 2, 2)))
    options = {timesteps.KEY: torch.tensor([0.0, 500.0, 1000.0]), "sigmas": torch.ones(1)}
    for frames in (3, 4):
        x = torch.zeros(1, 16, frames, 2, 2)
        report[f"wrapper of {frames}"] = message_of(
            lambda x=x: timesteps.per_frame_timesteps(
                lambda x, *_, **__: torch.zeros_like(x), x, torch.ones(1), None, transformer_options=options
            )
        )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
