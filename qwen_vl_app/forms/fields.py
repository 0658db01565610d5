"""One field of a form: what it is called, what kind of value it takes, and what must hold of it.

Knows kinds and names in both languages. Does not know pictures, models or how a value is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict


class FieldType(StrEnum):
    """The kinds of values."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    """With a unit, where the field names one."""
    DATE = "date"
    CHOICE = "choice"
    LIST = "list"
    TABLE = "table"

    @property
    def has_parts(self) -> bool:
        """True for values that are made of others."""
        return self in (FieldType.LIST, FieldType.TABLE)


class Checksum(StrEnum):
    """Check digits that are told right from wrong."""

    LUHN = "luhn"
    """Mod 10 over doubled digits: cards, IMEI, many serial numbers."""
    GTIN = "gtin"
    """GTIN-8, -12, -13, -14: EAN and UPC codes."""
    IBAN = "iban"
    ISO6346 = "iso6346"
    """Freight containers."""
    VIN = "vin"
    """Vehicles, as North America and China check them."""
    USCC = "uscc"
    """China's unified social credit code, GB 32100."""
    CN_ID = "cn_id"
    """China's resident identity number, GB 11643."""


class Looking(StrEnum):
    """Whether a value is read a second time."""

    DEFAULT = "default"
    """Numbers and identifiers are, the rest is not."""
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Names:
    """A name in both languages; one that is missing is the other's."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    en: str = ""
    zh: str = ""

    def of(self, language: str) -> str:
        """Return the name in a language."""
        return (self.zh or self.en) if language == "zh" else (self.en or self.zh)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the values that a choice may have, with the other ways it is written."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    value: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FormField:
    """One field. `key` names it in exports and rules; `label` is what stands on the picture, where that is not its name.

    `format` is a date's (`YYYY-MM-DD`, `DD.MM.YYYY`, ...): it settles which of two numbers is the day, and how the date is
    written in exports. `decimal_mark` settles whether `1,234` is a thousand or a little more than one.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: str
    names: Names = Names()
    type: FieldType = FieldType.TEXT
    label: Names = Names()
    is_required: bool = False
    unit: str = ""
    """What numbers are turned into; a value without a unit is taken to be in it already."""
    decimal_mark: str = ""
    format: str = ""
    choices: tuple[Choice, ...] = ()
    columns: tuple[FormField, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    earliest: str = ""
    latest: str = ""
    """Bounds of a date, as YYYY-MM-DD; `today` means the day it is read, where it is read."""
    pattern: str = ""
    """A regular expression that the whole value must match."""
    checksum: Checksum | None = None
    is_identifier: bool = False
    """A serial number, a tag: one wrong character makes it another thing's."""
    is_needle: bool = False
    """Read off a needle or a float: models are wrong there too often, so a person is always asked."""
    second_look: Looking = Looking.DEFAULT
    hint: Names = Names()
    """Words that help to find it ("upper left", "behind S/N")."""

    @property
    def is_looked_at_again(self) -> bool:
        """Whether the value is read a second time unless somebody says otherwise."""
        if self.second_look is not Looking.DEFAULT:
            return self.second_look is Looking.ALWAYS and not self.type.has_parts
        return self.type in (FieldType.INTEGER, FieldType.NUMBER) or self.is_identifier or self.checksum is not None

    def asked_as(self, language: str) -> str:
        """Return what the model is asked for: the words on the picture where the template has them."""
        return " ".join((self.label.of(language) or self.names.of(language) or self.key).split())


def told_apart(fields: Sequence[FormField], names: Mapping[str, str], language: str) -> dict[str, str]:
    """Return a name for each field, by key: its own of `names`, and where others have it too, what is on the picture or the key.

    The same fields get the same names whatever their values are, so that columns of many forms fit.
    """
    counts = Counter(_folded(names[field.key]) for field in fields)
    taken = {name for name, count in counts.items() if count == 1}
    found: dict[str, str] = {}
    for field in fields:
        own, label = names[field.key], " ".join(field.label.of(language).split())
        if counts[_folded(own)] > 1:
            # Without words of its own on the picture it is looked for by its name: that is the one which keeps it.
            ways = (f"{own} ({label})" if label and _folded(label) != _folded(own) else own, f"{own} ({field.key})")
            own = next((way for way in ways if _folded(way) not in taken), ways[-1])
            while _folded(own) in taken:
                own += f" ({field.key})"
            taken.add(_folded(own))
        found[field.key] = own
    return found


def shown_names(fields: Sequence[FormField], language: str) -> dict[str, str]:
    """Return the name of each field as a person reads it, by key; no two have one."""
    names = {field.key: field.names.of(language) or field.label.of(language) or field.key for field in fields}
    return told_apart(fields, names, language)


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()
