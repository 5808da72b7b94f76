# SPDX-License-Identifier: BSD-2-Clause
"""The names and layouts of a local APIC's registers, and what travels between APICs.

Sections are those of the SDM, volume 3A, in editions where the APIC is chapter
10 (it is chapter 11 in later ones).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

PAGE_SIZE: Final = 0x1000
"""Bytes of the register space."""
FIRST_LEGAL_VECTOR: Final = 16
"""10.5.2: vectors 0 to 15 are illegal."""
BROADCAST: Final = 0xFF
"""A destination that means everybody (10.6.2.1, 10.6.2.2)."""


class Register(enum.IntEnum):
    """Offsets in the page (table 10-1)."""

    ID = 0x020
    VERSION = 0x030
    TPR = 0x080
    APR = 0x090
    PPR = 0x0A0
    EOI = 0x0B0
    REMOTE_READ = 0x0C0
    LDR = 0x0D0
    DFR = 0x0E0
    SVR = 0x0F0
    ISR = 0x100
    """First of eight."""
    TMR = 0x180
    """First of eight."""
    IRR = 0x200
    """First of eight."""
    ESR = 0x280
    LVT_CMCI = 0x2F0
    ICR_LOW = 0x300
    ICR_HIGH = 0x310
    LVT_TIMER = 0x320
    LVT_THERMAL = 0x330
    LVT_PERFORMANCE = 0x340
    LVT_LINT0 = 0x350
    LVT_LINT1 = 0x360
    LVT_ERROR = 0x370
    INITIAL_COUNT = 0x380
    CURRENT_COUNT = 0x390
    DIVIDE = 0x3E0


class DeliveryMode(enum.IntEnum):
    """Bits 10:8 of an LVT entry (10.5.1) and of the ICR (10.6.1)."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    RESERVED = 3
    """Once remote read."""
    NMI = 4
    INIT = 5
    START_UP = 6
    EXTINT = 7


class Shorthand(enum.IntEnum):
    """Bits 19:18 of the ICR (10.6.1)."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


class ApicError(enum.IntEnum):
    """Bits of the error status register (10.5.3); the lower ones are older processors'."""

    REDIRECTABLE_IPI = 1 << 4
    SEND_ILLEGAL_VECTOR = 1 << 5
    RECEIVE_ILLEGAL_VECTOR = 1 << 6
    ILLEGAL_REGISTER = 1 << 7


class Lvt(enum.IntEnum):
    """Bits of an LVT entry (figure 10-8)."""

    REMOTE_IRR = 1 << 14
    LEVEL_TRIGGERED = 1 << 15
    MASKED = 1 << 16
    PERIODIC = 1 << 17
    """Of the timer."""


LVT_WRITABLE: Final = {
    Register.LVT_CMCI: 0x107FF,
    Register.LVT_TIMER: 0x300FF,
    Register.LVT_THERMAL: 0x107FF,
    Register.LVT_PERFORMANCE: 0x107FF,
    Register.LVT_LINT0: 0x1A7FF,
    Register.LVT_LINT1: 0x1A7FF,
    Register.LVT_ERROR: 0x100FF,
}
"""What software may change of each; delivery status and remote IRR are read-only."""

LVT_SINCE: Final = {
    Register.LVT_PERFORMANCE: 4,
    Register.LVT_THERMAL: 5,
    Register.LVT_CMCI: 6,
}
"""The highest LVT entry that a version names where it has these; the others are always there."""

ICR_LOW_WRITABLE: Final = 0xCCFFF
SVR_ENABLE: Final = 1 << 8
SVR_WRITABLE: Final = 0x1FF


class Base(enum.IntEnum):
    """Bits of IA32_APIC_BASE (10.4.4)."""

    BSP = 1 << 8
    ENABLE = 1 << 11


DEFAULT_PAGE: Final = 0xFEE00000


@dataclass(frozen=True)
class Message:
    """What goes over the bus between APICs (10.6, 10.7)."""

    mode: DeliveryMode
    vector: int
    destination: int = 0
    logical: bool = False
    shorthand: Shorthand = Shorthand.NONE
    level_triggered: bool = False
    """Of an interrupt from an I/O APIC; an IPI is always edge-triggered."""


def icr_message(low: int, high: int) -> Message | None:
    """What a write of `low` to the ICR sends, None where it sends nothing (10.6.1).

    Nothing is sent for the INIT level de-assert (it would only set arbitration
    IDs, which nothing has), and for the modes that an ICR has not.
    """
    mode = DeliveryMode(low >> 8 & 7)
    if mode in (DeliveryMode.RESERVED, DeliveryMode.EXTINT):
        return None
    asserts, is_level = bool(low & 1 << 14), bool(low & 1 << 15)
    if mode is DeliveryMode.INIT and is_level and not asserts:
        return None
    shorthand = Shorthand(low >> 18 & 3)
    return Message(mode, low & 0xFF, high >> 24, bool(low & 1 << 11), shorthand)
