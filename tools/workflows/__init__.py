"""The workflow files, built from one description of each task."""
