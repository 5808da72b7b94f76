# SPDX-License-Identifier: BSD-2-Clause
"""The groups of a vCPU's state, and the page that both sides share; what comes with an exit.

nvmm_vcpu_setstate(), nvmm_vcpu_getstate() and nvmm_vcpu_run() of libnvmm(3).
"""

from __future__ import annotations

import errno

import pytest
from state_bench import GROUPS, HALT, LONG, PLACES, cached, fetch, run_to_halt, spoil

from nvmmconf.suite import (
    Cr,
    EventType,
    ExitReason,
    Gpr,
    Level,
    Machine,
    Msr,
    Segment,
    StateFlag,
    Vcpu,
    VcpuConfSupport,
    VirtualMachine,
    check,
    expect_errno,
    needs,
    requirement,
)

# ---- groups ----


@requirement("K-SET-2", "K-COMM-3", "L-ST-1", "L-ST-3")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_only_the_groups_that_were_named_are_set(vm: VirtualMachine, group: StateFlag) -> None:
    """setstate of one group sets that; what was put into the page for others is lost."""
    guest = vm.prepare_code(HALT)
    vcpu = run_to_halt(guest)
    vcpu.getstate(StateFlag.ALL)
    before = vcpu.state_bytes()
    spoil(vcpu)
    image = bytearray(vcpu.state_bytes())
    image[PLACES[group]] = before[PLACES[group]]
    vcpu.put_state_bytes(bytes(image))
    vcpu.setstate(group)
    run_to_halt(guest)
    for other in GROUPS:
        got, wanted = fetch(vcpu, other), before[PLACES[other]]
        if other is StateFlag.MSRS:  # the TSC, its last, goes on
            got, wanted = got[:80], wanted[:80]
        check(got == wanted, f"{other.name} as before")


@requirement("K-COMM-5", "L-ST-2")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_getstate_fills_only_what_is_wanted(vm: VirtualMachine, group: StateFlag) -> None:
    """getstate of one group writes that one's part of the page and nothing else."""
    vcpu = run_to_halt(vm.prepare_code(HALT))
    image = spoil(vcpu)
    vcpu.getstate(group)
    after = vcpu.state_bytes()
    for other in GROUPS:
        same = after[PLACES[other]] == image[PLACES[other]]
        check.equal(same, other is not group, f"{other.name} untouched")


@requirement("L-ST-2", "K-COMM-5")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_second_getstate_asks_nobody(vm: VirtualMachine, group: StateFlag) -> None:
    """What getstate has fetched is cached: the next one leaves an edit in place (L-ST-3)."""
    vcpu = run_to_halt(vm.prepare_code(HALT))
    vcpu.getstate(group)
    image = spoil(vcpu)
    assert fetch(vcpu, group) == image[PLACES[group]]


@requirement("L-ST-4", "K-COMM-10", "L-ST-5")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_what_was_set_reads_back_raw(vm: VirtualMachine, group: StateFlag) -> None:
    """getstate after setstate, before a run, gives the caller's values, whatever they are."""
    vcpu = run_to_halt(vm.prepare_code(HALT))
    image = spoil(vcpu)
    vcpu.setstate(group)
    assert fetch(vcpu, group) == image[PLACES[group]]
    for other in GROUPS:
        if other is not group:
            check(fetch(vcpu, other) != image[PLACES[other]], f"{other.name} fetched")


@requirement("L-ST-1", "K-SET-1")
@pytest.mark.parametrize("bits", [0, 1 << 7, 1 << 63, 0xFFFF_FFFF_FFFF_FFFF])
def test_setstate_takes_any_flags(vcpu: Vcpu, bits: int) -> None:
    """setstate never fails, also with bits that name nothing."""
    image = vcpu.state_bytes()
    vcpu.setstate(StateFlag(bits))
    check.equal(vcpu.state_bytes(), image, "the page")


@requirement("K-COMM-2", "L-ST-6")
@LONG
def test_run_makes_the_page_stale(vm: VirtualMachine) -> None:
    """After a run getstate tells what the guest has done, not what was read before."""
    guest = vm.prepare_code("""
        mov     eax, 7
        hlt
    again:
        inc     eax
        hlt
        jmp     again
    """)
    vcpu = run_to_halt(guest)
    for number in (7, 8, 9):
        vcpu.getstate(StateFlag.ALL)
        check.equal(vcpu.state.gprs[Gpr.RAX], number, "RAX")
        run_to_halt(guest)


@requirement("K-COMM-3")
@LONG
def test_commit_happens_once(vm: VirtualMachine) -> None:
    """setstate is for the next run alone: the one after does not set the state again."""
    guest = vm.prepare_code("""
    again:
        inc     eax
        hlt
        jmp     again
    """)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.GPRS)
    vcpu.state.gprs[Gpr.RAX] = 0x10
    vcpu.setstate(StateFlag.GPRS)
    for number in (0x11, 0x12, 0x13):
        run_to_halt(guest)
        vcpu.getstate(StateFlag.GPRS)
        check.equal(vcpu.state.gprs[Gpr.RAX], number, "RAX")


@requirement("L-ST-6a", "K-COMM-4")
@LONG
def test_bad_event_is_refused_after_the_commit(vm: VirtualMachine) -> None:
    """Where the event is bad the run is EINVAL; the state was set, no instruction executed."""
    guest = vm.prepare_code(HALT)
    vcpu = run_to_halt(guest)
    vcpu.getstate(StateFlag.GPRS)
    vcpu.state.gprs[Gpr.RAX] = 0x1234
    vcpu.state.gprs[Gpr.RIP] = guest.symbol("there")
    vcpu.setstate(StateFlag.GPRS)
    vcpu.inject(EventType.EXCP, 32)
    with expect_errno(errno.EINVAL):
        guest.next_exit()
    spoil(vcpu)
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RAX], 0x1234, "RAX")
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there"), "RIP")
    run_to_halt(guest)
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there") + 2, "RIP, without the event")


@requirement("L-ST-7")
@LONG
def test_failing_run_leaves_the_exit(vm: VirtualMachine) -> None:
    """A run that fails leaves the exit structure as the run before filled it."""
    guest = vm.prepare_code("    out 0x99, al\n" + HALT)
    taken = guest.next_exit()
    check.equal(taken.reason, ExitReason.IO, "exit")
    guest.vcpu.inject(EventType.EXCP, 32)
    with expect_errno(errno.EINVAL):
        guest.next_exit()
    check.equal(guest.vcpu.last_exit, taken, "the exit")


@requirement("L-ST-8", "K-COMM-5", "A-REG-9")
def test_vcpus_have_pages_of_their_own(machine: Machine) -> None:
    """The state that one vCPU is given is not another's."""
    first, second = machine.create_vcpu(0), machine.create_vcpu(1)
    before = second.state_bytes()
    spoil(first)
    first.setstate(StateFlag.ALL)
    second.getstate(StateFlag.ALL)
    assert second.state_bytes() == before


# ---- state that comes with an exit ----

PROVIDED = """
    mov     ecx, 0xC0000082             # LSTAR
    mov     eax, 0x12345678
    mov     edx, 0x7FFF
    wrmsr
    mov     eax, 0x23450000
    mov     cr2, rax
    xor     eax, eax
    mov     fs, eax
    mov     ecx, 0x12345678
    mov     ebx, 0x8000000              # no memory, and nothing else
    mov     rdi, rbx
    mov     rsi, rbx
    mov     r15d, 0x15151515
insn:
    {{ insn }}
    jmp     insn
"""
IO_GROUPS = StateFlag.GPRS | StateFlag.SEGS | StateFlag.CRS | StateFlag.MSRS
EXITS = {
    "in": ("in al, 0x99", ExitReason.IO, IO_GROUPS),
    "out": ("out 0x99, al", ExitReason.IO, IO_GROUPS),
    "load": ("mov eax, [rbx]", ExitReason.MEMORY, IO_GROUPS),
    "store": ("mov [rbx], r15", ExitReason.MEMORY, IO_GROUPS),
    "rdmsr": ("rdmsr", ExitReason.RDMSR, StateFlag.GPRS),
    "wrmsr": ("wrmsr", ExitReason.WRMSR, StateFlag.GPRS),
    "hlt": ("hlt", ExitReason.HALTED, StateFlag(0)),
    "ud2": ("ud2", ExitReason.SHUTDOWN, StateFlag(0)),
}


@requirement("K-COMM-6", "K-COMM-7", "K-COMM-8", "L-ST-6", level=Level.SHOULD)
@LONG
@pytest.mark.parametrize("name", EXITS)
def test_exit_brings_these_groups(vm: VirtualMachine, name: str) -> None:
    """IO and MEMORY exits bring GPRS, SEGS, CRS, MSRS, those of MSRs GPRS, others nothing."""
    insn, reason, groups = EXITS[name]
    guest = vm.prepare_code(PROVIDED, insn=insn)
    check.equal(guest.next_exit().reason, reason, "exit")
    check.equal(repr(cached(guest.vcpu)), repr(groups), "groups that are there already")


@requirement("L-ST-6", "A-SYNC-1", "A-REG-9")
@LONG
@pytest.mark.parametrize("name", EXITS)
def test_state_of_an_exit_is_the_guests(vm: VirtualMachine, name: str) -> None:
    """After an exit getstate tells the guest's state as of the instruction, provided or not."""
    insn, reason, _ = EXITS[name]
    guest = vm.prepare_code(PROVIDED, insn=insn)
    check.equal(guest.next_exit().reason, reason, "exit")
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.ALL)
    state = vcpu.state
    if name != "ud2":  # a shutdown's state is not defined
        rip = guest.symbol("insn") + (name == "hlt")
        check.equal(state.gprs[Gpr.RIP], rip, "RIP")
    check.equal(state.gprs[Gpr.R15], 0x15151515, "R15")
    check.equal(state.gprs[Gpr.RCX], 0x12345678, "RCX")
    check.equal(state.segs[Segment.FS].selector, 0, "FS")
    check.equal(state.crs[Cr.CR2], 0x23450000, "CR2")
    check.equal(state.msrs[Msr.LSTAR], 0x7FFF12345678, "LSTAR")


@requirement("K-COMM-8", level=Level.SHOULD)
@LONG
@needs(VcpuConfSupport.CPUID)
def test_cpuid_exit_brings_nothing(vm: VirtualMachine) -> None:
    """An exit for CPUID brings no state with it; what getstate fetches is right."""
    guest = vm.prepare_code("    mov eax, 0x40000123\n    cpuid\n" + HALT)
    guest.vcpu.configure_cpuid_exit(0x40000123)
    check.equal(guest.next_exit().reason, ExitReason.CPUID, "exit")
    check.equal(repr(cached(guest.vcpu)), repr(StateFlag(0)), "groups")


@requirement("K-COMM-8", level=Level.SHOULD)
@LONG
def test_window_exit_brings_nothing(vm: VirtualMachine) -> None:
    """INT_READY brings no state with it."""
    guest = vm.prepare_code("    sti\n    nop\n    nop\n" + HALT)
    guest.set_intr(int_window_exiting=True)
    check.equal(guest.next_exit().reason, ExitReason.INT_READY, "exit")
    check.equal(repr(cached(guest.vcpu)), repr(StateFlag(0)), "groups")
