"""Small clips for the tests, made by the library that reads them: numbered grey levels, so that a frame tells which it is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import av.stream
from PIL import Image, ImageDraw

CODECS = {"mp4": "libx264", "mov": "mpeg4", "avi": "mjpeg", "webm": "libvpx", "matroska": "libx264"}


def grey_of(number: int) -> int:
    """Return the grey level of a frame's picture."""
    return 20 + 8 * (number % 28)


def frame_of(number: int, size: tuple[int, int]) -> Image.Image:
    """Return a frame: its own grey, with a red corner at the upper left."""
    image = Image.new("RGB", size, (grey_of(number),) * 3)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 3, size[1] // 3), fill=(220, 20, 20))
    return image


make_frame: Any = av.VideoFrame.from_image


def make_clip(
    kind: str = "mp4",
    *,
    frames: int = 20,
    rate: int = 10,
    size: tuple[int, int] = (96, 64),
    times: Sequence[float] | None = None,
    rotation: int = 0,
    is_mirrored: bool = False,
    ratio: Fraction | None = None,
    key_every: int = 6,
    with_sound: bool = False,
    sound_s: float | None = None,
    transfer: int | None = None,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Return a clip. `times` are the frames' own, in seconds, for an uneven rate; `rotation` is counter-clockwise.

    `sound_s` is for sound that does not end with the pictures, `transfer` the number of what its values mean, `options` are
    the encoder's.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream: Any = container.add_stream(CODECS[kind], rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if kind == "avi" else "yuv420p"
        stream.codec_context.gop_size = key_every
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = ratio
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if options is not None:
            stream.codec_context.options = dict(options)
        if rotation or is_mirrored:
            stream.set_display_rotation(rotation, hflip=is_mirrored)
        sound: Any = container.add_stream("libopus" if kind == "webm" else "aac", rate=48000) if with_sound else None
        for number in range(frames):
            frame: Any = make_frame(frame_of(number, size))
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        if sound is not None:
            _add_silence(container, sound, seconds=frames / rate if sound_s is None else sound_s)
    return buffer.getvalue()


def make_two_streams(kind: str = "mp4") -> bytes:
    """Return a clip whose first stream is a single still that players do not show, and the second the clip itself."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        streams: list[Any] = [container.add_stream("mjpeg", rate=10), container.add_stream("mpeg4", rate=10)]
        for stream, pixels in zip(streams, ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        streams[0].disposition = av.stream.Disposition(0)
        streams[1].disposition = av.stream.Disposition.default
        for stream, count in zip(streams, (1, 20), strict=True):
            for number in range(count):
                container.mux(stream.encode(make_frame(frame_of(number, (96, 64)))))
            container.mux(stream.encode())
    return buffer.getvalue()


def make_sound(kind: str = "mp4", *, seconds: float = 1.0) -> bytes:
    """Return a file with sound and no pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        _add_silence(container, container.add_stream("aac", rate=48000), seconds=seconds)
    return buffer.getvalue()


def _add_silence(container: Any, stream: Any, *, seconds: float) -> None:
    samples = 1024
    for at in range(0, int(48000 * seconds), samples):
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=samples)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)
