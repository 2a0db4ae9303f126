"""Y'CbCr <-> RGB of video frames, by FFmpeg's scale filter, which goes by the matrix and range of each frame.

The conversion of PyAV's own frames ignores their matrix before PyAV 17, and keeps the state of the call before.
"""

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import av

BT709, BT601 = 1, 6  # ISO/IEC 23091-2 code points, as in AVColorSpace
MATRICES = {BT709: "bt709", BT601: "bt601"}
LIMITED = 1  # AVColorRange
HD_LINES = 720  # from here on players take an untagged video for BT.709

_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


class ToRgb:
    """Frames of a video as ``[H, W, 3]`` uint8, in the colours that ffmpeg shows."""

    def __init__(self) -> None:
        self._filters: dict[tuple, _Filter] = {}

    def __call__(self, frame: "av.VideoFrame") -> np.ndarray:
        kind = frame.format.name, frame.width, frame.height, int(frame.colorspace), int(frame.color_range)
        if kind not in self._filters:
            self._filters = {kind: _Filter(frame, ["out_range=pc", _EXACT], "rgb24")}
        return self._filters[kind](frame).to_ndarray()


class ToYuv:
    """``[H, W, 3]`` uint8 as yuv420p frames of limited range, BT.709 from 720 lines on and BT.601 below."""

    def __init__(self, height: int) -> None:
        self.matrix = BT709 if height >= HD_LINES else BT601
        self._filter: _Filter | None = None

    def __call__(self, picture: np.ndarray) -> "av.VideoFrame":
        import av

        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if self._filter is None:
            options = [f"out_color_matrix={MATRICES[self.matrix]}", "out_range=tv", _EXACT]
            self._filter = _Filter(frame, options, "yuv420p")
        return self._filter(frame)


class _Filter:
    """The scale filter for frames of one size and format."""

    def __init__(self, like: "av.VideoFrame", options: list[str], pixels: str) -> None:
        import av.filter

        self._graph: Any = av.filter.Graph()
        time_base = like.time_base or Fraction(1, 1000)
        steps = [
            self._graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=time_base),
            self._graph.add("scale", ":".join(options)),
            self._graph.add("format", f"pix_fmts={pixels}"),
            self._graph.add("buffersink"),
        ]
        for step, following in pairwise(steps):
            step.link_to(following)
        self._graph.configure()

    def __call__(self, frame: "av.VideoFrame") -> "av.VideoFrame":
        self._graph.push(frame)
        return self._graph.pull()
