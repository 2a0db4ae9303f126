"""The tasks that the workflow files show, each described once; ``build.py`` draws them."""

from dataclasses import dataclass

WIDTH, HEIGHT, FRAMES = 832, 480, 81


@dataclass(frozen=True)
class Given:
    """Frames that the video is given: ``length`` pixel frames from ``first`` on, of the demo clip.

    ``position`` in latent frames, negative from the end. A user's own clip is another one: ``file_first`` says which
    of its frames are taken, when it has 81.
    """

    title: str
    first: int
    length: int
    position: int
    file: str
    file_first: int = 0


@dataclass(frozen=True)
class Task:
    """A workflow: what is given at which noise level, and what its note says."""

    name: str
    title: str
    summary: str
    given: tuple[Given, ...] = ()
    noise_levels: str = "0:0"
    knobs: tuple[str, ...] = ()
    seed: int = 3  # of the demo's picture or clip
    prompt: str = "a red fox walks through fresh snow, morning light, the camera follows slowly"


FIRST = Given("First frame", 0, 1, 0, "start.png")
LAST = Given("Last frame", 80, 1, -1, "end.png")
LEVELS = "*Frame Conditioning Mask*: the noise levels of the given frames; "

TASKS = (
    Task(
        "text_to_video",
        "Text to video",
        "A prompt becomes a video.",
        prompt="a large red circle moves quickly right",
        knobs=("*Size and length*: the length is 4 n + 1 frames.",),
    ),
    Task(
        "image_to_video",
        "Image to video",
        "The video starts with the given picture and moves as the prompt says.",
        given=(FIRST,),
        knobs=(LEVELS + "`0:0` keeps the picture as it is, `0:0.2` moves more and keeps less of its identity.",),
    ),
    Task(
        "start_end",
        "Start and end frames",
        "The video starts with one picture and ends with another; both stay exactly as they are.",
        given=(FIRST, LAST),
        noise_levels="0:0, -1:0",
        knobs=(LEVELS + "0 keeps a picture. When the motion between the two is stiff, see `start_end_noise`.",),
    ),
    Task(
        "start_end_noise",
        "Start and end frames, with noise",
        "The video starts near one picture and ends near another: they get 30 % and 70 % noise, which leaves the "
        "motion between them free.",
        given=(FIRST, LAST),
        noise_levels="0:0.3, -1:0.7",
        knobs=(LEVELS + "more noise on a picture gives more motion and keeps less of its identity.",),
    ),
    Task(
        "completion",
        "Completion: fill in between two clips",
        "The first 9 and the last 12 frames are given as clips; the 60 frames between them are made.",
        given=(
            Given("First frames", 0, 9, 0, "start.mp4", 72),
            Given("Last frames", 69, 12, -1, "end.mp4"),
        ),
        noise_levels="0-2:0, 18-20:0",
        knobs=(
            LEVELS + "`0-2` are the first 9 frames, `18-20` the last 12; `0-2:0.2, 18-20:0.2` blends them more freely.",
        ),
    ),
    Task(
        "extension_13",
        "Extension: continue a clip from 13 frames",
        "13 frames of a clip are given, the 68 after them are made.",
        given=(Given("Frames to continue", 0, 13, 0, "clip.mp4", 68),),
        noise_levels="0-3:0",
        knobs=(LEVELS + "`0:0, 1:0.3, 2:0.4, 3:0.5` continues more freely, `0-3:0..0.5` is an even ramp.",),
    ),
    Task(
        "extension_41",
        "Extension: continue a clip from 41 frames",
        "41 frames of a clip are given, the 40 after them are made.",
        given=(Given("Frames to continue", 0, 41, 0, "clip.mp4", 40),),
        noise_levels="0-10:0",
        knobs=(LEVELS + "`0-7:0, 8-10:0.1..0.4` keeps the early frames and frees the last ones.",),
    ),
    Task(
        "video_to_video",
        "Video to video",
        "A whole clip is given. Its ends stay near what they are, and what lies between is made anew.",
        given=(Given("The clip", 0, 81, 0, "clip.mp4"),),
        noise_levels="0:0.3, 1-19:1, -1:0.3",
        knobs=(
            LEVELS + "frames at 1 are made anew. `1-19:0.8` follows the motion of the clip, lower still its look; `0` "
            "keeps frames as they are.",
        ),
    ),
    Task(
        "three_keyframes",
        "Three keyframes",
        "Pictures are given for the start, the middle and the end.",
        given=(FIRST, Given("Middle frame", 40, 1, 10, "middle.png"), LAST),
        noise_levels="0:0, 10:0, -1:0",
        knobs=(
            "*Middle frame*: `position` is the latent frame; set `position_counts` to count frames of the video.",
            LEVELS + "some noise (`10:0.3`) makes the passage through the middle smoother.",
        ),
    ),
)

WAN22 = Task(
    "wan22_image_to_video_4step",
    "Image to video with Wan2.2, in 4 steps",
    "The video starts with the given picture. Wan2.2 has two models, one for high and one for low noise; each gets its "
    "Pusa LoRA and its 4-step LoRA.",
    given=(FIRST,),
    noise_levels="0:0.2",
    knobs=(
        LEVELS + "a little noise on the picture (0.2) suits Wan2.2.",
        "*Pusa Sampler*: `switch` is the noise level at which the second model takes over. With 4-step LoRAs keep "
        "`steps` at 4 and `cfg` at 1.",
    ),
)
