# SPDX-License-Identifier: BSD-2-Clause
"""The state in which a guest's first instruction, at `start`, finds the processor.

The trampolines of the images (`guests/include/<mode>.S`) leave exactly this, and
whoever starts a guest without them sets exactly this.  What is not named here
(debug registers, FPU, MSRs but EFER) is as RESET leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .mode import Mode


@dataclass(frozen=True)
class SegmentState:
    """A segment register with its hidden part; the fields are a descriptor's."""

    selector: int
    base: int
    limit: int
    """Offset of the last byte, whatever `g` says."""
    type: int
    """The four type bits."""
    s: int
    """1 for code and data, 0 for system segments."""
    dpl: int = 0
    p: int = 1
    avl: int = 0
    l: int = 0  # noqa: E741 (the bit's name)
    db: int = 0
    """D in code, B in stack segments."""
    g: int = 0


@dataclass(frozen=True)
class TableState:
    """GDTR or IDTR."""

    base: int
    """Linear address."""
    limit: int
    """Offset of the last byte."""


@dataclass(frozen=True)
class EntryState:
    """The processor at `start`; all general registers but RSP are 0."""

    mode: Mode
    rip: int
    """Offset in CS of the first instruction."""
    rsp: int
    rflags: int
    cs: SegmentState
    data: SegmentState
    """DS, ES, FS, GS and SS alike."""
    ldtr: SegmentState
    tr: SegmentState
    gdtr: TableState
    idtr: TableState
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int


_LDTR = SegmentState(selector=0, base=0, limit=0xFFFF, type=0x2, s=0)
_TR = SegmentState(selector=0, base=0, limit=0xFFFF, type=0xB, s=0)

REAL16 = EntryState(
    mode=Mode.REAL16,
    rip=0,
    rsp=0xFFF0,
    rflags=0x2,
    cs=SegmentState(selector=0x2000, base=0x20000, limit=0xFFFF, type=0xB, s=1),
    data=SegmentState(selector=0x2000, base=0x20000, limit=0xFFFF, type=0x3, s=1),
    ldtr=_LDTR,
    tr=_TR,
    gdtr=TableState(base=0, limit=0xFFFF),
    idtr=TableState(base=0, limit=0x3FF),
    cr0=0x10,
    cr2=0,
    cr3=0,
    cr4=0,
    cr8=0,
    efer=0,
)
"""Real-address mode.  `rip` is a placeholder until `entry_state` fills in `start`."""

_FLAT_DATA = SegmentState(selector=0x10, base=0, limit=0xFFFFFFFF, type=0x3, s=1, db=1, g=1)

LONG64 = EntryState(
    mode=Mode.LONG64,
    rip=0,
    rsp=0,
    rflags=0x2,
    cs=SegmentState(selector=0x08, base=0, limit=0xFFFFFFFF, type=0xB, s=1, l=1, g=1),
    data=_FLAT_DATA,
    ldtr=_LDTR,
    tr=_TR,
    gdtr=TableState(base=0, limit=0),
    idtr=TableState(base=0, limit=0),
    cr0=0x80000031,
    cr2=0,
    cr3=0,
    cr4=0x620,
    cr8=0,
    efer=0x500,
)
"""64-bit mode.  `rip`, `rsp`, `cr3` and `gdtr` are placeholders until `entry_state`
fills in `start`, `stack_top`, `pml4`, `gdt` and `gdt_end`."""

COMPAT32 = replace(LONG64, mode=Mode.COMPAT32, cs=replace(LONG64.cs, l=0, db=1))
"""Compatibility mode; placeholders as in LONG64."""

PROT32 = replace(COMPAT32, mode=Mode.PROT32, cr0=0x31, cr4=0x600, efer=0)
"""Protected mode without paging; placeholders as in LONG64, but CR3 is 0."""

_STATES = {state.mode: state for state in (REAL16, PROT32, COMPAT32, LONG64)}


def entry_state(mode: Mode, symbols: Mapping[str, int]) -> EntryState:
    """The entry state of an image with these symbols (KeyError if one is missing)."""
    state = replace(_STATES[mode], rip=symbols["start"])
    if mode is Mode.REAL16:
        return state
    gdt = symbols["gdt"]
    return replace(
        state,
        rsp=symbols["stack_top"],
        cr3=0 if mode is Mode.PROT32 else symbols["pml4"],
        gdtr=TableState(base=gdt, limit=symbols["gdt_end"] - gdt - 1),
    )
