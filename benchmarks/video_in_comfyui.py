"""A whole video by the nodes in a real ComfyUI, part by part; a step of ``benchmarks.whole_video``.

The same graph with this project's network and with ComfyUI's own, on one server that has warmed up. A part's seconds
are those between the messages with which the server tells a page what it executes.
"""

import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.in_comfyui_graphs import node
from benchmarks.in_comfyui_watch import Timeline, watch
from tools.comfy_client import ComfyClient, Graph
from tools.comfyui import make_base, python_of, running_server

MODEL, TEXT, VAE = "random_wan.safetensors", "random_umt5.safetensors", "random_vae.safetensors"
NETWORKS = {
    "pusa": node("PusaLoad", model_name=MODEL, lora_name="none", lora_strength=1.0),
    "comfyui": node("UNETLoader", unet_name=MODEL, weight_dtype="default"),
}
PARTS = {"positive": "text", "negative": "text", "start": "encode", "steps": "steps", "decode": "decode"}
PARTS |= {"video": "write", "save": "write"}
"""Nodes, and the part of a video that each is."""

WRITE_VAE = """
import sys
import torch
from safetensors.torch import save_file
from comfy.cli_args import args
args.cpu = True
from comfy.ldm.wan.vae import WanVAE
shape = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temperal_downsample": [False, True, True]}
torch.manual_seed(0)
weights = WanVAE(dim=96, z_dim=16, attn_scales=[], **shape).state_dict()  # not initialised
for name, weight in weights.items():
    if name.endswith("bias"):
        weight.zero_()
    elif name.endswith("gamma"):
        weight.fill_(1.0)
    else:
        weight.normal_(0.0, weight[0].numel() ** -0.5)
save_file(weights, sys.argv[1])
"""

WRITE_VOCABULARY = """
import sys
import sentencepiece
sentences = ["a small red square moves slowly left", "a large blue disc turns round in the rain"]
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(sentences), model_writer=sys.stdout.buffer, vocab_size=60, hard_vocab_limit=False, pad_id=0,
    eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
)
"""


def write_models(comfyui: Path, models: Path, weights: Path, text: Mapping[str, Tensor] | None) -> None:
    """Link the network's ``weights``, and write a VAE of random ones and a text encoder.

    ``text``: weights of a UMT5-XXL encoder; without, the demo model's encoder is used, and there is nothing to write.
    """

    def run(script: str, *arguments: str) -> bytes:
        command = [python_of(comfyui), "-c", script, *arguments]
        done = subprocess.run(command, cwd=comfyui, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace")[-400:])
        return done.stdout

    (models / "diffusion_models" / MODEL).symlink_to(weights)
    run(WRITE_VAE, str(models / "vae" / VAE))
    if text is not None:
        vocabulary = torch.frombuffer(bytearray(run(WRITE_VOCABULARY)), dtype=torch.uint8)
        (models / "text_encoders").mkdir()
        save_file({**text, "spiece_model": vocabulary}, models / "text_encoders" / TEXT)


@dataclass(frozen=True)
class Video:
    """Image to video; ``own_text``: with the written text encoder, not the demo model's."""

    network: str
    steps: int
    cfg: float
    size: Mapping[str, int]
    own_text: bool

    def graph(self, seed: int) -> Graph:
        """Nothing in it but the models is that of another ``seed``, so that no result is cached."""
        text = node("CLIPLoader", clip_name=TEXT, type="wan") if self.own_text else node("PusaDemoLoader")
        length, picture = self.size["length"], {"batch_size": 1, "color": 0x3366CC + seed}
        picture |= {"width": self.size["width"], "height": self.size["height"]}
        inputs = {"positive": ["positive", 0], "negative": ["negative", 0], "latent": ["start", 0], "seed": seed}
        inputs |= {"steps": self.steps, "cfg": self.cfg, "shift": 5.0}
        return {
            "network": NETWORKS[self.network],
            "text": text,
            "vae": node("VAELoader", vae_name=VAE),
            "positive": node("CLIPTextEncode", clip=["text", 0], text=f"a small red square moves slowly left {seed}"),
            "negative": node("CLIPTextEncode", clip=["text", 0], text=f"a large blue disc {seed}"),
            "picture": node("EmptyImage", **picture),
            "start": node("PusaEncodeKeyframes", vae=["vae", 0], image=["picture", 0], position=0, length=length),
            "steps": node("PusaSampler", model=["network", 0], **inputs),
            "decode": node("VAEDecode", samples=["steps", 0], vae=["vae", 0]),
            "video": node("CreateVideo", images=["decode", 0], fps=16.0),
            "save": node("SaveVideo", video=["video", 0], filename_prefix="video", format="auto", codec="auto"),
        }


def seconds_of_parts(timeline: Timeline, own: int, of: int) -> dict[str, float]:
    """Seconds of each part, with the blocks counted that the network lacks: it has ``own`` of ``of``.

    They are added to the steps alone, at the interval from one step's end to the next; not to what the sampler does
    before and after.
    """
    found: dict[str, float] = defaultdict(float)
    for name, part in PARTS.items():
        found[part] += timeline.seconds.get(name, 0.0)
    ends = timeline.progress["steps"]
    between = statistics.median(end - start for start, end in pairwise(ends))
    return {**found, "steps": found["steps"] + (of / own - 1) * len(ends) * between}


@contextmanager
def server(
    comfyui: Path, folder: Path, device: str, weights: Path, text: Mapping[str, Tensor] | None
) -> Iterator[ComfyClient]:
    """A server that has the models of :func:`write_models`."""
    make_base(base := folder / "comfyui")
    write_models(comfyui, base / "models", weights, text)
    with running_server(comfyui, base, ["--cpu"] if device == "cpu" else []) as url:
        yield ComfyClient(url)


def measure(comfy: ComfyClient, video: Video, layers: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Seconds of every part in each round, after one to warm up; ``layers``: of the network, and of a whole one."""
    found: dict[str, list[float]] = defaultdict(list)
    for seed in range(rounds + 1):
        timeline = watch(comfy, video.graph(seed))
        if seed:
            for part, seconds in seconds_of_parts(timeline, *layers).items():
                found[part].append(seconds)
    return dict(found)
