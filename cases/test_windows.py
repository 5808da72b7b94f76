# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt windows and interrupt shadows: SDM 3A 6.8.1 and 6.8.3 (IF, MOV SS and POP SS), SDM 2B
"STI"; the exit INT_READY and `state.intr` of libnvmm(3).  A shadow ends with the next instruction,
whoever carries it out: the processor, the kernel, an assist, or the accelerator."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    EventType,
    ExitReason,
    Gpr,
    IoExit,
    MemoryExit,
    Mmio,
    Mode,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

IF = 1 << 9
DEVICE = 0x20_0000
PORT = 0x1234


@requirement("K-INT-1", "A-EXIT-5")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_open_window_exits_at_once(vm: VirtualMachine) -> None:
    """A window armed while the guest can take interrupts exits before any instruction, and is
    disarmed then."""
    stubs = Stubs(vm, "    inc {{ bx }}\n    hlt\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    state = stubs.guest.state()
    check.equal(taken.reason, ExitReason.INT_READY, "exit")
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("here"), "RIP")
    check.equal(state.gpr[Gpr.RBX], 0, "instructions executed")
    check.equal(taken.state.int_window_exiting, False, "window in exitstate")
    check.equal(state.intr.int_window_exiting, False, "window in state")


@requirement("K-INT-1")
@modes(Mode.LONG64)
def test_window_opens_once(vm: VirtualMachine) -> None:
    """After INT_READY the guest goes on, and no second one comes by itself."""
    stubs = Stubs(vm, "    nop\n    hlt\nafter:\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.set_intr(int_window_exiting=True)
    assert stubs.guest.next_exit().reason is ExitReason.INT_READY
    assert stubs.guest.next_exit().reason is ExitReason.HALTED
    assert stubs.guest.state().gpr[Gpr.RIP] == stubs.symbol("after")


@requirement("K-INT-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("tpr", [0, 1, 8, 15])
def test_tpr_does_not_close_the_window(vm: VirtualMachine, tpr: int) -> None:
    """The window is about IF and shadows; the TPR has no say in it."""
    stubs = Stubs(vm)
    stubs.guest.tpr = tpr
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.INT_READY
    assert taken.state.cr8 == tpr


@requirement("K-INT-2")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["nop", "inc eax", "cpuid", "pushf", "cld", "fninit", "wbinvd"])
def test_window_opens_one_instruction_after_sti(vm: VirtualMachine, insn: str) -> None:
    """A window armed with IF clear opens after STI and one instruction more, whichever it is."""
    stubs = Stubs(vm, f"    nop\n    sti\n    {insn}\nafter:\n    nop\n    hlt\n")
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.INT_READY, "exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("after"), "RIP")
    check.equal(taken.state.int_shadow, False, "shadow")


@requirement("K-INT-2")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("way", ["popf", "iret"])
def test_popf_and_iret_open_the_window_at_once(vm: VirtualMachine, way: str) -> None:
    """POPF and IRET that set IF throw no shadow: the window opens right after them."""
    iret = {
        Mode.REAL16: "push 0x202\n    push cs\n    push offset after\n    iret\n",
        Mode.LONG64: "push 0x10\n    push 0x7000\n    push 0x202\n    push 8\n"
        "    push offset after\n    iretq\n",
    }[vm.mode]
    popf = "push 0x202\n    popf\n"
    code = iret if way == "iret" else popf
    stubs = Stubs(vm, f"    {code}after:\n    nop\n    hlt\n")
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.INT_READY
    assert stubs.guest.state().gpr[Gpr.RIP] == stubs.symbol("after")


@requirement("K-INT-2")
@modes(Mode.LONG64)
def test_sti_and_cli_leave_the_window_shut(vm: VirtualMachine) -> None:
    """CLI right after STI: the window never opens."""
    stubs = Stubs(vm, "    sti\n    cli\n    nop\n    hlt\nafter:\n")
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.HALTED
    assert taken.state.int_window_exiting


@requirement("K-INT-2")
@modes(Mode.LONG64)
def test_sti_with_if_set_throws_no_shadow(vm: VirtualMachine) -> None:
    """STI with IF set already throws no shadow."""
    stubs = Stubs(vm, f"    sti\n    nop\n    sti\n    out {PORT & 0xFF}, al\n")
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.IO
    assert not taken.state.int_shadow


@requirement("K-INT-4")
@modes(Mode.REAL16, Mode.LONG64)
def test_window_can_be_disarmed(vm: VirtualMachine) -> None:
    """setstate(INTR) with the bit clear disarms the interrupt window."""
    stubs = Stubs(vm, "    sti\n    nop\n    nop\n    hlt\nafter:\n")
    stubs.guest.set_intr(int_window_exiting=True)
    stubs.guest.set_intr(int_window_exiting=False)
    assert stubs.guest.next_exit().reason is ExitReason.HALTED


@requirement("K-INT-4")
@modes(Mode.REAL16, Mode.LONG64)
def test_armed_window_can_be_disarmed_later(vm: VirtualMachine) -> None:
    """A window that has been armed through a run is disarmed by setstate(INTR) all the same."""
    stubs = Stubs(vm, "    hlt\n    sti\n    nop\n    nop\n    hlt\nafter:\n")
    stubs.guest.set_intr(int_window_exiting=True)
    halted = stubs.guest.next_exit()
    check.equal(halted.reason, ExitReason.HALTED, "exit")
    check(halted.state.int_window_exiting, "armed after HLT with IF clear")
    stubs.guest.set_intr(int_window_exiting=False)
    halted = stubs.guest.next_exit()
    check.equal(halted.reason, ExitReason.HALTED, "second exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("after"), "RIP")


@requirement("K-INT-3", "K-INJ-11")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x20, 0x41, 0xFF])
def test_interrupt_injected_at_int_ready_is_delivered(vm: VirtualMachine, vector: int) -> None:
    """At INT_READY an interrupt can be injected, and is delivered at that very place."""
    stubs = Stubs(vm, "    sti\n    nop\nafter:\n    nop\n    hlt\n")
    stubs.guest.set_intr(int_window_exiting=True)
    assert stubs.guest.next_exit().reason is ExitReason.INT_READY
    stubs.guest.inject(EventType.INTR, vector)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    frame = stubs.frame()
    check.equal((frame.vector, frame.ip), (vector, stubs.symbol("after")), "event")
    check.equal(frame.flags & IF, IF, "IF in the flags pushed")


# ---- shadows -----------------------------------------------------------------

SHADOWS = {
    "sti": "sti",
    "mov-ss": "mov ax, ss\n    nop\n    mov ss, {{ 'ax' if bits == 16 else 'eax' }}",
    "pop-ss": "push ss\n    pop ss",
}


@requirement("K-INT-5", "A-POST-1")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("maker", SHADOWS)
def test_exit_in_a_shadow_tells_it(vm: VirtualMachine, maker: str) -> None:
    """An IO exit of the instruction after STI, MOV SS or POP SS reports the interrupt shadow."""
    stubs = Stubs(vm, f"    {SHADOWS[maker]}\n    out 0x40, al\nafter:\n    hlt\n")
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.IO, "exit")
    check.equal(taken.state.int_shadow, True, "shadow in exitstate")
    check.equal(stubs.guest.state().intr.int_shadow, True, "shadow in state")


@requirement("K-INT-5", "A-POST-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("maker", ["sti", "mov-ss"])
def test_exit_in_a_shadow_tells_it_in_64_bit_mode(vm: VirtualMachine, maker: str) -> None:
    """64-bit mode, too, though it has no POP SS."""
    stubs = Stubs(vm, f"    {SHADOWS[maker]}\n    out 0x40, al\nafter:\n    hlt\n")
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.IO
    assert taken.state.int_shadow


@requirement("K-INT-5", "A-POST-1")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["mov ds, ax", "cli", "popf", "nop"])
def test_other_instructions_throw_no_shadow(vm: VirtualMachine, insn: str) -> None:
    """Other instructions, loads of other segments among them, throw no shadow."""
    insn = insn.replace("ds, ax", "ds, eax") if vm.mode is Mode.LONG64 else insn
    stubs = Stubs(vm, f"    pushf\n    mov ax, ds\n    {insn}\n    out 0x40, al\n    hlt\n")
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.IO
    assert not taken.state.int_shadow


@requirement("K-INT-5", "K-INT-2")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("maker", ["sti", "mov-ss"])
def test_shadow_lasts_one_instruction(vm: VirtualMachine, maker: str) -> None:
    """One instruction after its maker the shadow has gone."""
    stubs = Stubs(vm, f"    {SHADOWS[maker]}\n    nop\n    out 0x40, al\n    hlt\n")
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.IO
    assert not taken.state.int_shadow


@requirement("K-SET-20", "K-INT-1")
@modes(Mode.REAL16, Mode.LONG64)
def test_committed_shadow_holds_the_window_back(vm: VirtualMachine) -> None:
    """A shadow that userland sets delays an open interrupt window by one instruction."""
    stubs = Stubs(vm, "    nop\nafter:\n    nop\n    hlt\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.set_intr(int_shadow=True, int_window_exiting=True)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.INT_READY, "exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("after"), "RIP")
    check.equal(taken.state.int_shadow, False, "shadow")


@requirement("K-SET-20", "K-INT-1")
@modes(Mode.REAL16, Mode.LONG64)
def test_cleared_shadow_holds_nothing_back(vm: VirtualMachine) -> None:
    """A shadow that userland takes away, at an exit in it, holds the window back no more."""
    stubs = Stubs(vm, "    sti\n    out 0x40, al\nafter:\n    nop\n    hlt\n")
    assert stubs.guest.next_exit().state.int_shadow
    stubs.registers.gpr[Gpr.RIP] = stubs.symbol("after")
    stubs.guest.set_intr(int_shadow=False, int_window_exiting=True)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.INT_READY, "exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("after"), "RIP")


@requirement("A-EVT-2", "A-PRE-4", "A-POST-1", "L-IO-18")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["out 0x40, al", "in al, 0x40", "outsb", "insb"])
def test_interrupt_comes_right_after_an_assisted_instruction(vm: VirtualMachine, insn: str) -> None:
    """STI, then I/O that an assist does: an interrupt that waits comes after it, not before, and
    not an instruction later (BH-93)."""
    stubs = Stubs(
        vm,
        f"    mov dx, 0x40\n    mov si, 0x5000\n    mov di, 0x5000\n    sti\n    {insn}\n"
        "after:\n    nop\n    nop\n    hlt\n",
        ports={0x40: 0},
    )
    stubs.guest.interrupt(0x41)
    frame = stubs.take()
    check.equal(frame.vector, 0x41, "vector")
    check.equal(frame.ip, stubs.symbol("after"), "interrupted at")


@requirement("A-EVT-2", "A-PRE-4", "A-POST-1", "L-IO-18")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("access", ["load", "store"])
def test_interrupt_comes_right_after_assisted_memory(vm: VirtualMachine, access: str) -> None:
    """STI, then an access to a device in memory: an interrupt that waits comes right after it."""
    insn = "mov al, [{{ bx }}]" if access == "load" else "mov [{{ bx }}], al"
    stubs = Stubs(
        vm,
        f"    mov ebx, 0x60000\n    sti\n    {insn}\nafter:\n    nop\n    nop\n    hlt\n",
        mmio=(Mmio(0x60000),),
    )
    stubs.guest.interrupt(0x41)
    frame = stubs.take()
    check.equal(frame.vector, 0x41, "vector")
    check.equal(frame.ip, stubs.symbol("after"), "interrupted at")
    check.equal(len(stubs.guest.latest.mmio) if stubs.guest.latest else 0, 1, "accesses")


@requirement("A-EVT-2", "A-MSR-4", "A-MSR-8")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", ["rdmsr", "wrmsr"])
def test_interrupt_comes_right_after_an_msr(vm: VirtualMachine, insn: str) -> None:
    """STI, then an MSR that userland answers: an interrupt that waits comes right after it."""
    stubs = Stubs(
        vm,
        "    mov ecx, 0xC0000103\n    xor eax, eax\n    xor edx, edx\n    sti\n"
        f"    {insn}\nafter:\n    nop\n    nop\n    hlt\n",
    )
    stubs.guest.interrupt(0x41)
    frame = stubs.take()
    check.equal(frame.vector, 0x41, "vector")
    check.equal(frame.ip, stubs.symbol("after"), "interrupted at")


@requirement("K-INT-5", "K-INT-2")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("maker", ["sti", "mov-ss"])
def test_memory_exit_in_a_shadow_tells_it(vm: VirtualMachine, maker: str) -> None:
    """A MEMORY exit of the instruction after STI or MOV SS reports the interrupt shadow."""
    stubs = Stubs(
        vm,
        f"    mov ebx, 0x60000\n    {SHADOWS[maker]}\n    mov [{{{{ bx }}}}], al\n    hlt\n",
        mmio=(Mmio(0x60000),),
    )
    taken = stubs.guest.next_exit()
    assert isinstance(taken, MemoryExit)
    assert taken.state.int_shadow


@requirement("K-INT-5")
@modes(Mode.REAL16, Mode.LONG64)
def test_exit_state_tells_if(vm: VirtualMachine) -> None:
    """exitstate.rflags is the guest's: IF is 0 before STI, 1 after it."""
    stubs = Stubs(vm, "    out 0x40, al\nfirst:\n    sti\n    out 0x40, al\n    hlt\n")
    before = stubs.guest.next_exit()
    assert isinstance(before, IoExit)
    assert before.state.rflags & IF == 0
    stubs.registers.gpr[Gpr.RIP] = before.npc
    after = stubs.guest.next_exit()
    assert after.state.rflags & IF == IF
