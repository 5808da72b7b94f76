# SPDX-License-Identifier: BSD-2-Clause
"""CPUID: the caller's masks and exits, and the instruction; libnvmm(3) "nvmm_vcpu_configure".

What the kernel shows of itself is in test_cpuid_table.py.  SDM 2A "CPUID".
"""

from __future__ import annotations

import errno

import pytest
from cpuid_bench import (
    CODE,
    EAX,
    EBX,
    MASK,
    NAMES,
    cpuid_bench,
    cpuid_entry,
    remove_entry,
)
from insn_bench import CR4_OSXSAVE, DONE, Bench

from nvmmconf.suite import (
    Capability,
    CpuidMask,
    Cr,
    ExitReason,
    Gpr,
    InsnExit,
    Mode,
    Stop,
    Stubs,
    Vcpu,
    VcpuConf,
    VcpuConfSupport,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    requirement,
)

DIRTY = 0xDEADBEEF_00000000
LEAVES = (0, 1, 2, 7, 0xD, 0x40000000, 0x80000000, 0x80000001, 0x80000008)


def _only(register: int, bits: int) -> tuple[int, int, int, int]:
    values = [0, 0, 0, 0]
    values[register] = bits
    return (values[0], values[1], values[2], values[3])


# ---- masks ----


@requirement("K-CPUID-22", "L-VCPU-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", LEAVES)
def test_mask_sets_and_clears_bits(vm: VirtualMachine, leaf: int) -> None:
    """A mask gives (the kernel's value AND NOT del) OR set in its register, and no other."""
    bench = cpuid_bench(vm)
    before = bench.cpuid(leaf)
    for index, register in enumerate(NAMES):
        for set_bits, clear_bits in ((MASK, 0), (0, MASK), (0x55AA33CC, 0xAA55CC33), (1 << 31, 1)):
            mask = CpuidMask(leaf, _only(index, set_bits), _only(index, clear_bits))
            bench.guest.vcpu.configure_cpuid(mask)
            wanted = list(before)
            wanted[index] = wanted[index] & ~clear_bits | set_bits
            what = f"{register}: set {set_bits:#x}, clear {clear_bits:#x}"
            check.equal(bench.cpuid(leaf), tuple(wanted), what)


@requirement("K-CPUID-22")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", LEAVES)
def test_mask_is_of_its_leaf_only(vm: VirtualMachine, leaf: int) -> None:
    """A mask of a leaf changes no other leaf."""
    bench = cpuid_bench(vm)
    before = {other: bench.cpuid(other) for other in LEAVES}
    bench.guest.vcpu.configure_cpuid(CpuidMask(leaf, (MASK, MASK, MASK, MASK)))
    for other in LEAVES:
        wanted = (MASK, MASK, MASK, MASK) if other == leaf else before[other]
        check.equal(bench.cpuid(other), wanted, f"leaf {other:#x}")


@requirement("K-CPUID-23")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [4, 7, 0xB, 0xD])
def test_mask_is_of_all_subleaves(vm: VirtualMachine, leaf: int) -> None:
    """A mask holds for every ECX that goes with its leaf."""
    bench = cpuid_bench(vm)
    before = {sub: bench.cpuid(leaf, sub) for sub in (0, 1, 2, 63, MASK)}
    bench.guest.vcpu.configure_cpuid(CpuidMask(leaf, (1 << 30, 0, 0, 1 << 29)))
    for sub, (eax, ebx, ecx, edx) in before.items():
        wanted = (eax | 1 << 30, ebx, ecx, edx | 1 << 29)
        check.equal(bench.cpuid(leaf, sub), wanted, f"subleaf {sub:#x}")


@requirement("K-CPUID-22")
@modes(Mode.LONG64)
def test_mask_has_the_last_word(vm: VirtualMachine) -> None:
    """Masks come after what the kernel itself writes: hypervisor bit, APIC id, OSXSAVE (BH-57)."""
    bench = cpuid_bench(vm)
    bench.guest.vcpu.configure_cpuid(
        CpuidMask(1, (0, 0x42000000, 1 << 27, 0), (0, 0xBD000000, 1 << 31, 0))
    )
    _, ebx, ecx, _ = bench.cpuid(1)
    check.equal(ebx >> 24, 0x42, "APIC id")
    check.equal(ecx >> 31, 0, "hypervisor bit")
    check.equal(ecx >> 27 & 1, 1, "OSXSAVE, CR4.OSXSAVE being 0")


@requirement("K-CPUID-22", "K-CONF-6")
@modes(Mode.LONG64)
def test_masks_are_not_added_up(vm: VirtualMachine) -> None:
    """Configuring a leaf again replaces its mask: the kernel's value counts, not the last."""
    bench = cpuid_bench(vm)
    before = bench.cpuid(0x80000008)
    bench.guest.vcpu.configure_cpuid(CpuidMask(0x80000008, (0, MASK, 0, MASK)))
    bench.guest.vcpu.configure_cpuid(CpuidMask(0x80000008, (1 << 31, 0, 0, 0)))
    check.equal(bench.cpuid(0x80000008), (before[EAX] | 1 << 31, *before[1:]), "leaf")


@requirement("K-CONF-7")
@modes(Mode.LONG64)
def test_removing_a_mask_shows_the_kernels_value(vm: VirtualMachine) -> None:
    """An operation with neither mask nor exit removes the leaf's entry."""
    bench = cpuid_bench(vm)
    before = bench.cpuid(0x80000001)
    bench.guest.vcpu.configure_cpuid(CpuidMask(0x80000001, (MASK, MASK, MASK, MASK)))
    check.equal(bench.cpuid(0x80000001)[EBX], MASK, "with the mask")
    remove_entry(bench, 0x80000001)
    check.equal(bench.cpuid(0x80000001), before, "without")


@requirement("K-CPUID-22")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [0x100, 0x3FFFFFFF, 0x4FFFFFFF, 0x8FFFFFFF])
def test_mask_of_a_leaf_that_is_not_there(vm: VirtualMachine, leaf: int) -> None:
    """A leaf above its range's highest can have a mask: it is found by what the guest asked."""
    bench = cpuid_bench(vm)
    before = bench.cpuid(leaf)
    bench.guest.vcpu.configure_cpuid(CpuidMask(leaf, (0, 1 << 31, 0, 0)))
    check.equal(bench.cpuid(leaf), (before[0], before[1] | 1 << 31, *before[2:]), "leaf")


@requirement("K-CPUID-22")
@modes(Mode.LONG64)
def test_masks_outlive_runs_and_state(vm: VirtualMachine) -> None:
    """A mask holds until it is changed, whatever runs and is set between."""
    bench = cpuid_bench(vm)
    bench.guest.vcpu.configure_cpuid(CpuidMask(0x40000000, clear_bits=(0, MASK, MASK, MASK)))
    for _ in range(3):
        check.equal(bench.cpuid(0x40000000)[1:], (0, 0, 0), "signature")
        bench.stubs.registers.cr[Cr.CR4] ^= CR4_OSXSAVE


# ---- configuration ----


@requirement("K-CONF-2", "L-VCPU-7")
def test_mask_and_exit_exclude_each_other(vcpu: Vcpu) -> None:
    """A CPUID entry with both mask and exit is EINVAL."""
    with expect_errno(errno.EINVAL):
        vcpu.configure(VcpuConf.CPUID, cpuid_entry(1, mask=True, exits=True))


@requirement("K-CONF-3", "L-VCPU-7")
@pytest.mark.parametrize("register", NAMES)
def test_a_bit_is_set_or_cleared(vcpu: Vcpu, register: str) -> None:
    """A mask with a bit both set and cleared is EINVAL, in each register."""
    index = NAMES.index(register)
    with expect_errno(errno.EINVAL):
        vcpu.configure_cpuid(CpuidMask(1, _only(index, 0xF0), _only(index, 0x1F)))


@requirement("K-CONF-4")
def test_exit_looks_at_no_mask(vcpu: Vcpu) -> None:
    """The mask of an entry that asks for an exit is not looked at."""
    bits = (MASK, MASK, MASK, MASK)
    vcpu.configure(VcpuConf.CPUID, cpuid_entry(1, exits=True, set_bits=bits, clear_bits=bits))
    check(True, "it is accepted")


@requirement("K-CONF-5", "K-CAP-10")
def test_as_many_leaves_as_promised(vcpu: Vcpu, capability: Capability) -> None:
    """As many leaves as the capability says can be configured; one more is ENOBUFS."""
    for leaf in range(capability.conf_cpuid_maxops):
        vcpu.configure_cpuid(CpuidMask(leaf, (1, 0, 0, 0)))
    with expect_errno(errno.ENOBUFS):
        vcpu.configure_cpuid(CpuidMask(0x1000, (1, 0, 0, 0)))
    with expect_errno(errno.ENOBUFS):
        vcpu.configure_cpuid_exit(0x1001)


@requirement("K-CONF-6", "K-CONF-7")
def test_slots_are_reused(vcpu: Vcpu, capability: Capability) -> None:
    """A leaf that is there already takes no slot; one that is removed gives its slot back."""
    for leaf in range(capability.conf_cpuid_maxops):
        vcpu.configure_cpuid(CpuidMask(leaf, (1, 0, 0, 0)))
    vcpu.configure_cpuid(CpuidMask(5, (2, 0, 0, 0)))
    vcpu.configure_cpuid_exit(5)
    vcpu.configure(VcpuConf.CPUID, cpuid_entry(0))
    vcpu.configure_cpuid_exit(0x1000)
    with expect_errno(errno.ENOBUFS):
        vcpu.configure_cpuid_exit(0x1001)


@requirement("K-CONF-7")
def test_removing_what_is_not_there(vcpu: Vcpu) -> None:
    """Removing a leaf without entry succeeds."""
    vcpu.configure(VcpuConf.CPUID, cpuid_entry(0x1234))
    check(True, "it succeeds")


@requirement("K-CONF-1")
@pytest.mark.parametrize("op", [100, 199, 202, 1000])
def test_unknown_configurations(vcpu: Vcpu, op: int) -> None:
    """An operation that is neither CPUID nor TPR is EINVAL."""
    with expect_errno(errno.EINVAL):
        vcpu.configure(op, bytes(64))


@requirement("K-CONF-8", "K-CONF-9")
def test_tpr_configuration_is_what_the_capability_says(vcpu: Vcpu, capability: Capability) -> None:
    """The TPR operation is accepted where the capability offers it, and EINVAL elsewhere."""
    if VcpuConfSupport.TPR in capability.vcpu_conf_support:
        vcpu.configure_tpr(exit_changed=True)
        vcpu.configure_tpr(exit_changed=False)
        check(True, "it is accepted")
    else:
        with expect_errno(errno.EINVAL):
            vcpu.configure_tpr(exit_changed=True)


# ---- exits ----


def _exit(vm: VirtualMachine, insn: str, leaf: int, subleaf: int = 0) -> tuple[Stubs, InsnExit]:
    stubs = Stubs(vm, f"insn: {insn}\nafter: hlt\n")
    stubs.guest.vcpu.configure_cpuid_exit(leaf)
    stubs.registers.gpr |= {
        Gpr.RIP: stubs.symbol("insn"),
        Gpr.RAX: leaf,
        Gpr.RBX: 0x22222222,
        Gpr.RCX: subleaf,
        Gpr.RDX: 0x44444444,
    }
    taken = stubs.guest.next_exit()
    assert isinstance(taken, InsnExit), taken
    assert taken.reason is ExitReason.CPUID
    return stubs, taken


@requirement("K-CPUID-24")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [*LEAVES, 0x12345678, MASK])
def test_cpuid_exit_of_a_leaf(vm: VirtualMachine, leaf: int) -> None:
    """CPUID of a leaf that is to exit: npc after the instruction, RIP on it."""
    stubs, taken = _exit(vm, "cpuid", leaf)
    check.equal(taken.npc, stubs.symbol("after"), "npc")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("insn"), "RIP")


@requirement("K-CPUID-24")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
@pytest.mark.parametrize("insn", ["cpuid", ".byte 0x66, 0x0F, 0xA2"])
def test_cpuid_exit_counts_the_prefixes(vm: VirtualMachine, insn: str) -> None:
    """npc is RIP plus the instruction's length, prefixes included, in every mode (BH-67)."""
    stubs, taken = _exit(vm, insn, 1)
    assert taken.npc == stubs.symbol("after")


@requirement("K-CPUID-24", "K-CPUID-23")
@modes(Mode.LONG64)
@pytest.mark.parametrize("subleaf", [1, 2, MASK])
def test_cpuid_exit_of_every_subleaf(vm: VirtualMachine, subleaf: int) -> None:
    """An exit holds for every ECX that goes with its leaf."""
    stubs, taken = _exit(vm, "cpuid", 0xD, subleaf)
    assert taken.npc == stubs.symbol("after")


@requirement("K-CPUID-25")
@modes(Mode.LONG64)
def test_cpuid_exit_changes_no_register(vm: VirtualMachine) -> None:
    """At a CPUID exit all registers are the guest's: the caller sees which leaf was asked for."""
    stubs, _ = _exit(vm, "cpuid", 1, 5)
    gpr = stubs.guest.state().gpr
    check.equal(gpr[Gpr.RAX], 1, "RAX")
    check.equal(gpr[Gpr.RBX], 0x22222222, "RBX")
    check.equal(gpr[Gpr.RCX], 5, "RCX")
    check.equal(gpr[Gpr.RDX], 0x44444444, "RDX")


@requirement("K-CPUID-24", "K-RUN-13")
@modes(Mode.LONG64)
def test_guest_goes_on_behind_a_cpuid_exit(vm: VirtualMachine) -> None:
    """A caller that sets registers and RIP := npc has emulated CPUID."""
    stubs, taken = _exit(vm, "cpuid", 1)
    stubs.registers.gpr |= {Gpr.RIP: taken.npc, Gpr.RAX: 0x12345678}
    run = stubs.run()
    check.equal(run.rip, run.symbol("after") + 1, "RIP")
    check.equal(run.registers.gpr[Gpr.RAX], 0x12345678, "RAX")


@requirement("K-CPUID-24", "K-CONF-6")
@modes(Mode.LONG64)
def test_mask_instead_of_exit(vm: VirtualMachine) -> None:
    """A mask that replaces an exit ends the exits; one that is removed, too."""
    bench = cpuid_bench(vm)
    bench.guest.vcpu.configure_cpuid_exit(7)
    bench.guest.vcpu.configure_cpuid(CpuidMask(7, (1 << 31, 0, 0, 0)))
    effect = bench.execute("cpuid", {Gpr.RAX: 7, Gpr.RCX: 0})
    check.equal((effect.end, effect.exits), (DONE, ()), "with a mask")
    check.equal(effect.gpr[Gpr.RAX], 1 << 31, "EAX")
    bench.guest.vcpu.configure_cpuid_exit(7)
    remove_entry(bench, 7)
    effect = bench.execute("cpuid", {Gpr.RAX: 7, Gpr.RCX: 0})
    check.equal((effect.end, effect.exits), (DONE, ()), "without an entry")


@requirement("K-CPUID-24")
@modes(Mode.LONG64)
def test_other_leaves_do_not_exit(vm: VirtualMachine) -> None:
    """A leaf that is to exit makes no other one exit."""
    bench = cpuid_bench(vm)
    bench.guest.vcpu.configure_cpuid_exit(1)
    for leaf in LEAVES:
        if leaf != 1:
            effect = bench.execute("cpuid", {Gpr.RAX: leaf})
            check.equal((effect.end, effect.exits), (DONE, ()), f"leaf {leaf:#x}")


@requirement("A-EXIT-11")
@modes(Mode.LONG64)
def test_accelerator_does_not_know_cpuid_exits(vm: VirtualMachine) -> None:
    """An exit that the accelerator has not asked for ends the guest, with its reason."""
    stubs = Stubs(vm, "insn: cpuid\nhlt\n")
    stubs.guest.vcpu.configure_cpuid_exit(1)
    stubs.registers.gpr |= {Gpr.RIP: stubs.symbol("insn"), Gpr.RAX: 1}
    run = stubs.run()
    assert run.reason is Stop.PANIC
    assert "CPUID" in str(run.outcome)


# ---- the instruction ----


@requirement("K-CPUID-27", "K-CPUID-26")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
@pytest.mark.parametrize("insn", CODE)
def test_cpuid_is_no_exit_and_zero_extends(vm: VirtualMachine, insn: str) -> None:
    """CPUID without entry is no exit; it changes RAX to RDX, 64 bits, and no other register."""
    bench = cpuid_bench(vm)
    dirty = {gpr: DIRTY | gpr for gpr in (Gpr.RBX, Gpr.RDX)}
    kept = {Gpr.RSI: 0x5555, Gpr.RDI: 0x6666, Gpr.RBP: 0x7777}
    for leaf in LEAVES:
        effect = bench.execute(insn, dirty | kept | {Gpr.RAX: leaf, Gpr.RCX: 0}, flags=0x8D5)
        check.equal((effect.end, effect.exits), (DONE, ()), f"leaf {leaf:#x}")
        check.equal([value >> 32 for value in effect.abcd], [0] * 4, f"{leaf:#x}: bits 63:32")
        check.equal({gpr: effect.gpr[gpr] for gpr in kept}, kept, f"{leaf:#x}: others")
        check.equal(effect.gpr[Gpr.RFLAGS] & 0x8D5, 0x8D5, f"{leaf:#x}: status flags")


@requirement("K-CPUID-26", "K-CPUID-21")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [0, 1, 7, 0xD, 0x40000000, 0x80000001])
def test_upper_halves_are_ignored(vm: VirtualMachine, leaf: int) -> None:
    """The leaf is EAX and the subleaf ECX, whatever bits 63:32 have (BH-63)."""
    bench = cpuid_bench(vm)
    wanted = bench.cpuid(leaf)
    effect = bench.execute("cpuid", {Gpr.RAX: DIRTY | leaf, Gpr.RCX: DIRTY})
    assert effect.abcd == wanted


@requirement("K-CPUID-22", "K-CPUID-26")
@modes(Mode.LONG64)
def test_mask_of_a_leaf_with_a_dirty_rax(vm: VirtualMachine) -> None:
    """A mask is found by EAX, whatever bits 63:32 of RAX have (BH-63)."""
    bench = cpuid_bench(vm)
    bench.guest.vcpu.configure_cpuid(CpuidMask(7, (1 << 31, 0, 0, 0)))
    effect = bench.execute("cpuid", {Gpr.RAX: DIRTY | 7, Gpr.RCX: 0})
    assert effect.gpr[Gpr.RAX] == 1 << 31


@requirement("K-CPUID-27")
@modes(Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_cpuid_is_for_every_cpl(vm: VirtualMachine) -> None:
    """CPUID works at CPL 3 as at CPL 0, without exit."""
    wanted = Bench(vm, CODE).cpuid(1)
    effect = Bench(vm, CODE, user=True).execute("cpuid", {Gpr.RAX: 1})
    assert (effect.end, effect.exits) == (DONE, ())
    assert effect.abcd == wanted


@requirement("K-INK-13")
@modes(Mode.PROT32, Mode.LONG64)
def test_trap_follows_cpuid(vm: VirtualMachine) -> None:
    """With TF set, #DB follows CPUID as it follows any instruction (SDM 3A 18.3.1.4)."""
    bench = Bench(vm, CODE)
    effect = bench.execute("cpuid", {Gpr.RAX: 0}, flags=0x100)
    assert effect.frame is not None
    assert (effect.frame.vector, effect.frame.ip) == (1, bench.guest.symbol("cpuid_after"))
