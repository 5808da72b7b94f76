# SPDX-License-Identifier: BSD-2-Clause
"""Parts of a vCPU's state, and ways to change one: what the cases of state share."""

from __future__ import annotations

from collections.abc import Callable

from nvmmconf.suite import (
    Cr,
    Dr,
    ExitReason,
    Gpr,
    Mode,
    Msr,
    PreparedGuest,
    Segment,
    StateFlag,
    Vcpu,
    check,
    modes,
)

GROUPS = [flag for flag in StateFlag if flag is not StateFlag.ALL]

PLACES = {
    StateFlag.SEGS: slice(0, 160),
    StateFlag.GPRS: slice(160, 304),
    StateFlag.CRS: slice(304, 352),
    StateFlag.DRS: slice(352, 400),
    StateFlag.MSRS: slice(400, 488),
    StateFlag.INTR: slice(488, 496),
    StateFlag.FPU: slice(496, 1008),
}
"""Where each group is in struct nvmm_x64_state."""

HALT = """
here:
    hlt
    jmp     here
there:
    nop
    hlt
    jmp     there
"""
LONG = modes(Mode.LONG64)
MASK = 0xFFFF_FFFF_FFFF_FFFF
NUMBERED = [gpr for gpr in Gpr if gpr < Gpr.RIP]


def run_to_halt(guest: PreparedGuest) -> Vcpu:
    """Run until it halts; its vCPU, with nothing in its page that is current."""
    check.equal(guest.next_exit().reason, ExitReason.HALTED, "exit")
    return guest.vcpu


def fetch(vcpu: Vcpu, group: StateFlag) -> bytes:
    """The bytes of a group as getstate gives them."""
    vcpu.getstate(group)
    return vcpu.state_bytes()[PLACES[group]]


def spoil(vcpu: Vcpu) -> bytes:
    """Put into the page what no group has; the whole of it."""
    image = bytes(byte ^ 0xA5 for byte in vcpu.state_bytes())
    vcpu.put_state_bytes(image)
    return image


def cached(vcpu: Vcpu) -> StateFlag:
    """The groups that getstate leaves as they are in the page."""
    image = spoil(vcpu)
    cached = StateFlag(0)
    for group in GROUPS:
        if fetch(vcpu, group) == image[PLACES[group]]:
            cached |= group
    return cached


# ---- changes of state ----


def put_cr(register: Cr, set_bits: int, clear_bits: int = 0) -> Callable[[Vcpu], None]:
    """Set and clear bits of a control register in the page."""

    def put(vcpu: Vcpu) -> None:
        vcpu.state.crs[register] = vcpu.state.crs[register] & ~clear_bits | set_bits

    return put


def put_msr(register: Msr, set_bits: int, clear_bits: int = 0) -> Callable[[Vcpu], None]:
    """Set and clear bits of an MSR in the page."""

    def put(vcpu: Vcpu) -> None:
        vcpu.state.msrs[register] = vcpu.state.msrs[register] & ~clear_bits | set_bits

    return put


def put_gpr(register: Gpr, value: int) -> Callable[[Vcpu], None]:
    """Set a general register in the page."""

    def put(vcpu: Vcpu) -> None:
        vcpu.state.gprs[register] = value

    return put


def put_dr(register: Dr, set_bits: int) -> Callable[[Vcpu], None]:
    """Set bits of a debug register in the page."""

    def put(vcpu: Vcpu) -> None:
        vcpu.state.drs[register] |= set_bits

    return put


def put_flags(set_bits: int, clear_bits: int = 0) -> Callable[[Vcpu], None]:
    """Set and clear bits of RFLAGS in the page."""

    def put(vcpu: Vcpu) -> None:
        vcpu.state.gprs[Gpr.RFLAGS] = vcpu.state.gprs[Gpr.RFLAGS] & ~clear_bits | set_bits

    return put


def put_attribute(segment: Segment, **values: int) -> Callable[[Vcpu], None]:
    """Set fields of a segment register in the page: libnvmm's names, `default` for D/B."""

    def put(vcpu: Vcpu) -> None:
        raw = vcpu.state.segs[segment]
        for name, value in values.items():
            if name in ("base", "limit", "selector"):
                setattr(raw, name, value)
            else:
                setattr(raw.attrib, "def" if name == "default" else name, value)

    return put
