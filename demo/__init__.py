"""The embedded demo model: its weights, training clips and training scripts."""
