"""Random prompts to one ComfyUI, with interrupts in between; every result must be that of a prompt run alone.

    python -m benchmarks.soak --prompts 300

Starts a ComfyUI on the CPU (``$COMFYUI_PATH``) with the demo model. Prompts differ in task, steps, guidance, LoRA
strength, noise levels and sampler, and some are interrupted at a random moment. Each setting that finished is run once
more on a freshly started server; the latents must agree bit for bit. The server's memory must not keep growing. Exits
with 1 where either fails.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import children_resident
from tools.comfy_client import ComfyClient, Graph, RunFailed
from tools.comfyui import find_comfyui, make_base, running_server

log = logging.getLogger(__name__)

MODEL, LORA = "pusa_demo_wan_t2v.safetensors", "pusa_demo_lora.safetensors"
SETTINGS = 24  # different prompts, so that results are met again
INTERRUPTED = 0.25  # of the prompts
GROWTH = 300 << 20  # bytes that the second half of the prompts may add


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def random_graph(dice: random.Random) -> Graph:
    """A prompt whose result is the node ``video``."""
    size, length = dice.choice([32, 64]), dice.choice([5, 9, 13])
    graph = {
        "model": node("PusaLoad", model_name=MODEL, lora_name=LORA, lora_strength=dice.choice([0.5, 1.0])),
        "demo": node("PusaDemoLoader"),
        "positive": node("CLIPTextEncode", clip=["demo", 0], text=dice.choice(["a red square", "a blue circle"])),
        "negative": node("CLIPTextEncode", clip=["demo", 0], text=""),
        "picture": node("EmptyImage", width=size, height=size, batch_size=1, color=dice.choice([0x3366CC, 0xCC8833])),
        "empty": node("EmptyHunyuanLatentVideo", width=size, height=size, length=length, batch_size=1),
    }
    latent = "empty"
    for position in dice.choice([[], [0], [0, -1]]):
        placed = f"keyframe{position}"
        links: dict[str, Any] = {"vae": ["demo", 1], "image": ["picture", 0], "latent": [latent, 0]}
        graph[placed] = node("PusaEncodeKeyframes", position=position, length=length, **links)
        latent = placed
    if latent != "empty" and dice.random() < 0.5:
        graph["mask"] = node("PusaFrameMask", latent=[latent, 0], noise_levels=dice.choice(["0:0.3", "0:0.7"]))
        latent = "mask"
    return graph | sampler(dice, latent)


def sampler(dice: random.Random, latent: str) -> Graph:
    prompts = {"positive": ["positive", 0], "negative": ["negative", 0]}
    common = {"seed": dice.randrange(3), "steps": dice.choice([2, 4, 6]), "cfg": dice.choice([1.0, 3.0]), **prompts}
    if dice.random() < 0.6:
        refresh = dice.choice([0, 1, 2])
        links: dict[str, Any] = {"model": ["model", 0], "latent": [latent, 0]}
        return {"video": node("PusaSampler", shift=5.0, given_frames_refresh=refresh, **links, **common)}
    core = {"sampler_name": dice.choice(["euler", "dpmpp_2m"]), "scheduler": "simple", "denoise": 1.0}
    links = {"model": ["patched", 0], "latent_image": [latent, 0]}
    return {"patched": node("PusaPatchModel", model=["model", 0]), "video": node("KSampler", **links, **core, **common)}


@dataclass
class Soak:
    """What came out: the latents of each setting, and what was wrong."""

    results: dict[int, Tensor] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)  # bytes after each prompt
    finished: int = 0
    interrupted: int = 0
    wrong: list[str] = field(default_factory=list)

    def compare(self, setting: int, latents: Tensor, what: str) -> None:
        expected = self.results.setdefault(setting, latents)
        if not torch.equal(latents, expected):
            self.wrong.append(f"setting {setting} {what} differs by {(latents - expected).abs().max():.2g}")

    @property
    def growth(self) -> int:
        """Bytes that the second half of the prompts added."""
        return self.memory[-1] - self.memory[len(self.memory) // 2] if self.memory else 0


@contextmanager
def fresh_server(comfyui: Path) -> Iterator[ComfyClient]:
    with tempfile.TemporaryDirectory() as folder:
        make_base(base := Path(folder) / "base")
        with running_server(comfyui, base) as url:
            yield ComfyClient(url)


def interrupt(comfy: ComfyClient, graph: Graph, dice: random.Random) -> bool:
    """Queue a prompt and interrupt it after a moment; whether that came before its end."""
    save = node("SaveLatent", samples=["video", 0], filename_prefix="interrupted")
    prompt = comfy.queue({**graph, "save_latent": save})
    time.sleep(dice.uniform(0, 1.5))
    comfy.post("/interrupt", {})
    try:
        comfy.wait(prompt)
    except RunFailed as error:
        if "interrupted" not in str(error):
            raise
        return True
    return False


def run_together(comfy: ComfyClient, graphs: list[Graph], prompts: int, dice: random.Random) -> Soak:
    soak = Soak()
    for done in range(prompts):
        setting = dice.randrange(len(graphs))
        # a seed of its own, so that an interrupted prompt is not answered from the cache
        hurried = graphs[setting] | {"video": {**graphs[setting]["video"]}}
        hurried["video"]["inputs"] = {**hurried["video"]["inputs"], "seed": 1000 + done, "steps": 200}
        try:
            if dice.random() < INTERRUPTED:
                soak.interrupted += interrupt(comfy, hurried, dice)
            else:
                soak.compare(setting, comfy.latent(graphs[setting], "video"), f"as prompt {done}")
                soak.finished += 1
            if dice.random() < 0.1:
                comfy.post("/free", {"unload_models": True, "free_memory": True})
        except RunFailed as error:
            soak.wrong.append(f"setting {setting} as prompt {done}: {error}")
        soak.memory.append(children_resident())
        if done % 20 == 19:
            log.info("%d prompts, %d interrupted, %d MB", done + 1, soak.interrupted, soak.memory[-1] >> 20)
    return soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("no ComfyUI found: set COMFYUI_PATH to a checkout")
    dice = random.Random(args.seed)
    graphs = [random_graph(dice) for _ in range(min(SETTINGS, args.prompts))]
    with fresh_server(comfyui) as comfy:
        soak = run_together(comfy, graphs, args.prompts, dice)
    with fresh_server(comfyui) as comfy:
        for setting in sorted(soak.results):
            soak.compare(setting, comfy.latent(graphs[setting], "video"), "alone")
            comfy.post("/free", {"unload_models": True, "free_memory": True})
    if soak.growth > GROWTH:
        soak.wrong.append(f"memory grew by {soak.growth >> 20} MB in the second half of the prompts")
    for line in soak.wrong:
        log.error("%s", line)
    log.info(
        "%d prompts finished, of %d settings, %d interrupted; %d MB at the end, %+d MB in the second half; %d wrong",
        soak.finished,
        len(soak.results),
        soak.interrupted,
        soak.memory[-1] >> 20,
        soak.growth >> 20,
        len(soak.wrong),
    )
    return bool(soak.wrong)


if __name__ == "__main__":
    sys.exit(main())
