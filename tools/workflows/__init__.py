"""Generates the workflow files from a single description of each task."""
