"""Videos for VBench's image-to-video suite."""
