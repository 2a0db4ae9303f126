"""Small clips, with sound or without, and what is in the ones that were made of them."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TICKS = 1000  # a second, of clips with times
RATE = 48000  # samples a second


def write_clip(
    path: Path,
    *,
    rate: int = 16,
    frames: int = 16,
    times: list[float] | None = None,
    size: tuple[int, int] = (32, 32),
    seconds_of_sound: float = 0.0,
    codec: str = "aac",
) -> Path:
    """Frame ``i`` is grey, of the brightness ``4 i``; the sound is a sweep. ``times``: of the frames, in seconds."""
    with av.open(str(path), "w") as container:
        if frames:
            video: Any = container.add_stream("h264", rate=rate)
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            video.options = {"crf": "1", "bf": "0"}
            if times is not None:
                video.codec_context.time_base = video.time_base = Fraction(1, TICKS)
        if seconds_of_sound:
            sound: Any = container.add_stream(codec, rate=RATE)
            sound.layout = "mono"
        for number in range(frames if times is None else len(times)):
            picture = np.full((size[1], size[0], 3), 4 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, TICKS)
            frame.pts = number if times is None else round(times[number] * TICKS)
            container.mux(video.encode(frame))
        if frames:
            container.mux(video.encode())
        if seconds_of_sound:
            container.mux([*_encoded(sound, sweep(seconds_of_sound)), *sound.encode(None)])
    return path


def sweep(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time) * 32767).astype(np.int16)


def _encoded(stream: Any, samples: np.ndarray) -> Any:
    resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=RATE)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = RATE, 0
    fifo = av.AudioFifo()
    for each in resampler.resample(frame):
        fifo.write(each)
    size = stream.codec_context.frame_size or 1024
    while (part := fifo.read(size, partial=True)) is not None:
        yield from stream.encode(part)


def brightness(pixels: np.ndarray) -> float:
    return float(pixels.mean())


@dataclass(frozen=True)
class Sound:
    """``samples``: of the first channel, from ``start`` seconds on."""

    codec: str = ""
    rate: int = 0
    start: float = 0.0
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False)


SILENCE = Sound()


def sound_samples(path: Path) -> Sound:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return SILENCE
        stream = container.streams.audio[0]
        decoded = list(container.decode(stream))
        parts = [frame.to_ndarray().astype(float) for frame in decoded]
        channels = stream.channels if not decoded[0].format.is_planar else 1
        samples = np.concatenate([part[0][::channels] for part in parts])
        return Sound(stream.codec_context.name, stream.rate, float(decoded[0].time or 0), samples)
