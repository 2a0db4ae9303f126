"""Noise levels per frame on models other than Wan text-to-video: what each ends in, with a network that knows."""
