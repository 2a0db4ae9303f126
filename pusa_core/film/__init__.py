"""A long video as frames: what it begins with, its scenes decoded in order, and the list of them that is kept."""
