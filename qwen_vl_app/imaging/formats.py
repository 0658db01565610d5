"""What a file is, by its first bytes: never by its name. Knows signatures; decodes nothing."""

from __future__ import annotations

from collections.abc import Iterator

ACCEPTED_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif", "pdf")
"""What a door may offer to pick; the bytes decide."""
PDF = "PDF"
HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
)
AVIF_BRANDS = frozenset({b"avif", b"avis"})
_DICOM_WINDOW = 128
_PDF_WINDOW = 1024
"""Readers accept a PDF whose header stands anywhere in the first 1024 bytes."""

_LEAST_HOLE = 32 * 1024
"""Packed pixels have no so many zeros on end, though a plain WEBP of 100 megapixels has nearly ten thousand."""
_HEADER_BYTES = 64 * 1024

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_STRANGERS: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"DDS ", "DDS"),
    (b"PK\x03\x04", "ZIP"),
    (b"\xd0\xcf\x11\xe0", "Office"),
    (b"\x1aE\xdf\xa3", "Matroska"),
    (b"{\\rtf", "RTF"),
    (b"/* XPM", "XPM"),
    (b"ID3", "MP3"),
    (b"II\xbc\1", "JPEG XR"),
    (b"AT&TFORM", "DjVu"),
    (b"v/1\1", "OpenEXR"),
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"IIU\0", "RW2"),
    (b"IIRO", "ORF"),
    (b"IIRS", "ORF"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "RAR"),
)
_CONTAINERS = frozenset({"ZIP", "Office"})
_NAMED_BY_ENDING = {
    **dict.fromkeys(("doc", "docx"), "Word"),
    **dict.fromkeys(("xls", "xlsx"), "Excel"),
    **dict.fromkeys(("ppt", "pptx"), "PowerPoint"),
    **{"odt": "ODT", "ods": "ODS", "odp": "ODP", "epub": "EPUB", "dcm": "DICOM", "tga": "TGA", "pcx": "PCX"},
    **{"dwg": "DWG", "emf": "EMF", "csv": "CSV", "ai": "Illustrator", "avi": "AVI", "mov": "MOV"},
}
"""Formats whose bytes say nothing, or only "an archive"."""


def sniff(data: bytes) -> str | None:
    """Return the format of the bytes, as Pillow or we call it, or None where it is not one that is read here."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _sniff_boxes(data)
    if b"%PDF-" in data[:_PDF_WINDOW] and not data.startswith(b"%!PS"):
        return PDF
    return None


def name_stranger(data: bytes, *, ending: str = "") -> str | None:
    """Return what people call a file that is not read here; None where neither its bytes nor its ending tell."""
    by_ending = _NAMED_BY_ENDING.get(ending.lower())
    by_bytes = _name_by_bytes(data)
    if by_bytes is None or by_bytes in _CONTAINERS:
        return by_ending or by_bytes
    return by_bytes


def _name_by_bytes(data: bytes) -> str | None:
    for signature, name in _STRANGERS:
        if data.startswith(signature):
            return name
    start = data[:2048].lstrip(b"\xef\xbb\xbf\0 \t\r\n").lower()
    if b"<svg" in start:
        return "SVG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if data[4:8] == b"ftyp":
        return "CR3" if data[8:12] == b"crx " else "MP4"
    if data[_DICOM_WINDOW : _DICOM_WINDOW + 4] == b"DICM":
        return "DICOM"
    return None


def _sniff_boxes(data: bytes) -> str | None:
    """Tell HEIF, AVIF and video apart by the brands in the first box; `mif1` alone says only "a still picture"."""
    length = min(int.from_bytes(data[:4], "big"), 512, len(data))
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, length - 3, 4))]
    if any(brand in AVIF_BRANDS for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in HEIF_BRANDS for brand in brands) else None


def ends_in_a_box(data: bytes) -> bool:
    """Return whether a HEIF or AVIF file stops within a box that holds its picture.

    Such a file decodes without an error, its missing tiles plain.
    """
    return any(end > len(data) and kind in (b"mdat", b"meta") for kind, end in _boxes(data))


def ends_in_a_hole(data: bytes) -> bool:
    """Return whether a HEIF, AVIF or WEBP file was set aside in full and not written to its end, as by a copy that broke off.

    Their decoders read a picture from the zeros without an error. Pixels that are not packed may well be zeros, and so may
    a box that keeps room free.
    """
    if len(data) < _LEAST_HOLE or data[-_LEAST_HOLE:].strip(b"\0") or b"unci" in data[:_HEADER_BYTES]:
        return False
    last = [kind for kind, _ in _boxes(data)][-1:] if data[4:8] == b"ftyp" else []
    return last in ([], [b"mdat"])


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of each box on top, and where it ends by its own word, as far as they can be followed."""
    at = 0
    while at + 8 <= len(data):
        length, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:  # the length stands behind, in 64 bits
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if length < head:  # 0 means "to the end", and anything else is no box
            return
        at += length
        yield kind, at


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a WEBP header tells, or None where it cannot be read.

    The decoder sets its canvas aside while it opens the file, before Pillow could look at the size.
    """
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def webp_is_cut(data: bytes) -> bool:
    """Return whether a WEBP file has fewer bytes than its header says."""
    return len(data) < 8 + int.from_bytes(data[4:8], "little")
