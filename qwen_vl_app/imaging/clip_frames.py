"""A clip's bytes to upright frames with their times. Sound is not looked at.

For the decoder child: what runs here may crash, hang or eat memory. A first pass over the packets, which decodes nothing,
tells every frame's time, so that clips of an uneven rate come out right whatever their headers say. The second decodes
only from the key frame before a wanted one, and makes each frame small before it takes the next. Errors that leave are of
the app's tree, or a MemoryError.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, NoReturn

import av
import av.error
import av.stream
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorTrc
from PIL import Image

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import ImageTooLargeError, Reason, UnreadableImageError
from qwen_vl_app.imaging.clip_formats import sniff_clip
from qwen_vl_app.imaging.clips import ClipLimits
from qwen_vl_app.imaging.limits import check_shape
from qwen_vl_app.imaging.wide_light import WideLight, to_screen

MOST_PACKETS = 400_000
"""An hour at a hundred frames a second."""
DECODER_THREADS = 4
"""Each holds frames of its own, and memory is limited."""
SHORT_OF_S, SHORT_OF_SHARE = 1.0, 0.1
"""How much of the length in its header a clip may lack before that is worth telling."""
_DEMUXERS = {"MP4": "mov", "MOV": "mov", "WEBM": "matroska", "MKV": "matroska", "AVI": "avi"}
_STRAIGHT = {
    (-1, -1): Image.Transpose.ROTATE_180,
    (-1, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, -1): Image.Transpose.FLIP_TOP_BOTTOM,
}
"""What a display matrix does that leaves rows rows, by the signs that it gives across and down."""
_CROSSED = {
    (1, 1): Image.Transpose.TRANSPOSE,
    (1, -1): Image.Transpose.ROTATE_270,
    (-1, 1): Image.Transpose.ROTATE_90,
    (-1, -1): Image.Transpose.TRANSVERSE,
}
"""What one does that makes rows columns: by the sign that it gives down what was across, and across what was down."""
_CLEARLY = 50
"""How many times more a matrix has to go one way than the other: a clip that is shown askew stays as it was stored."""
_WIDE_LIGHT = {ColorTrc.SMPTE2084: WideLight.PQ, ColorTrc.ARIB_STD_B67: WideLight.HLG}


@dataclass(frozen=True, slots=True)
class OpenedClip:
    """A clip whose packets were counted and whose first frame was decoded. `size` is a frame's, upright and with square pixels.

    `ticks` are the times of its frames, ascending, `keys` those of its key frames, both in units of `time_base` seconds;
    `start` is where the player's clock begins.
    """

    format: str
    size: Size
    seconds: float
    ticks: tuple[int, ...]
    keys: tuple[int, ...]
    start: Fraction
    time_base: Fraction
    turn: Image.Transpose | None
    notes: tuple[Reason, ...]
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame at the seen size, and the second at which it is on the screen."""

    at_s: float
    image: Image.Image


def open_clip(data: bytes, *, limits: ClipLimits) -> OpenedClip:
    """Return what a clip is. Raises PictureError, MemoryError."""
    limits.check_bytes(len(data))
    kind = sniff_clip(data)
    if kind is None:
        raise UnreadableImageError("image.format_unknown")
    with _opened(data, kind) as (container, stream):
        told_s = _told_seconds(container, stream)
        limits.check_seconds(told_s)
        context = stream.codec_context
        _check_frame(context.width, context.height, kind, limits)
        times, keys, last_length, end_s = _scan(container, stream, limits)
        base = stream.time_base
        start = Fraction(container.start_time or 0, av.time_base)
    if not times:
        raise UnreadableImageError("clip.no_frames", format=kind)
    seconds = float((times[-1] - times[0] + last_length) * base)
    limits.check_seconds(seconds)
    first = _first_frame(data, kind, limits)
    notes = []
    there_s = max(seconds, end_s - float(start))  # sound may go on behind the last frame
    if told_s - there_s > max(SHORT_OF_S, SHORT_OF_SHARE * told_s):
        notes.append(Reason("clip.ends_early", told=told_s, length=there_s))
    if first.turn not in (None, Image.Transpose.FLIP_LEFT_RIGHT):
        notes.append(Reason("clip.turned_upright"))
    size = _lying(_square(first.width, first.height, stream_ratio=first.ratio), first.turn)
    check_shape(size.width, size.height)
    return OpenedClip(
        format=kind,
        size=size,
        seconds=seconds,
        ticks=tuple(times),
        keys=tuple(keys),
        start=start,
        time_base=base,
        turn=first.turn,
        notes=tuple(notes),
        data=data,
    )


def read_frames(clip: OpenedClip, count: int, size: Size) -> Iterator[SeenFrame]:
    """Give so many frames, evenly spread from the first to the last, upright at `size`; fewer where the rest is damaged.

    Raises MemoryError.
    """
    wanted = spread(clip.ticks, count)
    stored = _lying(size, clip.turn)
    with _opened(clip.data, clip.format) as (container, stream):
        frames = _decoded(container, stream, [tick for tick, _ in wanted], clip.keys)
        held: SeenFrame | None = None
        held_tick: int | None = None
        for tick, at in wanted:
            if held_tick is None or held_tick < tick:
                found = next((frame for frame in frames if _tick_of(frame) >= tick), None)
                if found is None:
                    return
                held_tick = _tick_of(found)
                image = found.to_image(width=stored.width, height=stored.height, interpolation="BICUBIC")
                wide = _WIDE_LIGHT.get(found.color_trc)
                if wide is not None:
                    image = to_screen(image, wide)
                if clip.turn is not None:
                    image = image.transpose(clip.turn)
                held = SeenFrame(0.0, image)
            assert held is not None  # noqa: S101 - found above, or by the time before
            # A frame that stands for long is seen at the wanted time; one that is damaged is seen when the next one comes.
            shown = Fraction(held_tick) if held_tick > tick and held_tick > at else at
            yield SeenFrame(max(0.0, float(shown * clip.time_base - clip.start)), held.image)


def spread(ticks: Sequence[int], count: int) -> list[tuple[int, Fraction]]:
    """Return `count` frames, evenly spread in time, each by its own time and the time at which it is looked at.

    At an even rate these are the frames nearest to the wanted times, as `qwen-vl-utils` takes them (`linspace`, rounded);
    else the ones that are on the screen then, and a frame may come twice.
    """
    first, last = ticks[0], ticks[-1]
    gaps = sorted(right - left for left, right in pairwise(ticks))
    half = Fraction(gaps[len(gaps) // 10], 2) if gaps else Fraction(0)  # a short gap: the rate while something moves
    picked: list[tuple[int, Fraction]] = []
    for number in range(count):
        at = first + Fraction((last - first) * number, max(1, count - 1))
        tick = ticks[max(0, bisect_right(ticks, at + half) - 1)]
        if tick == at + half and tick > at:  # the middle between two: rounded to the even one, as Python does
            place = bisect_left(ticks, tick)
            tick = ticks[place] if place % 2 == 0 else ticks[place - 1]
        picked.append((tick, Fraction(tick) if abs(tick - at) <= half else at))
    return picked


@contextmanager
def _opened(data: bytes, kind: str) -> Iterator[tuple[Any, Any]]:
    """Open a clip for one pass; what the library raises leaves as the app's errors. Yields the container and its stream."""
    try:
        with av.open(
            io.BytesIO(data), "r", format=_DEMUXERS[kind], metadata_errors="replace", io_open=_open_nothing
        ) as container:
            streams = [each for each in container.streams.video if not _is_cover(each)]
            if not streams:
                raise UnreadableImageError("clip.no_video", format=kind)
            stream = next((each for each in streams if each.disposition & av.stream.Disposition.default), streams[0])
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = DECODER_THREADS
            yield container, stream
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.DecoderNotFoundError as error:
        raise UnreadableImageError("clip.unknown_codec", format=kind) from error
    except (av.error.FFmpegError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise UnreadableImageError("clip.unreadable", format=kind) from error


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a clip may not name other files")


def _is_cover(stream: Any) -> bool:
    """Return whether a video stream is a still that stands for a piece of music."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _told_seconds(container: Any, stream: Any) -> float:
    """Return the length in the header; 0 where it has none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # MKV and WEBM tell the time of the end, which counts from 0 where the clip was cut out of a longer one.
    return (
        max(0.0, float((container.duration - max(0, container.start_time or 0)) / av.time_base))
        if container.duration
        else 0.0
    )


def _check_frame(width: int, height: int, kind: str, limits: ClipLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            "image.too_many_pixels", format=kind, megapixels=width * height / 1e6, limit=limits.max_pixels / 1e6
        )


def _scan(container: Any, stream: Any, limits: ClipLimits) -> tuple[list[int], list[int], int, float]:
    """Return the times of all frames and of the key frames, ascending, and how long the last one is shown, in ticks; and the
    second at which everything ends, sound as well.
    """
    times: set[int] = set()
    keys: set[int] = set()
    count, last, last_length = 0, 0, 0
    end_s = 0.0
    try:
        for packet in container.demux():
            tick = packet.dts if packet.pts is None else packet.pts
            if tick is None or packet.is_discard or not packet.size:
                continue
            end_s = max(end_s, float((tick + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            count += 1
            if count > MOST_PACKETS:
                raise ImageTooLargeError("clip.too_many_frames", limit=MOST_PACKETS)
            times.add(tick)
            if packet.is_keyframe:
                keys.add(tick)
            if tick >= last:
                last, last_length = tick, int(packet.duration or 0)
    except (av.error.InvalidDataError, av.error.EOFError):
        pass  # the file ends in the middle of something: what came before it stands
    ordered = sorted(times)
    if not last_length and len(ordered) > 1:
        last_length = (ordered[-1] - ordered[0]) // (len(ordered) - 1)
    return ordered, sorted(keys), last_length or int(1 / (25 * stream.time_base)), end_s


@dataclass(frozen=True, slots=True)
class _First:
    width: int
    height: int
    turn: Image.Transpose | None
    ratio: Fraction


def _first_frame(data: bytes, kind: str, limits: ClipLimits) -> _First:
    """Decode the first frame there is: what it says of itself holds, whatever the header says."""
    with _opened(data, kind) as (container, stream):
        for frame in _decoded(container, stream, [], ()):
            _check_frame(frame.width, frame.height, kind, limits)
            ratio = stream.sample_aspect_ratio or Fraction(1)
            return _First(frame.width, frame.height, _turn(frame), Fraction(ratio))
    raise UnreadableImageError("clip.unreadable", format=kind)


def _turn(frame: Any) -> Image.Transpose | None:
    """Return what makes a frame stand as players show it: turned, and mirrored where a phone's front camera says so."""
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return None
    across, across_down, _, down_across, down = struct.unpack("=5i", bytes(matrix)[:20])
    straight, crossed = (abs(across), abs(down)), (abs(across_down), abs(down_across))
    if min(straight) > _CLEARLY * max(crossed):
        return _STRAIGHT.get((_sign(across), _sign(down)))
    if min(crossed) > _CLEARLY * max(straight):
        return _CROSSED[_sign(across_down), _sign(down_across)]
    return None


def _sign(number: int) -> int:
    return 1 if number > 0 else -1


def _lying(size: Size, turn: Image.Transpose | None) -> Size:
    """Return the upright size of frames that are stored at this one, and the other way round."""
    return Size(size.height, size.width) if turn in _CROSSED.values() else size


def _square(width: int, height: int, *, stream_ratio: Fraction) -> Size:
    """Return the size with square pixels: old cameras store them narrower than they are shown."""
    if not Fraction(1, 8) <= stream_ratio <= 8:
        return Size(width, height)
    return Size(max(1, round(width * stream_ratio)), height)


def _tick_of(frame: Any) -> int:
    tick = frame.dts if frame.pts is None else frame.pts
    return 0 if tick is None else int(tick)


def _decoded(container: Any, stream: Any, wanted: Sequence[int], keys: Sequence[int]) -> Iterator[Any]:
    """Give decoded frames in the order they are shown; those that no wanted time needs may be missing.

    A damaged packet costs what depends on it and nothing else.
    """
    context = stream.codec_context
    begins = [_key_before(tick, keys) for tick in wanted]
    asked = 0
    is_skipping = False
    passed: int | None = None  # the last key frame that was decoded
    for packet in container.demux(stream):
        tick = packet.dts if packet.pts is None else packet.pts
        if is_skipping and packet.size:
            if not packet.is_keyframe or tick is None or tick < begins[asked]:
                continue
            context.flush_buffers()
            is_skipping = False
        if packet.is_keyframe and packet.size and tick is not None:
            passed = tick
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, av.error.EOFError):
            continue
        for frame in frames:
            at = _tick_of(frame)
            yield frame
            while asked < len(wanted) and wanted[asked] <= at:
                asked += 1
        # Frames that are shown before a key frame may come behind it: what tells where the file is are the key frames alone.
        if asked and asked < len(wanted) and passed is not None and begins[asked] > passed:
            is_skipping = True


def _key_before(tick: int, keys: Sequence[int]) -> int:
    place = bisect_right(keys, tick)
    return keys[place - 1] if place else tick
