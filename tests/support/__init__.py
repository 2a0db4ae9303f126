"""What the tests share."""

from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")
"""Scripts that ComfyUI's own Python runs, from ComfyUI's folder."""
