"""Descriptions of the tasks, from which ``build.py`` generates the workflow files."""

from pusa_core.sampling import tasks
from pusa_core.sampling.tasks import TASKS as PLACES
from pusa_core.sampling.tasks import Place
from pusa_core.weights.made_for_levels import SKYREELS_V2, SKYREELS_V3, MadeForLevels

from .workflow import Area, Around, KeyframeSource, Workflow


def given_for(name: str, *sources: tuple[int, str]) -> tuple[KeyframeSource, ...]:
    """The given frames of task ``name``; ``sources``: first frame in the demo clip, and file, of each slot."""
    return tuple(KeyframeSource(place, *source) for place, source in zip(PLACES[name].places, sources, strict=True))


LOOP_SCENE, LOOP_PROMPT = 784, "a large blue square moves slowly left"  # the way back
START, MIDDLE, END = (0, "start.png"), (40, "middle.png"), (80, "end.png")
FIRST = KeyframeSource(tasks.FIRST, *START)
LEVELS = "*Frame Conditioning Mask*: "

TASKS = (
    Workflow(
        "text_to_video",
        "Text to video",
        "Generates a video from a prompt.",
        demo_prompt="a large blue square moves quickly right",
        knobs=("The video is made of blocks of 4 frames, so its length snaps to 4 n + 1.",),
    ),
    Workflow(
        "image_to_video",
        "Image to video",
        "The video starts with the given image and follows the prompt.",
        given=(FIRST,),
        knobs=(
            LEVELS + "**0:0** keeps the image exactly, **0:0.2** gives more motion and preserves its identity less.",
        ),
    ),
    Workflow(
        "start_end",
        "Start and end frames",
        "The video starts with one image and ends with another; both are kept exactly.",
        given=given_for("start_end", START, END),
        seed=764,
        knobs=(LEVELS + "0 keeps an image. If the motion is stiff, try *Start and end frames, loose*.",),
    ),
    Workflow(
        "start_end_noise",
        "Start and end frames, loose",
        "30 % and 70 % noise on the two images: the motion between them is freer.",
        given=given_for("start_end_noise", START, END),
        levels=PLACES["start_end_noise"].noise_levels,
        seed=765,
        knobs=(LEVELS + "more noise on an image gives more motion and preserves its identity less.",),
    ),
    Workflow(
        "completion",
        "Fill between two clips",
        "The first 9 and the last 12 frames are given as clips; the 60 frames between them are generated.",
        given=given_for("completion", (0, "start.mp4"), (69, "end.mp4")),
        seed=778,
        knobs=(LEVELS + "**0-2:0.2, -3--1:0.2** blends the clips more freely.",),
    ),
    Workflow(
        "extension_13",
        "Extend a clip, 13 frames given",
        "13 frames of a clip are given, the following 68 are generated.",
        given=given_for("extension_13", (0, "clip.mp4")),
        seed=704,
        knobs=(LEVELS + "**0:0, 1:0.3, 2:0.4, 3:0.5** continues more freely, **0-3:0..0.5** is a linear ramp.",),
    ),
    Workflow(
        "extension_41",
        "Extend a clip, 41 frames given",
        "41 frames of a clip are given, the following 40 are generated.",
        given=given_for("extension_41", (0, "clip.mp4")),
        seed=7,
        knobs=(LEVELS + "**0-7:0, 8-10:0.1..0.4** keeps the early frames exactly and lets the last ones change.",),
    ),
    Workflow(
        "video_to_video",
        "Video to video",
        "A whole clip is given. Its ends are mostly preserved, and everything in between is regenerated.",
        given=given_for("video_to_video", (0, "clip.mp4")),
        levels="0:0.3, 1--2:1, -1:0.3",
        seed=5,
        knobs=(
            LEVELS
            + "frames at 1 are regenerated. **1-19:0.8** follows the motion of the clip, lower levels also its look; "
            "**0** keeps frames exactly.",
        ),
    ),
    Workflow(
        "three_keyframes",
        "Three keyframes",
        "Images are given for the first, the middle and the last frame.",
        given=given_for("three_keyframes", START, MIDDLE, END),
        seed=770,
        knobs=(LEVELS + "**10:0.3** makes the passage through the middle smoother.",),
    ),
)

PARTS = (
    Workflow(
        "region",
        "Change a part of a clip",
        "An area of a clip is made anew, by the prompt; the rest is kept exactly.",
        given=given_for("region", (0, "clip.mp4")),
        levels="0--1:0",
        mask_level=0.9,
        demo_prompt="a large blue diamond moves quickly left",
        demo_area=Area(0, 16, 64, 32),
        knobs=(
            "*The area*: in the mask editor, paint what changes on a frame of the clip.",
            LEVELS + "mask level **1** makes the area anew, **0.9** follows the motion in it.",
        ),
    ),
    Workflow(
        "outpaint",
        "Outpaint a clip",
        "A clip gets margins, which are made by the prompt; the clip is kept exactly.",
        given=given_for("outpaint", (0, "clip.mp4")),
        levels="0--1:0",
        demo_area=Area(16, 0, 32, 64),
        knobs=(
            "Margins are in pixels of the clip: 480 x 480 with 176 left and right fills 832 x 480.",
            "For a softer seam, **feathering** in *Given frames* lets the edges of the clip change too.",
        ),
    ),
)
"""Tasks in which levels vary within frames."""

WAN22 = (
    Workflow(
        "wan22_image_to_video_4step",
        "Wan2.2 image to video, 4 steps",
        "The video starts with the image. Wan2.2 has one model for high noise and one for low.",
        given=(FIRST,),
        levels="0:0.2",
        knobs=(LEVELS + "a little noise on the image (0.2) works well with Wan2.2.",),
    ),
    Workflow(
        "wan22_extension_4step",
        "Wan2.2 extend a clip, 4 steps",
        "13 frames of a clip are given, the following ones are generated by Wan2.2's two models.",
        given=given_for("extension_13", (0, "clip.mp4")),
        levels="0:0, 1:0.3, 2:0.4, 3:0.5",
        knobs=(LEVELS + "the ramp lets the motion continue freely; **0-3:0** keeps the clip exactly.",),
    ),
)


def clip_to_continue(family: MadeForLevels) -> tuple[KeyframeSource, ...]:
    """As many frames as the family goes on from."""
    return (KeyframeSource(Place("Frames to continue", 0, family.given_frames, last=True), 0, "clip.mp4"),)


SKYREELS = (
    Workflow(
        "skyreels_v3_image_to_video",
        "SkyReels-V3 image to video",
        "The video starts with the image. SkyReels-V3-V2V was trained with a timestep per frame, so it needs no LoRA.",
        given=(FIRST,),
        knobs=(LEVELS + "**0:0** keeps the image exactly, as the model was trained.",),
        family=SKYREELS_V3,
    ),
    Workflow(
        "skyreels_v3_extension",
        "SkyReels-V3 extend a clip",
        "25 frames of a clip are given, the following ones are generated by SkyReels-V3-V2V, which was made for this.",
        given=clip_to_continue(SKYREELS_V3),
        knobs=(LEVELS + "**0-6:0** keeps the clip exactly, as the model was trained.",),
        family=SKYREELS_V3,
    ),
    Workflow(
        "skyreels_v2_df_image_to_video",
        "SkyReels-V2-DF image to video",
        "The video starts with the image. SkyReels-V2-DF was trained with a timestep per frame, so it needs no LoRA.",
        given=(FIRST,),
        knobs=(
            LEVELS
            + "**0:0** keeps the image exactly, **0:0.02** has the noise that the model's authors give to clips.",
        ),
        family=SKYREELS_V2,
    ),
    Workflow(
        "skyreels_v2_df_extension",
        "SkyReels-V2-DF extend a clip",
        "17 frames of a clip are given, the following ones are generated by SkyReels-V2-DF, which was made for this.",
        given=clip_to_continue(SKYREELS_V2),
        levels=f"0-4:{SKYREELS_V2.noise_level:g}",
        knobs=(LEVELS + "the little noise is that of the model's authors; **0-4:0** keeps the clip exactly.",),
        family=SKYREELS_V2,
    ),
)
"""Tasks of checkpoints that need no Pusa LoRA."""

CLIPS = (
    Workflow(
        "join",
        "Join two clips",
        "New frames lead from one clip to another; around them, both clips are what they were.",
        given=(
            KeyframeSource(Place("First clip", 0, 33, last=True), 0, "first.mp4"),
            KeyframeSource(Place("Second clip", -1, 32), 49, "second.mp4"),
        ),
        levels="0-6:0, 7:0.1, 8:0.3, 13:0.3, 14:0.1, 15-20:0",
        around=Around(33, 16, joins=True),
        seed=792,
        knobs=(
            LEVELS + "the ramps at both seams (0.1, 0.3) let the motion flow; **0-8:0, 13-20:0** holds every frame.",
        ),
    ),
    Workflow(
        "retake",
        "Retake a span of a clip",
        "A span within a clip is made anew, by the prompt; the rest is kept.",
        given=given_for("video_to_video", (0, "clip.mp4")),
        levels="0-4:0, 5:0.1, 6:0.3, 7-13:1, 14:0.3, 15:0.1, 16-20:0",
        seed=750,
        knobs=(LEVELS + "drag the part at 1 to where the span is; a latent frame is a quarter of a second.",),
    ),
    Workflow(
        "loop",
        "Loop a clip",
        "New frames lead from the end of a clip back to its start, so that it can play for ever.",
        given=(
            KeyframeSource(Place("End of the clip", 0, 13, last=True), 68, "clip.mp4", "end"),
            KeyframeSource(Place("Start of the clip", -1, 12), 0, "clip.mp4", "start"),
        ),
        levels="0-1:0, 2:0.1, 3:0.3, 18:0.3, 19:0.1, 20:0",
        around=Around(13, 56, joins=False),
        seed=LOOP_SCENE,
        demo_prompt=LOOP_PROMPT,
        knobs=(LEVELS + "the ramps at both seams (0.1, 0.3) let the motion flow.",),
    ),
)
"""Tasks in which new frames go between those of clips."""

EXTEND = Workflow(
    "extend_video",
    "Video of any length",
    "Goes on from a clip, scene by scene. Scenes are kept in output/pusa/scenes: Run goes on where it was stopped.",
    given=given_for("extension_13", (0, "clip.mp4")),
    demo_prompt="a large red diamond moves quickly left\n5s: a large red diamond moves quickly right",
    knobs=(
        '*Prompt*: from a line such as "10s: it begins to rain" on, another one holds.',
        '*Retakes*: "3: seed 7" makes scene 3 anew, and what follows from it.',
    ),
)

KSAMPLER = Workflow(
    "image_to_video_ksampler",
    "First frame to video with KSampler",
    "ComfyUI's own loaders and KSampler, with *Pusa Patch Model*: for GGUF, other samplers and anything else that "
    "works on a Wan MODEL.",
    given=(FIRST,),
    seed=788,
    knobs=(LEVELS + "**0:0** keeps the image exactly. Samplers that add noise again are refused.",),
)

TRAIN = Workflow(
    "train_lora",
    "Train a LoRA",
    "Trains a LoRA on a folder of captioned clips (**clip.mp4**, **clip.txt**) in ComfyUI's input folder, then makes a "
    "video with it.",
    given=(FIRST,),
    knobs=(
        "Use a new name for every training. Interrupt saves a checkpoint, and Run resumes from it.",
        LEVELS + "**0:0** keeps the image exactly.",
    ),
)
