"""Finding about the process that reads pictures: whether it works, and what the system holds it to. Knows no model."""

from __future__ import annotations

from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.errors import PictureError, Reason
from qwen_vl_app.imaging import Confinement, PictureDecoder, known_scenes

MOST_BYTES, MOST_PIXELS = 2**24, 2**24
"""Of the picture that is tried, with room to spare."""


def decoder_finding(timeout_s: float) -> Finding:
    """Start such a process, have it read a picture, and judge what it says of itself."""
    decoder = PictureDecoder(max_bytes=MOST_BYTES, max_pixels=MOST_PIXELS, timeout_s=timeout_s)
    try:
        decoder.inspect(known_scenes()[0].png, name="known.png")
        return confinement_finding(decoder.confinement())
    except PictureError:
        return Finding("decoder", Verdict.PROBLEM, Reason("doctor.decoder.failed"))
    finally:
        decoder.close()


def confinement_finding(confinement: Confinement) -> Finding:
    """Judge what a process that reads pictures is held to."""
    if not confinement.has_memory_limit:
        return Finding("decoder", Verdict.NOTE, Reason("doctor.decoder.unlimited"))
    code = "doctor.decoder.fine" if confinement.is_full else "doctor.decoder.partly"
    return Finding("decoder", Verdict.OK, Reason(code))
