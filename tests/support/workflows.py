"""The workflow files of this pack, by what they need."""

from tools.comfyui import PACK

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
DEMO = [path.stem for path in WORKFLOWS if path.stem.startswith("Pusa demo")]
"""Those of the demo model run anywhere."""
REAL = [path.stem for path in WORKFLOWS if path.stem not in DEMO]
"""The others need files that a user downloads."""
API = sorted((PACK / "workflows" / "api").glob("*.json"))
API_DEMO = [path.stem for path in API if path.stem.startswith("demo_")]
API_REAL = [path.stem for path in API if path.stem not in API_DEMO]
