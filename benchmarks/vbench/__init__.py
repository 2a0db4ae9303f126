"""Generates the videos of VBench's image-to-video suite."""
