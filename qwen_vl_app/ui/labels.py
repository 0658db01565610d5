"""What stands in a list to choose from: labels that tell each option from every other.

What was chosen travels as its label. Two that read alike would be one, and one that reads otherwise by then would be none.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def labels_of(said: Iterable[tuple[T, str]]) -> Mapping[T, str]:
    """Return a label of its own for each option: the second of a name is told by a number."""
    seen: Counter[str] = Counter()
    labels: dict[T, str] = {}
    taken: set[str] = set()
    for option, label in said:
        seen[label] += 1
        own = label if seen[label] == 1 else f"{label} ({seen[label]})"
        while own in taken:
            own += "′"
        taken.add(own)
        labels[option] = own
    return labels


def key_of(name: str, labels: Iterable[str]) -> str:
    """Return a key for a list with these labels; with others it is another list."""
    return f"{name}-{zlib.crc32('|'.join(labels).encode('utf-8', 'replace')):08x}"
