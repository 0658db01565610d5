"""Numbers of turns and pictures in addresses, however long somebody writes them.

Knows Starlette's convertors. Does not know what is numbered.
"""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

NO_SUCH = 2**63 - 1
"""Larger than any row's: what a longer number is taken for, which Python would refuse to read at some length."""
_DIGITS = 18


class RowNumber(Convertor[int]):
    """`{name:row}` in a route."""

    regex = "[0-9]+"

    def convert(self, value: str) -> int:
        """Return the number."""
        return int(value) if len(value) <= _DIGITS else NO_SUCH

    def to_string(self, value: int) -> str:
        """Return the number as an address has it."""
        return str(value)


def know_row_numbers() -> None:
    """Let routes that are made from now on say `{name:row}`. A second call is free."""
    register_url_convertor("row", RowNumber())
