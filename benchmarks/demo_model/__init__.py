"""Measurements of the demo model."""
