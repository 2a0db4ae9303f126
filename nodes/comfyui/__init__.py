"""All code that depends on ComfyUI's internals."""
