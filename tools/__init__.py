"""Developer tools: ComfyUI server and client, workflow builder, example configuration, ``run.py demo``."""
