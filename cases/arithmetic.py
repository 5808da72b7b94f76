# SPDX-License-Identifier: BSD-2-Clause
"""What the processor's arithmetic gives: results and flags, from the SDM's definitions alone.

SDM 1 3.4.3.1 (status flags), SDM 2 "AND", "CMP", "CMPS", "OR", "SUB", "TEST",
"XOR".  Operands are unsigned numbers of `size` bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

CF, PF, AF, ZF, SF, OF = 0x001, 0x004, 0x010, 0x040, 0x080, 0x800
STATUS = CF | PF | AF | ZF | SF | OF
"""The status flags of RFLAGS."""
DF = 0x400

_NAMES = {CF: "CF", PF: "PF", AF: "AF", ZF: "ZF", SF: "SF", OF: "OF"}

LOGIC = ("or", "and", "xor", "test")
SUBTRACTION = ("sub", "cmp")


@dataclass(frozen=True)
class Result:
    """`value`, the status `flags`, and which of them the SDM leaves undefined."""

    value: int
    flags: int
    undefined: int = 0


def mask(size: int) -> int:
    """All ones, `size` bytes."""
    return (1 << 8 * size) - 1


def signed(value: int, size: int) -> int:
    """`value` as a two's complement number."""
    return value - (1 << 8 * size) if value >> (8 * size - 1) else value


def extended(value: int, size: int, to: int) -> int:
    """`value` of `size` bytes, sign-extended to `to` bytes."""
    return signed(value, size) & mask(to)


def compute(operation: str, left: int, right: int, size: int) -> Result:
    """`left operation right`; for "cmp" and "test" the value is what is thrown away."""
    if operation in SUBTRACTION:
        difference = signed(left, size) - signed(right, size)
        flags = (
            CF * (left < right)
            | AF * (left & 0xF < right & 0xF)
            | OF * (not -(1 << 8 * size - 1) <= difference < 1 << 8 * size - 1)
        )
        value = (left - right) & mask(size)
        return Result(value, flags | _of_result(value, size))
    value = {"or": left | right, "and": left & right, "test": left & right, "xor": left ^ right}[
        operation
    ]
    return Result(value, _of_result(value, size), undefined=AF)


def _of_result(value: int, size: int) -> int:
    return (
        ZF * (value == 0)
        | SF * (value >> (8 * size - 1))
        | PF * ((value & 0xFF).bit_count() % 2 == 0)
    )


def flag_names(flags: int) -> str:
    """The status flags in `flags`, for people."""
    return " ".join(name for bit, name in _NAMES.items() if flags & bit) or "none"


def operands(size: int) -> tuple[tuple[int, int], ...]:
    """Pairs that between them set and clear each flag, for each operation."""
    ones, top = mask(size), 1 << (8 * size - 1)
    low = 0x0123456789ABCDEF & ones
    return (
        (low, low),  # equal
        (0x55555555_55555555 & ones, 0xAAAAAAAA_AAAAAAAA & ones),  # no bit in common
        (0, 1),  # borrow to the end
        (0x10 if size == 1 else 0x1310 & ones, 1),  # borrow from bit 4
        (top, 1),  # overflow, downward
        (top - 1, ones),  # overflow, upward
        (ones, 0x71),  # parity of the low byte is not that of the whole
        (0xF1E2D3C4_B5A69788 & ones, 0x8877665544332F13 & ones),
    )
