# SPDX-License-Identifier: BSD-2-Clause
"""MSRs that come to the caller: libnvmm(3), the exits RDMSR and WRMSR.

What an accelerator answers to them is here too: the few that every system looks at, and 0.
"""

from __future__ import annotations

import pytest
from insn_bench import DONE, Bench
from msr_bench import (
    APIC_BASE,
    CODE,
    DIRTY,
    value_registers,
)

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    Mode,
    RdmsrExit,
    Stubs,
    VirtualMachine,
    WrmsrExit,
    check,
    modes,
    requirement,
)

# ---- what comes to the caller ----

EXITING = {
    "apic_base": APIC_BASE,
    "tsc_adjust": 0x3B,
    "mtrrcap": 0xFE,
    "mcg_cap": 0x179,
    "mtrr_physbase0": 0x200,
    "mtrr_def_type": 0x2FF,
    "tsc_deadline": 0x6E0,
    "x2apic_id": 0x802,
    "unknown": 0x12345678,
    "hypervisor": 0x40000000,
    "tsc_aux": 0xC0000103,
    "unknown_high": 0xFFFFFFFF,
}
UNKNOWN = 0x12345678
ANSWERED_AS_ZERO = {name: EXITING[name] for name in ("mtrrcap", "mtrr_def_type", "mcg_cap")} | {
    "mcg_status": 0x17A
}
ALL = (Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX, Gpr.RSI, Gpr.RDI, Gpr.RBP)


def _at(stubs: Stubs, label: str, registers: dict[Gpr, int]) -> None:
    stubs.registers.gpr |= registers | {Gpr.RIP: stubs.symbol(label)}


@requirement("K-MSR-1", "K-MSR-15", "A-EXIT-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", EXITING)
def test_rdmsr_exit_tells_msr_and_next_rip(vm: VirtualMachine, name: str) -> None:
    """RDMSR of an MSR that the kernel has not: its number and npc; nothing has changed."""
    _rdmsr_exit(vm, EXITING[name], 0)


@requirement("K-MSR-1")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
def test_rdmsr_exit_in_other_modes(vm: VirtualMachine) -> None:
    """RDMSR exits alike in every mode; npc is an offset in CS."""
    _rdmsr_exit(vm, UNKNOWN, 0)


@requirement("K-MSR-1")
@modes(Mode.LONG64)
def test_rdmsr_exit_with_a_dirty_rcx(vm: VirtualMachine) -> None:
    """The exit's MSR is ECX, whatever is in bits 63:32 of RCX."""
    _rdmsr_exit(vm, UNKNOWN, DIRTY)


def _rdmsr_exit(vm: VirtualMachine, msr: int, upper: int) -> None:
    stubs = Stubs(vm, "rdmsr_insn: rdmsr\nrdmsr_after: hlt\n")
    before = {gpr: 0x1111111 * (gpr + 1) for gpr in ALL} | {Gpr.RCX: upper | msr}
    _at(stubs, "rdmsr_insn", before)
    taken = stubs.guest.next_exit()
    assert isinstance(taken, RdmsrExit), taken
    check.equal(taken.msr, msr, "MSR")
    check.equal(taken.npc, stubs.symbol("rdmsr_after"), "npc")
    state = stubs.guest.state()
    check.equal({gpr: state.gpr[gpr] for gpr in ALL}, before, "registers")
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("rdmsr_insn"), "RIP")


@requirement("K-MSR-2", "K-MSR-15", "A-EXIT-9")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", EXITING)
def test_wrmsr_exit_tells_msr_value_and_next_rip(vm: VirtualMachine, name: str) -> None:
    """WRMSR of an MSR that the kernel has not: number, EDX:EAX and npc; nothing has changed."""
    _wrmsr_exit(vm, EXITING[name], 0, 0x1122334455667788)


@requirement("K-MSR-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [0, 0xFFFFFFFF, 1 << 32, 0x80000000, 1 << 63, (1 << 64) - 1])
def test_wrmsr_exit_tells_all_of_the_value(vm: VirtualMachine, value: int) -> None:
    """The exit's value is EDX:EAX, 64 bits, and nothing of the registers' upper halves."""
    _wrmsr_exit(vm, UNKNOWN, DIRTY, value)


@requirement("K-MSR-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
def test_wrmsr_exit_in_other_modes(vm: VirtualMachine) -> None:
    """WRMSR exits alike in every mode, with 64 bits; npc is an offset in CS."""
    _wrmsr_exit(vm, UNKNOWN, 0, 0x8877665544332211)


def _wrmsr_exit(vm: VirtualMachine, msr: int, upper: int, value: int) -> None:
    stubs = Stubs(vm, "wrmsr_insn: wrmsr\nwrmsr_after: hlt\n")
    before = {gpr: 0x1111111 * (gpr + 1) for gpr in ALL}
    before |= {Gpr.RCX: upper | msr} | value_registers(value, upper)
    _at(stubs, "wrmsr_insn", before)
    taken = stubs.guest.next_exit()
    assert isinstance(taken, WrmsrExit), taken
    check.equal(taken.msr, msr, "MSR")
    check.equal(taken.value, value, "value")
    check.equal(taken.npc, stubs.symbol("wrmsr_after"), "npc")
    state = stubs.guest.state()
    check.equal({gpr: state.gpr[gpr] for gpr in ALL}, before, "registers")
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("wrmsr_insn"), "RIP")


@requirement("K-MSR-1", "K-MSR-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("prefix", ["0x48", "0x66", "0x2E", "0x66, 0x66, 0x48"])
@pytest.mark.parametrize("insn", ["rdmsr", "wrmsr"])
def test_npc_counts_the_prefixes(vm: VirtualMachine, insn: str, prefix: str) -> None:
    """npc is RIP plus the instruction's length, prefixes that mean nothing included (BH-67)."""
    opcode = {"rdmsr": "0x32", "wrmsr": "0x30"}[insn]
    stubs = Stubs(vm, f"insn: .byte {prefix}, 0x0F, {opcode}\nafter: hlt\n")
    _at(stubs, "insn", {Gpr.RCX: UNKNOWN})
    taken = stubs.guest.next_exit()
    assert isinstance(taken, RdmsrExit | WrmsrExit), taken
    assert taken.npc == stubs.symbol("after")


@requirement("K-RUN-13", "K-MSR-1")
@modes(Mode.LONG64)
def test_unhandled_rdmsr_exits_again(vm: VirtualMachine) -> None:
    """A run after an RDMSR exit that nobody handled takes the same exit again."""
    stubs = Stubs(vm, "rdmsr_insn: rdmsr\nrdmsr_after: hlt\n")
    _at(stubs, "rdmsr_insn", {Gpr.RCX: UNKNOWN})
    first, second = stubs.guest.next_exit(), stubs.guest.next_exit()
    assert isinstance(first, RdmsrExit)
    assert isinstance(second, RdmsrExit)
    assert (second.msr, second.npc) == (first.msr, first.npc)


# ---- what the accelerator answers ----


def _asked(bench: Bench, msr: int) -> int:
    """The accelerator's answer to RDMSR."""
    before = {Gpr.RBX: 0x1234, Gpr.RSI: 0x5678, Gpr.RAX: DIRTY, Gpr.RDX: DIRTY, Gpr.RCX: msr}
    effect = bench.execute("rdmsr", before)
    check.equal(effect.end, DONE, f"RDMSR {msr:#x}")
    check.equal(effect.exits, (ExitReason.RDMSR,), "exits")
    check.equal(effect.gpr[Gpr.RAX] >> 32, 0, "bits 63:32 of RAX")
    check.equal(effect.gpr[Gpr.RDX] >> 32, 0, "bits 63:32 of RDX")
    for gpr in (Gpr.RBX, Gpr.RSI, Gpr.RCX):
        check.equal(effect.gpr[gpr], before[gpr], gpr.name)
    return effect.edx_eax


def _told(bench: Bench, msr: int, value: int) -> None:
    before = {Gpr.RBX: 0x1234, Gpr.RCX: msr} | value_registers(value)
    effect = bench.execute("wrmsr", before)
    check.equal(effect.end, DONE, f"WRMSR {msr:#x}")
    check.equal(effect.exits, (ExitReason.WRMSR,), "exits")
    check.equal({gpr: effect.gpr[gpr] for gpr in before}, before, "registers")


@requirement("A-MSR-1", "A-MSR-4", "K-MSR-15")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_apic_base_is_the_local_apics(vm: VirtualMachine) -> None:
    """RDMSR of 0x1B is the local APIC's base: 0xFEE00000, enabled, bootstrap processor."""
    assert _asked(Bench(vm, CODE), APIC_BASE) == 0xFEE00900


@requirement("A-MSR-5", "A-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("base", [0xFEC00900, 0xFEE00100, 0x1_2345_6900])
def test_apic_base_can_be_moved(vm: VirtualMachine, base: int) -> None:
    """WRMSR of 0x1B sets the local APIC's base; RDMSR gives it, above 4 GiB too."""
    bench = Bench(vm, CODE)
    _told(bench, APIC_BASE, base)
    check.equal(_asked(bench, APIC_BASE), base, "APIC base")


@requirement("A-MSR-2", "A-MSR-4", "A-VCPU-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("name", ANSWERED_AS_ZERO)
def test_mtrr_and_mcg_msrs_are_zero(vm: VirtualMachine, name: str) -> None:
    """MTRRcap, MTRRdefType, MCG_CAP and MCG_STATUS read 0 (BH-106)."""
    assert _asked(Bench(vm, CODE), ANSWERED_AS_ZERO[name]) == 0


@requirement("A-MSR-6", "A-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", ["mtrr_def_type", "mcg_status"])
def test_writes_of_mtrr_and_mcg_are_ignored(vm: VirtualMachine, name: str) -> None:
    """WRMSR of MTRRdefType and MCG_STATUS goes on behind it, and changes nothing."""
    bench = Bench(vm, CODE)
    _told(bench, ANSWERED_AS_ZERO[name], 0xC06)
    check.equal(_asked(bench, ANSWERED_AS_ZERO[name]), 0, "read after it")


@requirement("A-MSR-3", "A-MSR-7", "A-MSR-4", "A-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", ["tsc_adjust", "mtrr_physbase0", "unknown", "tsc_aux"])
def test_other_msrs_are_zero_and_ignored(vm: VirtualMachine, name: str) -> None:
    """Any other MSR reads 0 and ignores what is written; the guest goes on."""
    bench = Bench(vm, CODE)
    _told(bench, EXITING[name], 0x1122334455667788)
    check.equal(_asked(bench, EXITING[name]), 0, "read after it")


@requirement("A-VCPU-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize(("feature", "bit"), [("mce", 7), ("mtrr", 12), ("mca", 14)])
def test_accelerator_shows_mce_mtrr_mca(vm: VirtualMachine, feature: str, bit: int) -> None:
    """The accelerator's mask shows MCE, MTRR and MCA in leaf 1, and takes nothing away."""
    bench = Bench(vm, CODE)
    with_mask = bench.cpuid(1)
    check.equal(with_mask[3] >> bit & 1, 1, feature)
    bench.guest.vcpu.configure(200, bytes(4) + (1).to_bytes(4, "little") + bytes(32))
    without = bench.cpuid(1)
    check.equal(with_mask[:3], without[:3], "EAX, EBX, ECX")
    check.equal(with_mask[3], without[3] | 1 << 7 | 1 << 12 | 1 << 14, "EDX")
