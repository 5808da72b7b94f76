# SPDX-License-Identifier: BSD-2-Clause
"""From a guest's entry state to the emulator's register file."""

from __future__ import annotations

from nvmmconf.abi import Cr, Gpr, Msr, Segment
from nvmmconf.accel import Registers, SegmentRegister
from nvmmconf.guest import EntryState, SegmentState, TableState

_DATA_SEGMENTS = (Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS)


def entry_registers(entry: EntryState) -> Registers:
    """Return the registers with which the guest's first instruction finds the vCPU."""
    registers = Registers()
    registers.gpr[Gpr.RIP] = entry.rip
    registers.gpr[Gpr.RSP] = entry.rsp
    registers.gpr[Gpr.RFLAGS] = entry.rflags
    registers.seg[Segment.CS] = _segment(entry.cs)
    for segment in _DATA_SEGMENTS:
        registers.seg[segment] = _segment(entry.data)
    registers.seg[Segment.LDT] = _segment(entry.ldtr)
    registers.seg[Segment.TR] = _segment(entry.tr)
    registers.seg[Segment.GDT] = _table(entry.gdtr)
    registers.seg[Segment.IDT] = _table(entry.idtr)
    registers.cr[Cr.CR0] = entry.cr0
    registers.cr[Cr.CR2] = entry.cr2
    registers.cr[Cr.CR3] = entry.cr3
    registers.cr[Cr.CR4] = entry.cr4
    registers.msr[Msr.EFER] = entry.efer
    return registers


def _segment(state: SegmentState) -> SegmentRegister:
    flags = (
        state.type << 8
        | state.s << 12
        | state.dpl << 13
        | state.p << 15
        | state.avl << 20
        | state.l << 21
        | state.db << 22
        | state.g << 23
    )
    return SegmentRegister(state.selector, state.base, state.limit, flags)


def _table(state: TableState) -> SegmentRegister:
    return SegmentRegister(base=state.base, limit=state.limit)
