"""Frames with a wide range of light, which phones call HDR, in the colours of an ordinary screen.

Taken for ordinary values they are pale and grey. Knows the numbers of BT.2100; does not know clips.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import cache

from PIL import Image, ImageFilter

STEPS = 25
"""Of each colour in the table; both curves are made for the eye, so that what lies between follows a straight line."""
WHITE_NITS = 203.0
"""How bright a white wall is in such a picture; above are lamps and the sun."""
_HLG_NITS = 1000.0
_PQ_NITS = 10_000.0
_KNEE = 0.75
"""Where the brightness of an ordinary screen begins to be shared with what is brighter than it."""
_GAMMA = 2.2


class WideLight(Enum):
    """The two ways in which clips keep light: `HLG` of phones and broadcasts, `PQ` of films."""

    HLG = "hlg"
    PQ = "pq"


def to_screen(image: Image.Image, kind: WideLight) -> Image.Image:
    """Return an RGB picture of that kind of values, of BT.2020's colours, as a screen shows it."""
    return image.filter(_table(kind))


@cache
def _table(kind: WideLight) -> ImageFilter.Color3DLUT:
    nits = _hlg if kind is WideLight.HLG else _pq

    def shown(red: float, green: float, blue: float) -> tuple[float, float, float]:
        return _on_screen(*nits(red, green, blue))

    return ImageFilter.Color3DLUT.generate(STEPS, shown)


def _hlg(red: float, green: float, blue: float) -> tuple[float, float, float]:
    linear = [
        each * each / 3 if each <= 0.5 else (math.exp((each - 0.55991073) / 0.17883277) + 0.28466892) / 12
        for each in (red, green, blue)
    ]
    gain = _HLG_NITS * (0.2627 * linear[0] + 0.6780 * linear[1] + 0.0593 * linear[2]) ** 0.2
    return linear[0] * gain, linear[1] * gain, linear[2] * gain


def _pq(red: float, green: float, blue: float) -> tuple[float, float, float]:
    return _pq_nits(red), _pq_nits(green), _pq_nits(blue)


def _pq_nits(value: float) -> float:
    root = math.pow(value, 32 / 2523)
    return _PQ_NITS * math.pow(max(0.0, root - 0.8359375) / (18.8515625 - 18.6875 * root), 8192 / 1305)


def _on_screen(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Return nits in BT.2020's colours as a screen's values, 0 to 1."""
    return (
        _value(1.6605 * red - 0.5876 * green - 0.0728 * blue),
        _value(-0.1246 * red + 1.1329 * green - 0.0083 * blue),
        _value(-0.0182 * red - 0.1006 * green + 1.1187 * blue),
    )


def _value(nits: float) -> float:
    light = max(0.0, nits / WHITE_NITS)
    if light > _KNEE:
        light = 1 - (1 - _KNEE) * math.exp((_KNEE - light) / (1 - _KNEE))
    return math.pow(light, 1 / _GAMMA)
