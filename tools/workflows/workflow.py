"""What a workflow is described by: its given frames, their noise levels, and the text of its note."""

from dataclasses import dataclass
from typing import NamedTuple

from demo.clips import EXAMPLE_SCENE
from pusa_core import latent_length, pixel_frames_of
from pusa_core.sampling.keyframes import clip_start, latent_frame_of
from pusa_core.sampling.tasks import TASKS as PLACES
from pusa_core.sampling.tasks import Place
from pusa_core.weights.made_for_levels import MadeForLevels

WIDTH, HEIGHT, FRAMES = 832, 480, 81


@dataclass(frozen=True)
class KeyframeSource:
    """The source of a slot's frames: the demo clip starting at frame ``first``, or the user's ``file``.

    ``end``: which end of the file, where both are used.
    """

    place: Place
    first: int
    file: str
    end: str = ""

    @property
    def title(self) -> str:
        return self.place.title

    @property
    def name(self) -> str:
        return self.end or self.file.partition(".")[0]

    @property
    def length(self) -> int:
        return self.place.length

    @property
    def position(self) -> int:
        return self.place.position

    @property
    def file_first(self) -> int:
        """The first frame to take from a user's clip of 81 frames."""
        return FRAMES - self.length if self.place.last else 0

    @property
    def latents(self) -> str:
        """The latent frames it occupies, in the syntax of noise levels."""
        if self.length == 1:
            return str(self.position)
        frames = latent_length(FRAMES)
        start = clip_start(self.length, self.position, frames)
        last = latent_frame_of(pixel_frames_of(start)[0] + self.length - 1)
        return f"{start - frames}-{last - frames}" if self.position < 0 else f"{start}-{last}"


class Area(NamedTuple):
    """A part of the demo's frames, in pixels: what a mask makes anew, or what is given of a clip in a larger frame."""

    x: int
    y: int
    width: int
    height: int


NOWHERE = Area(0, 0, 0, 0)


class Around(NamedTuple):
    """Where the ``frames`` new frames of a window, from ``first`` on, go: behind the clip of the first slot, and, if
    they ``join`` clips, before that of the second."""

    first: int
    frames: int
    joins: bool


@dataclass(frozen=True)
class Workflow:
    """A workflow: its given frames, their noise levels (0 by default), and the text of its note.

    ``family``: of its checkpoint, if that is made for a timestep per frame.
    """

    name: str
    title: str
    summary: str
    given: tuple[KeyframeSource, ...] = ()
    levels: str = ""
    knobs: tuple[str, ...] = ()
    seed: int = EXAMPLE_SCENE  # of the demo image or clip
    prompt: str = "a red fox walks through fresh snow, morning light, the camera follows slowly"
    demo_prompt: str = ""  # by default that of the demo image or clip
    mask_level: float = 1.0
    demo_area: Area = NOWHERE
    around: Around | None = None
    family: MadeForLevels | None = None

    @property
    def part(self) -> str:
        """Which part of its frames is made anew, as in :class:`pusa_core.sampling.tasks.Task`."""
        return PLACES[self.name].part if self.name in PLACES else ""

    @property
    def noise_levels(self) -> str:
        """The input of Frame Conditioning Mask."""
        return self.levels or ", ".join(f"{given.latents}:0" for given in self.given)
