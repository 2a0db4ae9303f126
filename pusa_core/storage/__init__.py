"""Files that are written: atomically, never over an input, and by one process at a time."""
