# SPDX-License-Identifier: BSD-2-Clause
"""The task priority, CR8: SDM 3A 10.8.6 (four bits, the rest reserved), and what libnvmm(3) makes
of it: the value in `exitstate.cr8`, the exit TPR_CHANGED where it was asked for.  NVMM masks
nothing by it: that is userland's."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    Cr,
    EventType,
    ExitReason,
    Gpr,
    Level,
    Mode,
    Stubs,
    VcpuConfSupport,
    VirtualMachine,
    check,
    modes,
    needs,
    requirement,
)

IF = 1 << 9
GENERAL = ["rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]


def _quiet(vm: VirtualMachine, code: str) -> Stubs:
    """A guest without TPR_CHANGED exits, whether or not there are such."""
    stubs = Stubs(vm, code)
    if VcpuConfSupport.TPR in vm.target.capability.vcpu_conf_support:
        stubs.guest.vcpu.configure_tpr(exit_changed=False)
    return stubs


@requirement("K-TPR-1", "A-POST-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", range(16))
def test_written_tpr_is_told(vm: VirtualMachine, value: int) -> None:
    """What the guest writes to CR8 is in exitstate and in the state, and reads back."""
    stubs = Stubs(vm, f"    mov eax, {value}\n    mov cr8, rax\n    mov rbx, cr8\n    hlt\n")
    run = stubs.run()
    check.equal(run.all_exits()[-1].exit.state.cr8, value, "CR8 in exitstate")
    check.equal(stubs.guest.state().cr[Cr.CR8], value, "CR8 in state")
    check.equal(run.registers.gpr[Gpr.RBX], value, "CR8 as the guest reads it")
    check.equal(stubs.guest.tpr, value, "the local APIC's")


@requirement("K-TPR-4", "A-PRE-1", "A-PRE-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", range(16))
def test_guest_reads_the_tpr_that_userland_set(vm: VirtualMachine, value: int) -> None:
    """CR8 read by the guest is what userland has set."""
    stubs = Stubs(vm, "    mov rbx, -1\n    mov rbx, cr8\n    hlt\n")
    stubs.guest.tpr = value
    run = stubs.run()
    check.equal(run.registers.gpr[Gpr.RBX], value, "CR8 as the guest reads it")
    check.equal(run.all_exits()[-1].exit.state.cr8, value, "CR8 in exitstate")


@requirement("K-TPR-1", "A-PRE-7")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
@pytest.mark.parametrize("value", [0, 5, 15])
def test_tpr_is_kept_where_the_guest_cannot_reach_it(vm: VirtualMachine, value: int) -> None:
    """Outside 64-bit mode the guest cannot reach CR8; it stays what userland set, exit by exit."""
    stubs = Stubs(vm, "    out 0x40, al\n    hlt\n", ports={0x40: 0})
    stubs.guest.tpr = value
    run = stubs.run()
    exits = [one.exit for one in run.all_exits()]
    made = [one for one in exits if one.reason in (ExitReason.IO, ExitReason.HALTED)]
    seen = {one.state.cr8 for one in made[-2:]}
    assert seen == {value}
    assert stubs.guest.tpr == value


@requirement("K-TPR-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("register", GENERAL)
def test_each_register_reaches_cr8(vm: VirtualMachine, register: str) -> None:
    """MOV to and from CR8 takes each general register, whole."""
    stubs = Stubs(
        vm,
        f"    mov {register}, 9\n    mov cr8, {register}\n    mov {register}, -1\n"
        f"    mov {register}, cr8\n    hlt\n",
    )
    run = stubs.run()
    assert run.registers.gpr[Gpr[register.upper()]] == 9
    assert run.all_exits()[-1].exit.state.cr8 == 9


@requirement("K-TPR-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", [4, 5, 7, 8, 15, 31, 32, 63])
def test_reserved_bit_of_cr8_faults(vm: VirtualMachine, bit: int) -> None:
    """MOV to CR8 with a reserved bit raises #GP(0), and CR8 keeps its value (BH-78)."""
    stubs = Stubs(
        vm,
        f"    mov rax, 1 << {bit} | 3\n    mov ecx, 5\n    mov cr8, rcx\n"
        "insn:\n    mov cr8, rax\n    hlt\n",
    )
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (13, 0), "event")
    check.equal(frame.ip, stubs.symbol("insn"), "return address")
    check.equal(stubs.guest.state().cr[Cr.CR8], 5, "CR8")


@requirement("K-TPR-4", "K-SET-13", level=Level.SHOULD)
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [0x10, 0x1F, 0xF0, 0xFF])
def test_guest_never_reads_more_than_four_bits(vm: VirtualMachine, value: int) -> None:
    """Whatever userland sets, CR8 is four bits to the guest (BH-78)."""
    stubs = Stubs(vm, "    mov rbx, cr8\n    hlt\n")
    stubs.guest.tpr = value
    taken = stubs.guest.next_exit()
    while taken.reason is ExitReason.TPR_CHANGED:
        taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.HALTED
    assert stubs.guest.state().gpr[Gpr.RBX] <= 0xF


@requirement("K-TPR-2", "A-EXIT-5")
@needs(VcpuConfSupport.TPR)
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [1, 2, 8, 15])
def test_change_of_the_tpr_exits(vm: VirtualMachine, value: int) -> None:
    """With exit_changed a MOV that changes CR8 exits with TPR_CHANGED, after the instruction."""
    stubs = Stubs(vm, f"    mov eax, {value}\n    mov cr8, rax\nafter:\n    hlt\nend:\n")
    stubs.guest.vcpu.configure_tpr(exit_changed=True)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.TPR_CHANGED, "exit")
    check.equal(taken.state.cr8, value, "CR8 in exitstate")
    state = stubs.guest.state()
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("after"), "RIP")
    check.equal(state.cr[Cr.CR8], value, "CR8 in state")
    check.equal(stubs.guest.next_exit().reason, ExitReason.HALTED, "next exit")


@requirement("K-TPR-2", level=Level.INFO)
@needs(VcpuConfSupport.TPR)
@modes(Mode.LONG64)
def test_same_tpr_written_again(vm: VirtualMachine) -> None:
    """With exit_changed a MOV to CR8 of what is there already exits, too."""
    stubs = Stubs(vm, "    xor eax, eax\n    mov cr8, rax\n    hlt\n")
    stubs.guest.vcpu.configure_tpr(exit_changed=True)
    assert stubs.guest.next_exit().reason is ExitReason.TPR_CHANGED


@requirement("K-TPR-2")
@needs(VcpuConfSupport.TPR)
@modes(Mode.LONG64)
def test_reading_the_tpr_never_exits(vm: VirtualMachine) -> None:
    """With exit_changed reading CR8 does not exit."""
    stubs = Stubs(vm, "    mov rax, cr8\n    hlt\n")
    stubs.guest.vcpu.configure_tpr(exit_changed=True)
    assert stubs.guest.next_exit().reason is ExitReason.HALTED


@requirement("K-TPR-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [0, 7, 15])
def test_tpr_changes_unseen_where_nobody_asked(vm: VirtualMachine, value: int) -> None:
    """Without exit_changed writes of CR8 cause no exit, and are told with the next one."""
    stubs = _quiet(vm, f"    mov eax, {value}\n    mov cr8, rax\n    hlt\n")
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    check.equal(taken.state.cr8, value, "CR8 in exitstate")


@requirement("K-TPR-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["mov cr8, rax", "mov rax, cr8"])
def test_cr8_is_privileged(vm: VirtualMachine, insn: str) -> None:
    """CR8 at CPL 3 raises #GP(0), without an exit."""
    stubs = Stubs(vm, f"insn:\n    {insn}\n", user=True)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (13, 0), "event")
    check.equal(frame.ip, stubs.symbol("insn"), "return address")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INJ-17", "K-TPR-1", "A-POST-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [0x20, 0xF0])
def test_guests_own_tpr_blocks_no_injection(vm: VirtualMachine, vector: int) -> None:
    """An interrupt injected while the guest's TPR is 15 is delivered: the caller decides."""
    stubs = _quiet(vm, "    mov eax, 15\n    mov cr8, rax\n    out 0x40, al\nafter:\n    hlt\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    taken = stubs.guest.next_exit()
    check.equal(taken.state.cr8, 15, "CR8")
    stubs.registers.gpr[Gpr.RIP] = stubs.symbol("after")
    stubs.guest.tpr = 15
    stubs.guest.inject(EventType.INTR, vector)
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (vector, stubs.symbol("after")), "event")
    check.equal(stubs.guest.state().cr[Cr.CR8], 15, "CR8 in the handler")
