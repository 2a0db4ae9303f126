"""Shows the training command's progress events on its node, and collects them for the summary."""

from statistics import fmean
from typing import Any

import comfy.utils
from PIL import Image

Event = dict[str, Any]

PREVIEW_SIDE = 512  # pixels
SHOWN_SKIPPED = 10  # clips listed in the summary


class TrainingProgress:
    """Progress bar, text and preview image of a node."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._bar = comfy.utils.ProgressBar(1)
        self._losses: list[float] = []
        self._skipped: list[str] = []
        self._validation = ""
        self.result: Event = {}  # the last event of a finished run

    def show(self, event: Event) -> None:
        """Show an event of the command. Raises ComfyUI's exception on Interrupt."""
        match event.get("event"):
            case "cache":
                self._bar.update_absolute(event["done"], event["total"])
                self.say(f"encoding clips: {event['done']} of {event['total']}")
            case "skipped":
                self._skipped.append(f"{event['file']}: {event['reason']}")
            case "step":
                self._losses.append(event["loss"])
                self._bar.update_absolute(event["step"], event["steps"])
                self.say(step_text(event))
            case "validation":
                self._validation = f"validation loss {event['loss']:.4f} after step {event['step']}"
            case "sample":
                with Image.open(event["picture"]) as picture:
                    preview = ("JPEG", picture.convert("RGB"), PREVIEW_SIDE)
                self._bar.update_absolute(self._bar.current, preview=preview)
            case "done":
                self.result = event

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
        if self._skipped:
            lines.append(f"{len(self._skipped)} clips skipped:")
            lines += self._skipped[:SHOWN_SKIPPED]
            lines += ["..."] * (len(self._skipped) > SHOWN_SKIPPED)
        return "\n".join(lines)


def step_text(event: Event) -> str:
    """Such as ``step 12 of 100, loss 0.1234, 0.8 s a step, 1 min 10 s to go``."""
    left = round((event["steps"] - event["step"]) * event["seconds"])
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    to_go = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    done = f"step {event['step']} of {event['steps']}, loss {event['loss']:.4f}"
    return f"{done}, {event['seconds']:.2g} s a step, {to_go} to go"
