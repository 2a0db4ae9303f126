"""Noise schedule, per-frame Euler sampler, keyframes and tasks."""
