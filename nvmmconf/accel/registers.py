# SPDX-License-Identifier: BSD-2-Clause
"""The emulator's register file of a vCPU, to and from kernel state.

Accelerator sections 3 and 4 (A-REG-1 to A-REG-13).  `set_registers` and
`get_registers` are each other's inverse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nvmmconf.abi import Cr, Dr, Gpr, Msr, Segment, StateFlag
from nvmmconf.nvmm import SegmentRecord, Vcpu, get_bytes, put_bytes

SYNCED = (
    StateFlag.SEGS | StateFlag.GPRS | StateFlag.CRS | StateFlag.DRS | StateFlag.MSRS | StateFlag.FPU
)
"""What is moved: all but INTR (A-REG-8)."""

MXCSR_MASK = 0x0000FFFF
"""A-REG-6; a mask of 0 would make the effective MXCSR 0 (K-SET-15)."""

_FSW_TOP_SHIFT = 11
_FSW_TOP_MASK = 0x3800

_CONTROL = tuple(cr for cr in Cr if cr is not Cr.CR8)

# The attribute fields of a segment: member, first bit in the flags word, width.
_ATTRIBUTES = (
    ("type", 8, 4),
    ("s", 12, 1),
    ("dpl", 13, 2),
    ("p", 15, 1),
    ("avl", 20, 1),
    ("l", 21, 1),
    ("def", 22, 1),
    ("g", 23, 1),
)


@dataclass(slots=True)
class SegmentRegister:
    """A segment or descriptor-table register with its hidden part.

    `flags` has the attributes where a descriptor's second doubleword has them:
    bits 8-11 type, 12 S, 13-14 DPL, 15 P, 20 AVL, 21 L, 22 D/B, 23 G (SDM 3A
    3.4.5).  `limit` counts bytes, whatever G says.
    """

    selector: int = 0
    base: int = 0
    limit: int = 0xFFFF
    flags: int = 0

    @classmethod
    def code(
        cls, selector: int, base: int = 0, limit: int = 0xFFFF, *, long: bool = False
    ) -> SegmentRegister:
        """Return a present, accessed, readable code segment of DPL 0; `long`: 64-bit."""
        return cls(selector, base, limit, 0x9B00 | (0xA00000 if long else 0))

    @classmethod
    def data(cls, selector: int, base: int = 0, limit: int = 0xFFFF) -> SegmentRegister:
        """Return a present, accessed, writable data segment of DPL 0; 4 GiB ones get G and B."""
        return cls(selector, base, limit, 0x9300 | (0xC00000 if limit > 0xFFFFF else 0))


@dataclass(slots=True)
class FpuRegisters:
    """x87 and SSE state.

    `status` never holds the top-of-stack field, which is `top` (A-REG-6);
    `empty[i]` tells whether physical register i is empty; `st` are the eight
    10-byte registers in stack order, `xmm` the sixteen as 128-bit numbers.
    """

    control: int = 0x40
    status: int = 0
    top: int = 0
    empty: list[bool] = field(default_factory=lambda: [True] * 8)
    opcode: int = 0
    ip: int = 0
    dp: int = 0
    mxcsr: int = 0x1F80
    st: list[bytes] = field(default_factory=lambda: [bytes(10)] * 8)
    xmm: list[int] = field(default_factory=lambda: [0] * 16)


@dataclass(slots=True)
class Registers:
    """A vCPU's registers as the emulator holds them; the defaults are zero.

    `gpr` is indexed by `Gpr` (RIP and RFLAGS too), `seg` by `Segment`, `cr`
    by `Cr`, `dr` by `Dr`, `msr` by `Msr`.  `cr[CR8]` is not used: the TPR is
    the accelerator's own copy (A-REG-4).  Nothing derived is kept, so that
    nothing has to be worked out again after a change (A-REG-12).
    """

    gpr: dict[Gpr, int] = field(default_factory=lambda: dict.fromkeys(Gpr, 0) | {Gpr.RFLAGS: 2})
    seg: dict[Segment, SegmentRegister] = field(
        default_factory=lambda: {segment: SegmentRegister() for segment in Segment}
    )
    cr: dict[Cr, int] = field(
        default_factory=lambda: dict.fromkeys(Cr, 0) | {Cr.CR0: 0x10, Cr.XCR0: 1}
    )
    dr: dict[Dr, int] = field(
        default_factory=lambda: dict.fromkeys(Dr, 0) | {Dr.DR6: 0xFFFF0FF0, Dr.DR7: 0x400}
    )
    msr: dict[Msr, int] = field(
        default_factory=lambda: dict.fromkeys(Msr, 0) | {Msr.PAT: 0x0007040600070406}
    )
    fpu: FpuRegisters = field(default_factory=FpuRegisters)

    @property
    def rip(self) -> int:
        """RIP."""
        return self.gpr[Gpr.RIP]

    @property
    def interrupts_enabled(self) -> bool:
        """RFLAGS.IF."""
        return bool(self.gpr[Gpr.RFLAGS] & 0x200)


def set_registers(vcpu: Vcpu, registers: Registers, tpr: int, mxcsr_mask: int = MXCSR_MASK) -> None:
    """Give `registers`, and `tpr` as CR8, to the kernel for the next run (A-REG-2 to A-REG-8).

    Must be called on the vCPU's own thread, or while it is stopped (A-REG-1).
    Raises NvmmError where setstate fails.
    """
    state = vcpu.state
    for gpr, value in registers.gpr.items():
        state.gprs[gpr] = value
    for segment, register in registers.seg.items():  # A-REG-3
        _put_segment(state.segs[segment], register)
    for cr in _CONTROL:
        state.crs[cr] = registers.cr[cr]
    state.crs[Cr.CR8] = tpr
    for dr, value in registers.dr.items():  # A-REG-5
        state.drs[dr] = value
    for msr, value in registers.msr.items():  # A-REG-7
        state.msrs[msr] = value
    _put_fpu(state.fpu, registers.fpu, mxcsr_mask)
    vcpu.setstate(SYNCED)


def get_registers(vcpu: Vcpu, registers: Registers) -> int:
    """Fill `registers` from the kernel and return CR8 (A-REG-9, A-REG-10).

    Raises NvmmError where getstate fails.
    """
    vcpu.getstate(SYNCED)
    state = vcpu.state
    for gpr in Gpr:
        registers.gpr[gpr] = state.gprs[gpr]
    for segment in Segment:
        registers.seg[segment] = _segment(state.segs[segment])
    for cr in _CONTROL:
        registers.cr[cr] = state.crs[cr]
    for dr in Dr:
        registers.dr[dr] = state.drs[dr]
    for msr in Msr:
        registers.msr[msr] = state.msrs[msr]
    registers.fpu = _fpu(state.fpu)
    return int(state.crs[Cr.CR8])


def _put_segment(raw: SegmentRecord, register: SegmentRegister) -> None:
    raw.selector = register.selector
    raw.limit = register.limit
    raw.base = register.base
    for name, bit, width in _ATTRIBUTES:
        setattr(raw.attrib, name, register.flags >> bit & (1 << width) - 1)


def _segment(raw: SegmentRecord) -> SegmentRegister:
    flags = 0
    for name, bit, _ in _ATTRIBUTES:
        flags |= getattr(raw.attrib, name) << bit
    return SegmentRegister(raw.selector, raw.base, raw.limit, flags)


def _put_fpu(raw: Any, fpu: FpuRegisters, mxcsr_mask: int) -> None:
    raw.fx_cw = fpu.control
    raw.fx_sw = fpu.status & ~_FSW_TOP_MASK | fpu.top << _FSW_TOP_SHIFT
    raw.fx_tw = sum(1 << index for index, empty in enumerate(fpu.empty) if not empty)
    raw.fx_zero = 0
    raw.fx_opcode = fpu.opcode
    raw.fx_ip.fa_64 = fpu.ip
    raw.fx_dp.fa_64 = fpu.dp
    raw.fx_mxcsr = fpu.mxcsr
    raw.fx_mxcsr_mask = mxcsr_mask
    for index, value in enumerate(fpu.st):
        put_bytes(raw.fx_87_ac[index], value)
    for index, number in enumerate(fpu.xmm):
        put_bytes(raw.fx_xmm[index], number.to_bytes(16, "little"))


def _fpu(raw: Any) -> FpuRegisters:
    tags = raw.fx_tw
    return FpuRegisters(
        control=raw.fx_cw,
        status=raw.fx_sw & ~_FSW_TOP_MASK,
        top=(raw.fx_sw & _FSW_TOP_MASK) >> _FSW_TOP_SHIFT,
        empty=[not tags >> index & 1 for index in range(8)],
        opcode=raw.fx_opcode,
        ip=raw.fx_ip.fa_64,
        dp=raw.fx_dp.fa_64,
        mxcsr=raw.fx_mxcsr,
        st=[get_bytes(raw.fx_87_ac[index], 10) for index in range(8)],
        xmm=[int.from_bytes(get_bytes(raw.fx_xmm[index], 16), "little") for index in range(16)],
    )
