"""Text that belongs to one node: warnings into the log too, and all of it on the node in the page."""

import logging

from comfy_execution.utils import get_executing_context

log = logging.getLogger(__name__)


def warn(text: str) -> None:
    """Log ``text``, and show it on the node that is running, if one is."""
    log.warning("%s", text)
    show(text)


def show(text: str) -> None:
    """Show ``text`` on the node that is running, if one is."""
    running = get_executing_context()
    if running is None:
        return
    from server import PromptServer  # only where one runs: it cannot be imported after all else in ComfyUI 0.3.64

    PromptServer.instance.send_progress_text(text, running.node_id, PromptServer.instance.client_id)
