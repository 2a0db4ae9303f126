"""Wan checkpoints and LoRAs: reading, renaming, dequantising, merging."""
