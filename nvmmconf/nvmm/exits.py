# SPDX-License-Identifier: BSD-2-Clause
"""A vCPU's exits as values (spec libnvmm sections 2.1 and 3, nvmm-kernel section 10).

Each is a frozen copy of the exit structure at the time of the return, with
the union's member that the reason names and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nvmmconf.abi import ExitReason, Prot, Segment, ffi


@dataclass(frozen=True, slots=True)
class ExitState:
    """`exit.exitstate`: what every return that entered the guest tells.

    All zero where the guest was not entered (L-RUN-3).
    """

    rflags: int
    cr8: int
    int_shadow: bool
    int_window_exiting: bool
    nmi_window_exiting: bool
    evt_pending: bool


@dataclass(frozen=True, slots=True)
class _Exit:
    reason: ExitReason | int
    state: ExitState

    def detail(self) -> str:
        """The payload in words, for a trace."""
        return ""

    @property
    def reason_name(self) -> str:
        """`HALTED`; a reason that the header does not know as a hex number."""
        if isinstance(self.reason, ExitReason):
            return self.reason.name
        return hex(self.reason)


@dataclass(frozen=True, slots=True)
class BareExit(_Exit):
    """An exit without payload: NONE, SHUTDOWN, HALTED, *_READY, TPR_CHANGED, STOPPED, unknown."""


@dataclass(frozen=True, slots=True)
class MemoryExit(_Exit):
    """A guest-physical access that no mapping allows; `prot` is the access (L-GPA-9)."""

    prot: Prot
    gpa: int
    inst_bytes: bytes
    """The instruction as far as the kernel knows it; empty without decode assists."""

    def detail(self) -> str:  # noqa: D102 (as the base says)
        words = {Prot.READ: "read", Prot.WRITE: "write", Prot.EXEC: "fetch"}
        code = f", instruction {self.inst_bytes.hex(' ')}" if self.inst_bytes else ""
        return f"{words.get(self.prot, repr(self.prot))} at GPA {self.gpa:#x}{code}"


@dataclass(frozen=True, slots=True)
class IoExit(_Exit):
    """IN, OUT, INS or OUTS.  Sizes in bytes; `npc` is the next instruction's RIP."""

    is_in: bool
    port: int
    segment: Segment | int | None
    """Of a string operand; None where the hardware does not tell (seg -1), a number
    where the header knows no such segment."""
    address_size: int
    operand_size: int
    rep: bool
    string: bool
    npc: int

    def detail(self) -> str:  # noqa: D102 (as the base says)
        name = ("ins" if self.is_in else "outs") if self.string else ("in" if self.is_in else "out")
        prefix = "rep " if self.rep else ""
        segment = ""
        if self.string:
            segment = f", segment {self._segment_name()}"
        return (
            f"{prefix}{name} port {self.port:#x}, {self.operand_size} byte"
            f"{'s' if self.operand_size > 1 else ''}{segment}, npc {self.npc:#x}"
        )

    def _segment_name(self) -> str:
        if isinstance(self.segment, Segment):
            return self.segment.name
        return "unknown" if self.segment is None else str(self.segment)


@dataclass(frozen=True, slots=True)
class RdmsrExit(_Exit):
    """RDMSR of an MSR that the kernel leaves to userland."""

    msr: int
    npc: int

    def detail(self) -> str:  # noqa: D102 (as the base says)
        return f"MSR {self.msr:#x}, npc {self.npc:#x}"


@dataclass(frozen=True, slots=True)
class WrmsrExit(_Exit):
    """WRMSR of an MSR that the kernel leaves to userland; `value` is EDX:EAX."""

    msr: int
    value: int
    npc: int

    def detail(self) -> str:  # noqa: D102 (as the base says)
        return f"MSR {self.msr:#x} := {self.value:#x}, npc {self.npc:#x}"


@dataclass(frozen=True, slots=True)
class InsnExit(_Exit):
    """MONITOR, MWAIT or CPUID."""

    npc: int

    def detail(self) -> str:  # noqa: D102 (as the base says)
        return f"npc {self.npc:#x}"


@dataclass(frozen=True, slots=True)
class InvalidExit(_Exit):
    """The state could not be entered, or an exit the kernel does not know; backend's code."""

    hwcode: int

    def detail(self) -> str:  # noqa: D102 (as the base says)
        return f"hardware code {self.hwcode:#x}"


Exit = BareExit | MemoryExit | IoExit | RdmsrExit | WrmsrExit | InsnExit | InvalidExit


def _memory(reason: ExitReason, state: ExitState, u: Any) -> Exit:
    mem = u.mem
    code = bytes(ffi.buffer(mem.inst_bytes))[: mem.inst_len]
    return MemoryExit(reason, state, Prot(mem.prot), mem.gpa, code)


def _io(reason: ExitReason, state: ExitState, u: Any) -> Exit:
    io = u.io
    segment = _SEGMENTS.get(io.seg, io.seg) if io.str and io.seg != -1 else None
    return IoExit(
        reason,
        state,
        bool(getattr(io, "in")),
        io.port,
        segment,
        io.address_size,
        io.operand_size,
        bool(io.rep),
        bool(io.str),
        io.npc,
    )


def _rdmsr(reason: ExitReason, state: ExitState, u: Any) -> Exit:
    return RdmsrExit(reason, state, u.rdmsr.msr, u.rdmsr.npc)


def _wrmsr(reason: ExitReason, state: ExitState, u: Any) -> Exit:
    return WrmsrExit(reason, state, u.wrmsr.msr, u.wrmsr.val, u.wrmsr.npc)


def _insn(reason: ExitReason, state: ExitState, u: Any) -> Exit:
    return InsnExit(reason, state, u.insn.npc)


def _invalid(reason: ExitReason, state: ExitState, u: Any) -> Exit:
    return InvalidExit(reason, state, u.inv.hwcode)


_PAYLOADS: dict[ExitReason, Callable[[ExitReason, ExitState, Any], Exit]] = {
    ExitReason.MEMORY: _memory,
    ExitReason.IO: _io,
    ExitReason.RDMSR: _rdmsr,
    ExitReason.WRMSR: _wrmsr,
    ExitReason.MONITOR: _insn,
    ExitReason.MWAIT: _insn,
    ExitReason.CPUID: _insn,
    ExitReason.INVALID: _invalid,
}

_SEGMENTS = {int(segment): segment for segment in Segment}
_REASONS = {int(reason): reason for reason in ExitReason}


def decode_exit(raw: Any) -> Exit:
    """Return the value of a `struct nvmm_vcpu_exit *`."""
    s = raw.exitstate
    state = ExitState(
        s.rflags,
        s.cr8,
        bool(s.int_shadow),
        bool(s.int_window_exiting),
        bool(s.nmi_window_exiting),
        bool(s.evt_pending),
    )
    reason = _REASONS.get(raw.reason)
    if reason is None:
        return BareExit(raw.reason, state)
    payload = _PAYLOADS.get(reason)
    return BareExit(reason, state) if payload is None else payload(reason, state, raw.u)
