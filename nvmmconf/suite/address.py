# SPDX-License-Identifier: BSD-2-Clause
"""Guest addresses that print themselves with the symbol they stand at."""

from __future__ import annotations


class Address(int):
    """A number that shows as `0x1003 <after_hlt>`; it compares and counts as an int."""

    words: str

    def __new__(cls, value: int, words: str = "") -> Address:
        """Make an address that `repr` shows as `words` (hex where empty)."""
        self = super().__new__(cls, value)
        self.words = words or hex(value)
        return self

    def __repr__(self) -> str:
        return self.words

    __str__ = __repr__
