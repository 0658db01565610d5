"""The units that stand on plates, gauges and delivery notes, and how one is turned into another.

Knows a table of what plants measure, in the spellings of both languages. A general library was looked at and left: it reads
units as expressions and knows none of these spellings. Numbers are decimal, so that 12.5 stays 12.5.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """`base = value * factor + offset` in the base unit of its kind."""

    kind: str
    factor: Fraction
    offset: Fraction = Fraction(0)


def _f(text: str) -> Fraction:
    return Fraction(text)


_TABLE: tuple[tuple[str, str, str, str], ...] = (
    # kind, factor, offset, spellings: the first is how it is shown
    ("length", "1", "0", "m metre meter 米"),
    ("length", "1/1000", "0", "mm 毫米"),
    ("length", "1/100", "0", "cm 厘米"),
    ("length", "1000", "0", "km 公里 千米"),
    ("length", "1/1000000", "0", "µm um μm 微米"),
    ("length", "254/10000", "0", 'in inch " ″ 英寸'),
    ("length", "3048/10000", "0", "ft foot feet 英尺"),
    ("mass", "1", "0", "kg kgs kilogram 公斤 千克"),
    ("mass", "1/1000", "0", "g 克"),
    ("mass", "1/1000000", "0", "mg 毫克"),
    ("mass", "1000", "0", "t tonne 吨"),
    ("mass", "1/2", "0", "斤"),
    ("mass", "45359237/100000000", "0", "lb lbs 磅"),
    ("time", "1", "0", "s sec 秒"),
    ("time", "60", "0", "min 分钟 分"),
    ("time", "3600", "0", "h hr hrs 小时 时"),
    ("time", "1/1000", "0", "ms 毫秒"),
    ("temperature", "1", "0", "K"),
    ("temperature", "1", "27315/100", "°C C degC ℃ 度 摄氏度"),
    ("temperature", "5/9", "229835/900", "°F F degF ℉ 华氏度"),
    ("pressure", "1", "0", "Pa 帕"),
    ("pressure", "1/1000", "0", "mPa 毫帕"),
    ("pressure", "1000", "0", "kPa 千帕"),
    ("pressure", "1000000", "0", "MPa 兆帕"),
    ("pressure", "100", "0", "mbar hPa 毫巴"),
    ("pressure", "100000", "0", "bar barg bar(g) 巴"),
    ("pressure", "6894757293168/1000000000", "0", "psi psig"),
    ("pressure", "980665/10", "0", "kgf/cm² kgf/cm2 kg/cm² kg/cm2 kp/cm2 kp/cm² at 公斤力"),
    ("pressure", "101325", "0", "atm"),
    ("pressure", "133322387415/1000000000", "0", "mmHg"),
    ("volume", "1", "0", "m³ m3 cbm 立方米 方"),
    ("volume", "1/1000", "0", "l L liter litre dm³ dm3 升"),
    ("volume", "1/1000000", "0", "ml mL cm³ cm3 毫升"),
    ("volume", "3785411784/1000000000000", "0", "gal 加仑"),
    ("flow", "1", "0", "m³/h m3/h 立方米/小时"),
    ("flow", "6/100", "0", "l/min L/min lpm 升/分"),
    ("flow", "36/10", "0", "l/s L/s 升/秒"),
    ("flow", "3600", "0", "m³/s m3/s"),
    ("flow", "1/1000", "0", "l/h L/h"),
    ("flow", "227124707/1000000000", "0", "gpm"),
    ("power", "1", "0", "W 瓦"),
    ("power", "1/1000", "0", "mW 毫瓦"),
    ("power", "1000", "0", "kW 千瓦"),
    ("power", "1000000", "0", "MW 兆瓦"),
    ("power", "73549875/100000", "0", "PS 马力"),
    ("power", "7456998716/10000000", "0", "hp HP"),
    ("apparent power", "1", "0", "VA"),
    ("apparent power", "1000", "0", "kVA 千伏安"),
    ("energy", "1", "0", "kWh 千瓦时 度电"),
    ("energy", "1/1000", "0", "Wh"),
    ("energy", "1/1000000", "0", "mWh"),
    ("energy", "1000", "0", "MWh"),
    ("voltage", "1", "0", "V Volt volts VAC VDC 伏 伏特"),
    ("voltage", "1000", "0", "kV 千伏"),
    ("voltage", "1/1000", "0", "mV 毫伏"),
    ("current", "1", "0", "A Amp amps 安 安培"),
    ("current", "1/1000", "0", "mA 毫安"),
    ("current", "1000", "0", "kA"),
    ("frequency", "1", "0", "Hz 赫兹"),
    ("frequency", "1000", "0", "kHz 千赫"),
    ("speed of rotation", "1", "0", "rpm r/min min⁻¹ min-1 1/min U/min 转/分"),
    ("speed", "1", "0", "m/s 米/秒"),
    ("speed", "10/36", "0", "km/h 公里/小时"),
    ("force", "1", "0", "N 牛"),
    ("force", "1000", "0", "kN 千牛"),
    ("torque", "1", "0", "Nm N·m N.m 牛米"),
    ("share", "1", "0", "% percent 百分"),
    ("share", "1/10", "0", "‰"),
    ("conductivity", "1", "0", "µS/cm uS/cm μS/cm"),
    ("conductivity", "1000", "0", "mS/cm"),
    ("resistance", "1", "0", "Ω Ohm ohms 欧"),
    ("resistance", "1/1000", "0", "mΩ mOhm 毫欧"),
    ("resistance", "1000", "0", "kΩ kOhm 千欧"),
    ("resistance", "1000000", "0", "MΩ MOhm 兆欧"),
    ("level of sound", "1", "0", "dB dB(A)"),
    ("acidity", "1", "0", "pH"),
    ("pieces", "1", "0", "pcs pc pieces 个 件 只 台 支"),
)


def _build() -> tuple[dict[str, tuple[str, Unit]], dict[str, tuple[str, Unit]]]:
    exact: dict[str, tuple[str, Unit]] = {}
    loose: dict[str, tuple[str, Unit] | None] = {}
    for kind, factor, offset, spellings in _TABLE:
        words = spellings.split()
        unit = Unit(kind, _f(factor), _f(offset))
        for word in words:
            exact[_plain(word)] = (words[0], unit)
            folded = _plain(word).casefold()
            # mW and MW are not one unit: a spelling that is two units in small letters is known only as it is written.
            loose[folded] = (words[0], unit) if folded not in loose or loose[folded] == (words[0], unit) else None
    return exact, {word: found for word, found in loose.items() if found is not None}


def _with_capital(word: str) -> str:
    """Return a spelling of which only the first letter's case is told apart."""
    return word[:1] + word[1:].casefold()


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text.replace("²", "2").replace("³", "3"))).replace("μ", "µ")


_EXACT, _LOOSE = _build()
_MEGA = {_with_capital(word): found for word, found in _EXACT.items() if word.startswith("M")}
"""MPA and Mpa are no millipascals, whatever else is wrong with them."""


def is_unit(text: str) -> bool:
    """True for a unit of the table, in any of its spellings."""
    return unit_of(text) is not None


def unit_of(text: str) -> tuple[str, Unit] | None:
    """Return how a unit is shown, and the unit; None for what is none."""
    word = _plain(text).strip(".:")
    return _EXACT.get(word) or _MEGA.get(_with_capital(word)) or _LOOSE.get(word.casefold())


def convert(value: Decimal, source: str, target: str) -> Decimal | None:
    """Return a value in another unit, with ten figures at most; None where the two measure different things."""
    found, wanted = unit_of(source), unit_of(target)
    if found is None or wanted is None or found[1].kind != wanted[1].kind:
        return None
    if found[1] == wanted[1]:
        return value
    base = Fraction(value) * found[1].factor + found[1].offset
    result = (base - wanted[1].offset) / wanted[1].factor
    exact = Decimal(result.numerator) / Decimal(result.denominator)
    rounded = Decimal(f"{exact:.10g}")
    return rounded.normalize() if rounded else Decimal(0)


def known_units() -> tuple[str, ...]:
    """Return the units as they are shown, in the order of the table."""
    return tuple(spellings.split()[0] for _, _, _, spellings in _TABLE)
