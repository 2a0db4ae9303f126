"""Starting and driving a ComfyUI, building the workflow files, the first video."""
