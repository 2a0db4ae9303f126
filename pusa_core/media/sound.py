"""The sound of a clip in a video that begins with it: copied as it is, or encoded where an MP4 cannot hold it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .decode import main_stream, open_container
from .pictures import PICTURES

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

COPIED = frozenset(["aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "flac"])
"""Decoders of what an MP4 holds."""
_PREROLL = 0.1  # seconds before the first picture that a decoder may need; players do not play them
_ENCODER = "aac"

WriteUntil = Callable[[float], None]
"""``write(seconds)`` muxes what sounds up to a time of the video."""


@contextmanager
def sound_of(path: Path | None, output: "av.container.OutputContainer") -> Iterator[WriteUntil]:
    """A track of ``output`` with the sound of the clip ``path``; none where there is no sound, or no clip.

    What sounds longer than the clip's pictures goes on, up to the end of the video. Sound that cannot be read is left
    out with a warning.
    """
    with ExitStack() as opened:
        packets = iter(()) if path is None or path.suffix.lower() in PICTURES else _packets(path, output, opened)
        held = next(packets, None)

        def write_until(seconds: float) -> None:
            nonlocal held
            while held is not None and held[0] < seconds:
                output.mux(held[1])
                held = next(packets, None)

        yield write_until


def _packets(
    path: Path, output: "av.container.OutputContainer", opened: ExitStack
) -> "Iterator[tuple[float, av.Packet]]":
    """Time and packet of the sound, from the first picture of the clip on."""
    import av

    container = opened.enter_context(open_container(path))
    if not container.streams.audio:
        return
    stream, picture = container.streams.audio[0], main_stream(container)
    start = float((picture.start_time or 0) * (picture.time_base or 0))
    copied = stream.codec_context.name in COPIED
    try:
        yield from _copied(container, stream, output, start) if copied else _encoded(container, stream, output, start)
    except av.FFmpegError as error:
        log.warning("the sound of %s cannot be read on (%s); the video is silent from there", path, error)


def _copied(container: Any, stream: Any, output: Any, start: float) -> "Iterator[tuple[float, av.Packet]]":
    track = output.add_stream_from_template(stream)
    shift = round(start / stream.time_base)
    for packet in container.demux(stream):
        if packet.dts is None or packet.pts is None:  # the empty one at the end
            continue
        packet.dts, packet.pts, packet.stream = packet.dts - shift, packet.pts - shift, track
        time = float(packet.dts * stream.time_base)
        if time + float((packet.duration or 0) * stream.time_base) > -_PREROLL:
            yield time, packet


def _encoded(container: Any, stream: Any, output: Any, start: float) -> "Iterator[tuple[float, av.Packet]]":
    import av

    track = output.add_stream(_ENCODER, rate=stream.rate)
    track.layout = "stereo" if stream.channels > 1 else "mono"
    resampler = av.AudioResampler(format="fltp", layout=track.layout, rate=stream.rate)
    shift = round(start * stream.rate)

    def encode(frame: Any) -> Any:
        for each in resampler.resample(frame):
            if each.pts is not None:
                each.pts -= shift
            yield from track.encode(each)

    for frame in container.decode(stream):
        yield from ((float(packet.pts * packet.time_base), packet) for packet in encode(frame))
    for packet in [*encode(None), *track.encode(None)]:
        yield float(packet.pts * packet.time_base), packet
