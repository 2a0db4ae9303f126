"""The hops of a long video in order, each made, or found among the scenes that are kept."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from .long_video import Past, Sample, make_hop, window_of
from .plan import Hop
from .scenes import Scenes, digest
from .settings import Settings, check_seed
from .windows import Recipe, calls_of_shift

_TAKE = re.compile(
    r"(?P<number>[0-9]+)\s*:\s*(?:seed\s+(?P<seed>[0-9]+)\s*(?:,|$)\s*)?(?P<prompt>.*)", re.IGNORECASE | re.DOTALL
)
ANOTHER_TAKE = 1000  # added to the seed of a scene that is taken again


@dataclass(frozen=True)
class Take:
    """What a scene is made with in place of the seed and the prompt that the plan has for it."""

    seed: int | None = None
    prompt: str | None = None


def parse_takes(text: str) -> dict[int, Take]:
    """Takes as lines of text: ``3: seed 7``, ``3: TEXT``, or ``3: seed 7, TEXT``. Raises ``ValueError`` for others."""
    takes: dict[int, Take] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _TAKE.fullmatch(line)
        if match is None or not (match["seed"] or match["prompt"]):
            raise ValueError(
                f'"{line}" is no take of a scene; write its number and a seed, a prompt, or both, such as "3: seed 7" '
                f'or "3: seed 7, a cat jumps"'
            )
        number = int(match["number"])
        if number in takes:
            raise ValueError(f"scene {number} has two takes; write one line for it")
        takes[number] = Take(None if match["seed"] is None else check_seed(int(match["seed"])), match["prompt"] or None)
    return takes


@dataclass(frozen=True)
class LongVideo:
    """All that the latents of a long video depend on, beside those it begins with.

    ``takes``: by the number of the hop. ``identity``: of the networks and of what is given, for the keys of scenes.
    """

    settings: Settings
    recipe: Recipe
    hops: Sequence[Hop]
    takes: Mapping[int, Take]
    identity: Mapping[str, Any]

    def seed(self, number: int) -> int:
        """Every hop has a seed of its own: with the same noise again, errors would pile up in the same places."""
        chosen = self.takes.get(number, Take()).seed
        return (self.settings.seed + number - 1) % (1 << 64) if chosen is None else chosen

    def prompt(self, hop: Hop) -> str:
        chosen = self.takes.get(hop.number, Take()).prompt
        return hop.prompt if chosen is None else chosen

    def keys(self) -> list[str]:
        """The key of every scene."""
        settings = asdict(replace(self.settings, seed=0))
        before = digest({"settings": settings, "recipe": asdict(self.recipe), **self.identity})
        keys = []
        for hop in self.hops:
            own = {"number": hop.number, "seed": self.seed(hop.number), "prompt": self.prompt(hop)}
            keys.append(digest({"before": before, "blocks": hop.blocks, **own}))
            before = digest({"scene": keys[-1], "used": hop.count})
        return keys


def network_calls(video: LongVideo) -> list[int]:
    """Calls of the network for each hop, twice that with guidance."""
    width = window_of(video.settings) - video.recipe.context
    calls, begun = [], False
    for hop in video.hops:
        if not hop.blocks:
            calls.append(video.settings.steps)
            continue
        shift = calls_of_shift(width, video.recipe.block, video.settings.steps)
        calls.append((hop.blocks if begun else hop.blocks + width // video.recipe.block - 1) * shift)
        begun = True
    return calls


@dataclass(frozen=True)
class Scene:
    """What became of a hop: the ``latents [1, 16, F, H, W]`` that the video uses of it; ``kept``: found on disk."""

    hop: Hop
    key: str
    seed: int
    prompt: str
    latents: Tensor
    kept: bool

    def about(self) -> dict[str, Any]:
        """As JSON's types, for the index and the file of the scene."""
        return {"number": self.hop.number, "key": self.key, "seed": self.seed, "prompt": self.prompt}


def make_scenes(video: LongVideo, past: Past, sample: Sample, scenes: Scenes | None) -> Iterator[Scene]:
    """Make the scenes of a video that begins with ``past``, or find them. Each is on disk before it is yielded."""
    for hop, key in zip(video.hops, video.keys(), strict=True):
        seed, prompt = video.seed(hop.number), video.prompt(hop)
        found = None if scenes is None else scenes.load(hop.number, key)
        made = found or make_hop(past, video.recipe, video.settings, seed, prompt, hop.blocks, sample)
        levels = past.context(video.recipe)[1].tolist()
        past = past.followed_by(made, hop.count)
        scene = Scene(hop, key, seed, prompt, made.latents[:, :, : hop.count], found is not None)
        if scenes is not None and found is None:
            scenes.save(hop.number, key, made, {**scene.about(), "levels": levels})
        yield scene
