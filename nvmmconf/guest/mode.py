# SPDX-License-Identifier: BSD-2-Clause
"""The processor modes that a guest can be built for."""

from __future__ import annotations

import enum

_REGISTERS = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
_PREFIX = {16: "", 32: "e", 64: "r"}
_POINTER = {16: ".word", 32: ".long", 64: ".quad"}


class Mode(enum.Enum):
    """A processor mode; the value is its name in a guest's `modes:` line.

    To add one: a member here, `<value>.S` and `<value>.ld` among the shared
    files, and its entry state in `entry.py`.
    """

    REAL16 = "real16"
    """Real-address mode, everything in the 64 KiB segment 0x2000."""
    PROT32 = "prot32"
    """32-bit protected mode, flat, without paging."""
    COMPAT32 = "compat32"
    """32-bit code under long mode (compatibility mode), identity-mapped, flat."""
    LONG64 = "long64"
    """64-bit mode, identity-mapped, flat."""

    @property
    def bits(self) -> int:
        """Width of an address and of a natural register, in bits."""
        return {Mode.REAL16: 16, Mode.LONG64: 64}.get(self, 32)

    @property
    def code_base(self) -> int:
        """What is added to a symbol's value to make it a linear address."""
        return 0x20000 if self is Mode.REAL16 else 0

    @property
    def boot_address(self) -> int:
        """Guest-physical address of the Multiboot header and the trampoline; as `<mode>.ld`."""
        return 0x10000 if self is Mode.REAL16 else 0x100000

    @property
    def guest_address(self) -> int:
        """Symbol value at which the guest's sections begin; as `<mode>.ld`."""
        return 0 if self is Mode.REAL16 else 0x101000

    @property
    def guest_limit(self) -> int:
        """Symbol value at which they have to end; as `<mode>.ld`."""
        return 0xF000 if self is Mode.REAL16 else 0x200000

    @property
    def has_tables(self) -> bool:
        """Whether the image has a GDT of its own, and maybe page tables: `.tables`."""
        return self is not Mode.REAL16

    def variables(self) -> dict[str, object]:
        """What a guest's template can say: `mode`, `bits`, `pointer` and registers.

        `ax` to `sp` are the names of the registers at their natural width
        (`ax`, `eax`, `rax`); `pointer` is the directive for a word of that width.
        `wide` begins the names of the widest registers (`e`, `r`), `own` is the
        segment prefix that reaches the guest's own data whatever DS holds.
        """
        names: dict[str, object] = {name: _PREFIX[self.bits] + name for name in _REGISTERS}
        return names | {
            "mode": self.value,
            "bits": self.bits,
            "pointer": _POINTER[self.bits],
            "console_port": "0xE9",
            "result_port": "0xF4",
            "guest_port": "0x5F0",
            "guest_signature": "0x474D564E",
            "wide": "r" if self.bits == 64 else "e",
            "own": "cs:" if self is Mode.REAL16 else "",
            "code_base": self.code_base,
        }
