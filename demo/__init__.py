"""The embedded demo model: the clips it learned from, its training, and its measurement."""
