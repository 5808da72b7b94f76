# SPDX-License-Identifier: BSD-2-Clause
"""Interrupts: SDM 3A 6.3 (sources), 6.11 to 6.14 (gates and stacks, IST), SDM 2A "INT n", "IRET";
and when the accelerator gives one to the guest (its sections 6 and 7)."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    EventType,
    ExitReason,
    Gpr,
    InvalidExit,
    Mode,
    Segment,
    SegmentRegister,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)
from nvmmconf.suite.stubs import (
    INTERRUPT_GATE_16,
    TASK_GATE,
    TRAP_GATE,
    TRAP_GATE_16,
    ist_top,
)

CF, TF, IF, DF, NT = 1, 1 << 8, 1 << 9, 1 << 10, 1 << 14
EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)


# ---- when ---------------------------------------------------------------------


@requirement("A-EVT-3", "A-PRE-4", "A-PRE-8")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x10, 0x20, 0x41, 0x80, 0xFF])
def test_interrupt_is_delivered_at_once_where_it_can_be(vm: VirtualMachine, vector: int) -> None:
    """An interrupt that waits while IF is set is delivered before the next instruction."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.interrupt(vector)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (vector, None), "event")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits: no window was needed")


@requirement("A-EVT-1", "A-EVT-2", "A-PRE-4", "K-INT-2", "K-INT-3", "A-EXIT-5")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x20, 0x41, 0xFF])
def test_interrupt_waits_for_sti(vm: VirtualMachine, vector: int) -> None:
    """An interrupt that waits while IF is clear is delivered one instruction after STI, by way of
    an interrupt window."""
    stubs = Stubs(
        vm, "    inc {{ bx }}\n    sti\n    inc {{ bx }}\nafter:\n    inc {{ bx }}\n    hlt\n"
    )
    stubs.guest.interrupt(vector)
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (vector, stubs.symbol("after")), "event")
    check.equal(stubs.guest.state().gpr[Gpr.RBX], 2, "instructions before it")
    check.equal(stubs.exits(), [ExitReason.INT_READY, ExitReason.HALTED], "exits")


@requirement("A-EVT-2")
@modes(*EVERY)
def test_interrupt_never_comes_while_if_is_clear(vm: VirtualMachine) -> None:
    """Without STI an interrupt that waits is never delivered, and HLT halts."""
    stubs = Stubs(vm, "    nop\n    hlt\nafter:\n")
    stubs.guest.interrupt(0x41)
    run = stubs.run()
    assert run.reason is Stop.HALTED
    assert run.rip == stubs.symbol("after")
    assert stubs.exits() == [ExitReason.HALTED]


@requirement("A-EVT-1", "A-PRE-5", "A-PRE-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_interrupts_come_one_by_one(vm: VirtualMachine, count: int) -> None:
    """Interrupts that wait are delivered one after the other, each once, and none is lost."""
    iret = "iret" if vm.mode is Mode.REAL16 else "iretq"
    stubs = Stubs(
        vm,
        f"    sti\n    nop\n    hlt\nafter:\nhandler:\n    in al, 0x41\n    {iret}\n",
        ports={0x41: lambda size: _next(size)},
    )
    left = list(range(count - 1))

    def _next(size: int) -> int:
        if left:
            stubs.guest.interrupt(0x50 + left.pop(0))
        return 0

    for vector in range(0x50, 0x60):
        stubs.gate(vector, to=stubs.symbol("handler"))
    stubs.guest.interrupt(0x5F)
    run = stubs.run()
    assert run.rip == stubs.symbol("after")
    assert len(run.ports) == count


@requirement("A-EXIT-6", "A-PRE-4", "K-HLT-3")
@modes(*EVERY)
def test_interrupt_ends_sti_hlt(vm: VirtualMachine) -> None:
    """STI; HLT with an interrupt waiting: it is delivered after HLT, and never lost (BH-84)."""
    stubs = Stubs(vm, "    sti\n    hlt\nafter:\n    nop\n    hlt\n")
    stubs.guest.interrupt(0x41)
    frame = stubs.take()
    assert (frame.vector, frame.ip) == (0x41, stubs.symbol("after"))


@requirement("A-EXIT-6", "A-PRE-4")
@modes(*EVERY)
def test_interrupt_wakes_a_halted_guest(vm: VirtualMachine) -> None:
    """An interrupt that comes while the guest is halted with IF set is delivered after HLT."""
    stubs = Stubs(vm, "    sti\n    hlt\nafter:\n    nop\n    hlt\n")
    halted = stubs.run()
    assert halted.reason is Stop.HALTED
    assert halted.rip == stubs.symbol("after")
    stubs.guest.interrupt(0x41)
    frame = stubs.take()
    assert (frame.vector, frame.ip) == (0x41, stubs.symbol("after"))


@requirement("A-EVT-2", "A-PRE-4")
@modes(Mode.REAL16, Mode.LONG64)
def test_second_interrupt_waits_for_iret(vm: VirtualMachine) -> None:
    """An interrupt that comes in a handler behind an interrupt gate waits for IRET."""
    iret = "iret" if vm.mode is Mode.REAL16 else "iretq"

    def arrive(size: int) -> int:
        stubs.guest.interrupt(0x42)
        return 0

    stubs = Stubs(
        vm,
        f"    nop\n    hlt\nhandler:\n    in al, 0x41\n    nop\n    nop\n    {iret}\n",
        ports={0x41: arrive},
    )
    stubs.gate(0x41, to=stubs.symbol("handler"))
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.interrupt(0x41)
    frame = stubs.take()
    assert (frame.vector, frame.ip) == (0x42, stubs.symbol("here"))


# ---- gates ----------------------------------------------------------------------


@requirement("K-INJ-8")
@modes(Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
@pytest.mark.parametrize("by", ["inject", "int-n"])
def test_trap_gate_keeps_if(vm: VirtualMachine, by: str) -> None:
    """Through a trap gate IF stays as it is; an interrupt gate clears it."""
    for kind, wanted in ((TRAP_GATE, IF), (0xE, 0)):
        stubs = Stubs(vm, "    int 0x41\nafter:\n")
        stubs.gate(0x41, kind)
        stubs.registers.gpr[Gpr.RFLAGS] |= IF
        if by == "inject":
            stubs.guest.inject(EventType.INTR, 0x41)
        frame = stubs.take()
        check.equal(frame.ip, stubs.symbol("here" if by == "inject" else "after"), "return")
        check.equal(stubs.guest.state().gpr[Gpr.RFLAGS] & IF, wanted, f"IF by gate {kind:#x}")


@requirement("K-INJ-8", "K-INJ-6")
@modes(Mode.PROT32)
@pytest.mark.parametrize("kind", [INTERRUPT_GATE_16, TRAP_GATE_16])
@pytest.mark.parametrize("event", ["intr", "excp", "int-n"])
def test_16_bit_gate_pushes_words(vm: VirtualMachine, event: str, kind: int) -> None:
    """A 16-bit gate pushes words, and goes to a 16-bit offset."""
    stubs = Stubs(vm, "    int 0x41\nafter:\n    hlt\n")
    vector = 13 if event == "excp" else 0x41
    low = 0x3000  # a handler below 64 KiB
    stubs.guest.write(low, b"\xf4")
    stubs.gate(vector, kind, to=low)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    if event == "intr":
        stubs.guest.inject(EventType.INTR, vector)
    elif event == "excp":
        stubs.guest.inject(EventType.EXCP, vector, error=0x58)
    run = stubs.run()
    check.equal(run.rip, low + 1, "handler")
    sp = run.registers.gpr[Gpr.RSP]
    words = [] if event != "excp" else [0x58]
    address = stubs.symbol("after" if event == "int-n" else "here") & 0xFFFF
    data = stubs.guest.memory(sp, stubs.top - sp)
    pushed = [int.from_bytes(data[n : n + 2], "little") for n in range(0, len(data), 2)]
    check.equal(pushed, [*words, address, 0x08, 2 | IF], "words pushed")


@requirement("K-INJ-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("ist", range(1, 8))
def test_interrupt_stack_table(vm: VirtualMachine, ist: int) -> None:
    """A gate with an IST entry takes its stack, whatever the level."""
    stubs = Stubs(vm)
    stubs.gate(0x41, ist=ist)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR, 0x41)
    assert stubs.run().reason is Stop.HALTED
    frame = stubs.frame(ist_top(ist))
    check.equal(frame.vector, 0x41, "vector")
    check.equal(frame.sp, stubs.top, "interrupted stack")


@requirement("K-INJ-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("below", [1, 2, 7, 8, 15, 16])
def test_stack_is_aligned_before_the_push(vm: VirtualMachine, below: int) -> None:
    """In long mode RSP is aligned to 16 bytes before the frame is pushed."""
    stubs = Stubs(vm)
    sp = stubs.top - below
    stubs.registers.gpr |= {Gpr.RFLAGS: 2 | IF, Gpr.RSP: sp}
    stubs.guest.inject(EventType.INTR, 0x41)
    assert stubs.run().reason is Stop.HALTED
    frame = stubs.frame(sp)
    check.equal(frame.sp, sp, "interrupted stack")
    check.equal(stubs.guest.state().gpr[Gpr.RSP], (sp & ~0xF) - 40, "RSP in the handler")


@requirement("K-INJ-8")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("flags", [TF, NT, DF, CF, 1 << 12, 1 << 18])
def test_flags_in_the_handler(vm: VirtualMachine, flags: int) -> None:
    """The handler begins without TF, NT and RF; the others stay, and all are pushed."""
    stubs = Stubs(vm, "    int 0x41\nafter:\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= flags
    frame = stubs.take()
    cleared = {TF, NT} if vm.mode is not Mode.REAL16 else {TF, 1 << 18}
    wanted = 0 if flags in cleared else flags
    pushed = flags & 0xFFFF if vm.mode is Mode.REAL16 else flags
    check.equal(frame.vector, 0x41, "vector")
    check.equal(frame.flags, 2 | pushed, "flags pushed")
    check.equal(stubs.guest.state().gpr[Gpr.RFLAGS], 2 | wanted, "flags in the handler")


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [0, 1, 4, 6, 13, 31, 32, 0x80, 0xFF])
def test_int_n_pushes_no_error_code(vm: VirtualMachine, vector: int) -> None:
    """INT n enters handler n without an error code, and returns behind itself, IF aside."""
    stubs = Stubs(vm, f"    int {vector}\nafter:\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= CF
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (vector, None), "event")
    check.equal(frame.ip, stubs.symbol("after"), "return address")
    check.equal(frame.flags, 2 | CF, "flags")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("vector", [3, 4, 0x30, 0x80])
def test_int_n_at_cpl_3_through_its_gate(vm: VirtualMachine, vector: int) -> None:
    """INT n at CPL 3 through a gate of DPL 3 changes to the stack of level 0."""
    stubs = Stubs(vm, f"    int {vector}\nafter:\n", user=True)
    stubs.gate(vector, dpl=3)
    frame = stubs.take()
    check.equal((frame.vector, frame.cs), (vector, 0x23), "event")
    check.equal(frame.ip, stubs.symbol("after"), "return address")
    check.equal((frame.ss, frame.sp), (0x2B, 0xE000), "interrupted stack")


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x20, 0x41, 0xFF])
def test_int_n_beyond_the_idt(vm: VirtualMachine, vector: int) -> None:
    """INT n beyond the limit of the IDT raises #GP with the entry's error code, on the INT."""
    stubs = Stubs(vm, f"insn:\n    int {vector}\n")
    idt = stubs.registers.seg[Segment.IDT]
    size = 8 if vm.mode is Mode.PROT32 else 16
    stubs.registers.seg[Segment.IDT] = SegmentRegister(0, idt.base, vector * size - 1)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (13, vector * 8 + 2), "event")
    check.equal(frame.ip, stubs.symbol("insn"), "return address")


@requirement("K-INJ-8")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x20, 0x41, 0xFF])
def test_interrupt_beyond_the_idt(vm: VirtualMachine, vector: int) -> None:
    """An interrupt beyond the limit of the IDT raises #GP with the entry's error code, and EXT."""
    stubs = Stubs(vm)
    idt = stubs.registers.seg[Segment.IDT]
    size = 8 if vm.mode is Mode.PROT32 else 16
    stubs.registers.seg[Segment.IDT] = SegmentRegister(0, idt.base, vector * size - 1)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR, vector)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (13, vector * 8 + 3), "event")
    check.equal(frame.ip, stubs.symbol("here"), "return address")


GATES = {
    "absent": (11, 2, {"present": False}),
    "type-0": (13, 2, {"kind": 0}),
    "call-gate": (13, 2, {"kind": 0xC}),
    "null-selector": (13, 0, {"selector": 0}),
    "data-selector": (13, 0x10, {"selector": 0x10}),
    "selector-beyond": (13, 0x1230, {"selector": 0x1230}),
    "absent-code": (11, 0x48, {"selector": 0x48}),
}


@requirement("K-INJ-8")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("by", ["inject", "int-n"])
@pytest.mark.parametrize("gate", GATES)
def test_bad_gate(vm: VirtualMachine, gate: str, by: str) -> None:
    """A gate that is not there, or leads nowhere, raises #NP or #GP, whose error code names the
    entry or the selector, with EXT where the event was not the guest's own."""
    vector, error, arguments = GATES[gate]
    stubs = Stubs(vm, "    int 0x41\n    hlt\n")
    stubs.gate(0x41, **arguments)  # type: ignore[arg-type]
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    if by == "inject":
        stubs.guest.inject(EventType.INTR, 0x41)
    frame = stubs.take()
    wanted = (0x41 * 8 if error == 2 else 0) + error + (by == "inject")
    check.equal((frame.vector, frame.error), (vector, wanted), "event")
    check.equal(frame.ip, stubs.symbol("here"), "return address")


@requirement("K-INV-2")
@modes(Mode.PROT32)
@pytest.mark.parametrize("by", ["inject", "int-n"])
def test_task_gate(vm: VirtualMachine, by: str) -> None:
    """An event through a task gate switches to its task, whose link leads back."""
    stubs = Stubs(vm, "    int 0x41\nafter:\n    hlt\ntask:\n    hlt\n")
    gdt = stubs.registers.seg[Segment.GDT]
    new = 0x2000  # its TSS
    descriptor = (0x0000890000000067 | new << 16).to_bytes(8, "little")
    stubs.guest.write(gdt.base + 0x58, descriptor)
    stubs.registers.seg[Segment.GDT] = SegmentRegister(0, gdt.base, 0x5F)
    fields = {0x20: stubs.symbol("task"), 0x24: 2, 0x38: 0x6000}
    fields |= dict.fromkeys(range(0x48, 0x60, 4), 0x10) | {0x4C: 0x08}
    for offset, value in fields.items():
        stubs.guest.write(new + offset, value.to_bytes(4, "little"))
    stubs.guest.write(new + 0x64, (0x68 << 16).to_bytes(4, "little"))
    stubs.gate(0x41, TASK_GATE, selector=0x58)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    if by == "inject":
        stubs.guest.inject(EventType.INTR, 0x41)
    taken = stubs.guest.next_exit()
    assert not isinstance(taken, InvalidExit)
    state = stubs.guest.state()
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("task") + 1, "RIP")
    check.equal(state.seg[Segment.TR].selector, 0x58, "TR")
    check.equal(stubs.guest.memory(new, 2), b"\x30\x00", "link")
    old = int.from_bytes(stubs.guest.memory(0xA000 + 0x20, 4), "little")
    check.equal(old, stubs.symbol("here" if by == "inject" else "after"), "EIP of the old task")


@requirement("A-EXIT-1", "A-PRE-4")
@modes(Mode.REAL16, Mode.LONG64)
def test_long_loop_is_counted_right(vm: VirtualMachine) -> None:
    """A guest that spins for a while is not disturbed by exits that the host makes."""
    stubs = Stubs(
        vm, "    mov ecx, 30000\nspin:\n    inc ebx\n    dec ecx\n    jnz spin\n    hlt\n"
    )
    run = stubs.run()
    assert run.reason is Stop.HALTED
    assert run.registers.gpr[Gpr.RBX] == 30000
