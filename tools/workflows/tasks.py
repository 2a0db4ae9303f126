"""The tasks that the workflow files show, each described once; ``build.py`` draws them."""

from dataclasses import dataclass

from demo.clips import EXAMPLE_SCENE
from pusa_core import latent_length, pixel_frames_of
from pusa_core.sampling import tasks
from pusa_core.sampling.keyframes import clip_start, latent_frame_of
from pusa_core.sampling.tasks import TASKS as PLACES
from pusa_core.sampling.tasks import Place

WIDTH, HEIGHT, FRAMES = 832, 480, 81


@dataclass(frozen=True)
class KeyframeSource:
    """What goes to a place of the video: frames of the demo clip from ``first`` on, or of a user's own ``file``."""

    place: Place
    first: int
    file: str

    @property
    def title(self) -> str:
        return self.place.title

    @property
    def length(self) -> int:
        return self.place.length

    @property
    def position(self) -> int:
        return self.place.position

    @property
    def file_first(self) -> int:
        """The first of the frames that are taken of a user's own clip, when it has 81."""
        return FRAMES - self.length if self.place.last else 0

    @property
    def latents(self) -> str:
        """The latent frames that it fills, as noise levels name them."""
        if self.length == 1:
            return str(self.position)
        start = clip_start(self.length, self.position, latent_length(FRAMES))
        return f"{start}-{latent_frame_of(pixel_frames_of(start)[0] + self.length - 1)}"


@dataclass(frozen=True)
class Workflow:
    """A workflow: what is given at which noise level (0 if left out), and what its note says."""

    name: str
    title: str
    summary: str
    given: tuple[KeyframeSource, ...] = ()
    levels: str = ""
    knobs: tuple[str, ...] = ()
    seed: int = EXAMPLE_SCENE  # of the demo's picture or clip
    prompt: str = "a red fox walks through fresh snow, morning light, the camera follows slowly"

    @property
    def noise_levels(self) -> str:
        """The text of Frame Conditioning Mask."""
        return self.levels or ", ".join(f"{given.latents}:0" for given in self.given)


def given_for(name: str, *sources: tuple[int, str]) -> tuple[KeyframeSource, ...]:
    """What the task ``name`` of ``pusa_core`` is given; for each place the first frame of the demo clip, and a file."""
    return tuple(KeyframeSource(place, *source) for place, source in zip(PLACES[name].places, sources, strict=True))


START, MIDDLE, END = (0, "start.png"), (40, "middle.png"), (80, "end.png")
FIRST = KeyframeSource(tasks.FIRST, *START)
LEVELS = "*Frame Conditioning Mask*: the noise levels of the given frames; "

TASKS = (
    Workflow(
        "text_to_video",
        "Text to video",
        "A prompt becomes a video.",
        prompt="a large blue square moves quickly right",
        knobs=("*Size and length*: the length is 4 n + 1 frames.",),
    ),
    Workflow(
        "image_to_video",
        "Image to video",
        "The video starts with the given picture and moves as the prompt says.",
        given=(FIRST,),
        knobs=(LEVELS + "`0:0` keeps the picture as it is, `0:0.2` moves more and keeps less of its identity.",),
    ),
    Workflow(
        "start_end",
        "Start and end frames",
        "The video starts with one picture and ends with another; both stay exactly as they are.",
        given=given_for("start_end", START, END),
        knobs=(LEVELS + "0 keeps a picture. When the motion between the two is stiff, see `start_end_noise`.",),
    ),
    Workflow(
        "start_end_noise",
        "Start and end frames, with noise",
        "The video starts near one picture and ends near another: they get 30 % and 70 % noise, which leaves the "
        "motion between them free.",
        given=given_for("start_end_noise", START, END),
        levels=PLACES["start_end_noise"].noise_levels,
        knobs=(LEVELS + "more noise on a picture gives more motion and keeps less of its identity.",),
    ),
    Workflow(
        "completion",
        "Completion: fill in between two clips",
        "The first 9 and the last 12 frames are given as clips; the 60 frames between them are made.",
        given=given_for("completion", (0, "start.mp4"), (69, "end.mp4")),
        knobs=(
            LEVELS + "`0-2` are the first 9 frames, `18-20` the last 12; `0-2:0.2, 18-20:0.2` blends them more freely.",
        ),
    ),
    Workflow(
        "extension_13",
        "Extension: continue a clip from 13 frames",
        "13 frames of a clip are given, the 68 after them are made.",
        given=given_for("extension_13", (0, "clip.mp4")),
        knobs=(LEVELS + "`0:0, 1:0.3, 2:0.4, 3:0.5` continues more freely, `0-3:0..0.5` is an even ramp.",),
    ),
    Workflow(
        "extension_41",
        "Extension: continue a clip from 41 frames",
        "41 frames of a clip are given, the 40 after them are made.",
        given=given_for("extension_41", (0, "clip.mp4")),
        knobs=(LEVELS + "`0-7:0, 8-10:0.1..0.4` keeps the early frames and frees the last ones.",),
    ),
    Workflow(
        "video_to_video",
        "Video to video",
        "A whole clip is given. Its ends stay near what they are, and what lies between is made anew.",
        given=given_for("video_to_video", (0, "clip.mp4")),
        levels=PLACES["video_to_video"].noise_levels,
        knobs=(
            LEVELS + "frames at 1 are made anew. `1-19:0.8` follows the motion of the clip, lower still its look; `0` "
            "keeps frames as they are.",
        ),
    ),
    Workflow(
        "three_keyframes",
        "Three keyframes",
        "Pictures are given for the start, the middle and the end.",
        given=given_for("three_keyframes", START, MIDDLE, END),
        knobs=(
            "*Middle frame*: `position` is the latent frame; set `position_counts` to count frames of the video.",
            LEVELS + "some noise (`10:0.3`) makes the passage through the middle smoother.",
        ),
    ),
)

WAN22 = Workflow(
    "wan22_image_to_video_4step",
    "Image to video with Wan2.2, in 4 steps",
    "The video starts with the given picture. Wan2.2 has two models, one for high and one for low noise; each gets its "
    "Pusa LoRA and its 4-step LoRA.",
    given=(FIRST,),
    levels="0:0.2",
    knobs=(
        LEVELS + "a little noise on the picture (0.2) suits Wan2.2.",
        "*Pusa Sampler*: `switch` is the noise level at which the second model takes over. With 4-step LoRAs keep "
        "`steps` at 4 and `cfg` at 1.",
    ),
)
