"""The workflow files of this pack, by what they need."""

from tools.comfyui import PACK

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
API_WORKFLOWS = [path for path in sorted((PACK / "workflows" / "api").glob("*.json")) if path.stem != "parameters"]
DEMO = [path.stem for path in WORKFLOWS if path.stem.startswith("Pusa demo")]
"""Those of the demo model run anywhere."""
REAL = [path.stem for path in WORKFLOWS if path.stem not in DEMO]
"""The others need files that a user downloads."""
API_DEMO = [path.stem for path in API_WORKFLOWS if path.stem.startswith("demo_")]
API_REAL = [path.stem for path in API_WORKFLOWS if path.stem not in API_DEMO]
