"""Shows the training command's progress events on its node, and collects them for the summary."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import comfy.utils
from PIL import Image

from ...pusa_core.media.pictures import read_pictures
from ...pusa_core.training.metrics import COLUMNS, read_rows
from ...pusa_core.training.plot import draw_losses

Event = dict[str, Any]
Points = list[tuple[int, float]]

PREVIEW_SIDE = 768  # pixels
PREVIEW_SECONDS = 2.0  # between two pictures of the curve
PREVIEW_POINTS = 400  # of the curve
SHOWN_SKIPPED = 10  # clips listed in the summary


class TrainingProgress:
    """Progress bar, text and preview image of a node. ``folder``: of the run."""

    def __init__(self, node_id: str, folder: Path) -> None:
        self._node_id = node_id
        self._folder = folder
        self._phase = ""
        self._bar = comfy.utils.ProgressBar(1)
        self._losses: list[float] = []  # of this part of the run
        self._curve: Points = []
        self._held_out: Points = []
        self._sample: Image.Image | None = None
        self._shown = 0.0
        self._skipped: list[str] = []
        self._notes: list[str] = []
        self._validation = ""
        self.result: Event = {}  # the last event of a finished run

    def show(self, event: Event) -> None:
        """Show an event of the command. Raises ComfyUI's exception on Interrupt."""
        match event.get("event"):
            case "scan":
                self._advance("scan", event["done"], event["total"])
                self.say(f"reading clips: {event['done']} of {event['total']}")
            case "cache":
                self._advance("cache", event["done"], event["total"])
                self.say(encoding_text(event))
                if event["done"] == event["total"]:
                    self._advance("load", 0, 1)  # a full bar would seem to be the training's
            case "skipped":
                self._skipped.append(f"{event['file']}: {event['reason']}")
            case "warning":
                self._notes.append(event["text"])
            case "resampled":
                self._notes.append(resampled_text(event))
            case "resumed":
                self._resume(event)
            case "step":
                self._losses.append(event["loss"])
                self._curve.append((event["step"], event["loss"]))
                self._advance("train", event["step"], event["steps"])
                self.say(step_text(event))
                if time.monotonic() - self._shown >= PREVIEW_SECONDS:
                    self._preview()
            case "validation":
                self._validation = f"validation loss {event['loss']:.4f} after step {event['step']}"
                self._held_out.append((event["step"], event["loss"]))
                self._preview()
            case "sample":
                with contextlib.suppress(ValueError):  # deleted by the user meanwhile: the run goes on
                    self._sample = next(read_pictures(Path(event["picture"])))[0]
                self._preview()
            case "done":
                self.result = event

    def show_end(self, event: Event) -> None:
        """Say where a run that was stopped is kept."""
        if event.get("event") == "stopped":
            self.say(stopped_text(event))

    def say(self, text: str) -> None:
        """Show a line of text on the node."""
        from server import PromptServer  # only with a running server: late imports fail in ComfyUI 0.3.64

        PromptServer.instance.send_progress_text(text, self._node_id, PromptServer.instance.client_id)

    def summary(self) -> str:
        """A few lines about the finished run."""
        lines = [f"{self.result['step']} steps"]
        if self._losses:
            part = max(1, len(self._losses) // 10)
            first, last = fmean(self._losses[:part]), fmean(self._losses[-part:])
            lines.append(f"mean loss of the first {part} steps {first:.4f}, of the last {part} {last:.4f}")
        if self._validation:
            lines.append(self._validation)
        lines += self._notes
        if self._skipped:
            lines.append(f"{len(self._skipped)} clips skipped:")
            lines += self._skipped[:SHOWN_SKIPPED]
            lines += ["..."] * (len(self._skipped) > SHOWN_SKIPPED)
        return "\n".join(lines)

    def _resume(self, event: Event) -> None:
        self._notes.append("; ".join([f"continued from step {event['step']}", *event["changes"]]))
        rows = [row for row in read_rows(self._folder / "metrics.csv", COLUMNS) if row["step"] <= event["step"]]
        self._curve = [(row["step"], row["loss"]) for row in rows]
        self._held_out = [(row["step"], row["validation"]) for row in rows if "validation" in row]

    def _advance(self, phase: str, done: int, total: int) -> None:
        """Each phase has a bar of its own: ComfyUI holds back values that are not far from the last one of a bar."""
        if phase != self._phase:
            self._phase, self._bar = phase, comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)

    def _preview(self) -> None:
        self._shown = time.monotonic()
        picture = live_picture(self._curve, self._held_out, self._sample)
        self._bar.update_absolute(self._bar.current, preview=("JPEG", picture, PREVIEW_SIDE))


def live_picture(losses: Points, held_out: Points, sample: Image.Image | None) -> Image.Image:
    """The curve, and below it the newest sample."""
    curve = draw_losses(thinned(losses, PREVIEW_POINTS), held_out)
    if sample is None:
        return curve
    height = round(sample.height * curve.width / sample.width)
    picture = Image.new("RGB", (curve.width, curve.height + height), "white")
    picture.paste(curve, (0, 0))
    picture.paste(sample.resize((curve.width, height)), (0, curve.height))
    return picture


def thinned(points: Points, most: int) -> Sequence[tuple[int, float]]:
    """At most so many points, each the mean of its neighbours."""
    size = -(-len(points) // most) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], fmean(value for _, value in group)) for group in groups]


def encoding_text(event: Event) -> str:
    clips, captions = (f"{event[kind]} of {event[f'{kind}_total']}" for kind in ("clips", "captions"))
    return f"encoding clips: {clips}, captions: {captions}"


def resampled_text(event: Event) -> str:
    clips, fps, rate = event["clips"], f"{event['fps']:g}", f"{event['rate']:.4g}"
    return f"{clips} clips resampled to {fps} frames per second, such as {event['file']} with {rate}"


def step_text(event: Event) -> str:
    """Such as ``step 12 of 100, loss 0.1234, 0.8 s a step, 1 min 10 s to go``."""
    left = round((event["steps"] - event["step"]) * event["seconds"])
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    to_go = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    done = f"step {event['step']} of {event['steps']}, loss {event['loss']:.4f}"
    return f"{done}, {event['seconds']:.2g} s a step, {to_go} to go"


def stopped_text(event: Event) -> str:
    if not event["lora"]:
        return "stopped before the first step was done; nothing is saved"
    return (
        f"stopped after step {event['step']}\nLoRA: {event['lora']}\ncheckpoint: {event['checkpoint']}\n"
        "Queue the same again and it goes on from there."
    )
