"""The workflow files of this pack, by what they need."""

from tools.comfyui import PACK

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
API_WORKFLOWS = [path.parent / "api" / path.name for path in WORKFLOWS]
DEMO = [path.stem for path in WORKFLOWS if path.stem.startswith("demo_")]
"""Those of the demo model run anywhere."""
REAL = [path.stem for path in WORKFLOWS if path.stem not in DEMO]
"""The others need files that a user downloads."""
