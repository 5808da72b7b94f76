# SPDX-License-Identifier: BSD-2-Clause
"""Events whose delivery meets an exit: SDM 3C 27.2.4 (IDT-vectoring information), APM 2 15.7.2
(EXITINTINFO).  The event is not lost: the exit says so in `evt_pending`, and the next run delivers
it, unless userland injects another, which takes its place."""

from __future__ import annotations

import struct

import pytest

from nvmmconf.suite import (
    PAGE_SIZE,
    EventType,
    ExitReason,
    Gpr,
    HostMemory,
    MemoryExit,
    Mode,
    Prot,
    Segment,
    SegmentRegister,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)
from nvmmconf.suite.stubs import GDT, IDT, TSS

IF = 1 << 9
HOLE = 0x30000
"""A page that the guest has not, until the case gives it one."""
SP = HOLE + 0x800
EVENTS = ["excp-6", "excp-14", "intr", "nmi", "ud2", "int-n", "int3"]
CODE = "insn:\n    {insn}\nafter:\n    hlt\nend:\n"


class _Interrupted:
    """A guest that is about to get an event whose stack, or table, is in the hole."""

    def __init__(self, vm: VirtualMachine, event: str, where: str = "stack") -> None:
        insn = {"ud2": "ud2", "int-n": "int 0x41", "int3": "int3"}.get(event, "nop")
        self.stubs = Stubs(vm, CODE.format(insn=insn), unmapped=((HOLE, PAGE_SIZE),))
        self.event = event
        self.vector = {"excp-6": 6, "ud2": 6, "excp-14": 14, "nmi": 2, "int3": 3}.get(event, 0x41)
        self.error = 2 if event == "excp-14" else None
        self.returns = self.stubs.symbol("after" if event in ("int-n", "int3") else "insn")
        registers = self.stubs.registers
        registers.gpr[Gpr.RFLAGS] |= IF
        self.page = bytes(PAGE_SIZE)
        if where == "stack":
            self.top = registers.gpr[Gpr.RSP] = SP
            if vm.mode is Mode.REAL16:
                registers.seg[Segment.SS] = SegmentRegister(HOLE >> 4, HOLE, 0xFFFF, 0x9300)
                self.top = registers.gpr[Gpr.RSP] = SP - HOLE
        else:
            self.top = self.stubs.top
            name, at = {"idt": (Segment.IDT, IDT), "gdt": (Segment.GDT, GDT)}[where]
            table = registers.seg[name]
            registers.seg[name] = SegmentRegister(0, HOLE, table.limit)
            self.page = self.stubs.guest.memory(at, PAGE_SIZE)
        self.inject()

    def inject(self) -> None:
        """Inject the event, where it is not the guest's own."""
        if self.event.startswith("excp"):
            self.stubs.guest.inject(EventType.EXCP, self.vector, error=2)
        elif self.event in ("intr", "nmi"):
            self.stubs.guest.inject(EventType.INTR, self.vector)

    def fill(self) -> None:
        """Put memory into the hole."""
        guest = self.stubs.guest
        self.memory = HostMemory(PAGE_SIZE)
        guest.machine.hva_map(self.memory)
        self.memory.data[:] = self.page
        rights = Prot.READ | Prot.WRITE | Prot.EXEC
        guest.machine.gpa_map(self.memory.hva, HOLE, PAGE_SIZE, rights)

    def pushed(self, count: int) -> list[int]:
        """What is on the stack in the hole."""
        state = self.stubs.guest.state()
        size = {Mode.REAL16: 2, Mode.PROT32: 4}.get(self.stubs.mode, 8)
        at = state.seg[Segment.SS].base + state.gpr[Gpr.RSP] - HOLE
        data = bytes(self.memory.data[at : at + count * size])
        return [int.from_bytes(data[n : n + size], "little") for n in range(0, len(data), size)]


@requirement("K-INJ-12", "K-INJ-8", "K-RUN-11")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("event", ["excp-6", "excp-14", "intr", "ud2", "int-n", "int3", "nmi"])
def test_event_survives_an_exit_of_its_delivery(vm: VirtualMachine, event: str) -> None:
    """An event whose stack is not there exits with MEMORY, and is pending; with memory there it is
    delivered at the next run, once, without a word of userland (BH-79)."""
    if vm.mode is Mode.REAL16 and event == "excp-14":
        event = "excp-6"
    case = _Interrupted(vm, event)
    guest = case.stubs.guest
    taken = guest.next_exit()
    assert isinstance(taken, MemoryExit)
    check.equal(taken.prot, Prot.WRITE, "access")
    check.equal(taken.gpa & ~0xFFF, HOLE, "page")
    check(taken.state.evt_pending, "the event is pending in exitstate")
    check(guest.state().intr.evt_pending, "the event is pending in state")
    case.fill()
    again = guest.next_exit()
    check.equal(again.reason, ExitReason.HALTED, "next exit")
    state = guest.state()
    check.equal(state.gpr[Gpr.RIP], case.stubs.stub(case.vector) + 1, "handler")
    check(not again.state.evt_pending, "nothing is pending after delivery")
    items = case.pushed(1 if case.error is None else 2)
    if case.error is not None:
        check.equal(items.pop(0), case.error, "error code")
    check.equal(items, [case.returns], "return address")


@requirement("K-INJ-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("where", ["idt", "gdt"])
@pytest.mark.parametrize("event", ["excp-6", "intr", "ud2", "int-n"])
def test_event_survives_a_missing_table(vm: VirtualMachine, event: str, where: str) -> None:
    """So does one whose IDT or GDT is not there."""
    case = _Interrupted(vm, event, where)
    guest = case.stubs.guest
    taken = guest.next_exit()
    assert isinstance(taken, MemoryExit)
    check.equal(taken.gpa & ~0xFFF, HOLE, "page")
    check(taken.state.evt_pending, "the event is pending")
    case.fill()
    check.equal(guest.next_exit().reason, ExitReason.HALTED, "next exit")
    frame = case.stubs.frame()
    check.equal((frame.vector, frame.ip), (case.vector, case.returns), "event")


@requirement("K-INJ-13", "K-INJ-12")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("event", ["excp-6", "intr", "ud2", "int-n"])
def test_injecting_replaces_the_pending_event(vm: VirtualMachine, event: str) -> None:
    """An event injected while another is pending takes its place: the caller has to look at
    evt_pending first (BH-80)."""
    case = _Interrupted(vm, event)
    guest = case.stubs.guest
    assert guest.next_exit().state.evt_pending
    case.fill()
    guest.inject(EventType.EXCP, 7)
    assert guest.next_exit().reason is ExitReason.HALTED
    assert guest.state().gpr[Gpr.RIP] == case.stubs.stub(7) + 1
    assert guest.next_exit().reason is ExitReason.HALTED  # the same stub: nothing else comes
    assert guest.state().gpr[Gpr.RIP] == case.stubs.stub(7) + 1


@requirement("K-INJ-12", "K-SET-19")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("event", ["excp-6", "intr"])
def test_state_committed_meanwhile_keeps_the_event(vm: VirtualMachine, event: str) -> None:
    """Committing all state, INTR too, while an event is pending does not lose it."""
    case = _Interrupted(vm, event)
    guest = case.stubs.guest
    assert guest.next_exit().state.evt_pending
    guest.registers.gpr[Gpr.RSP] = case.stubs.top
    guest.set_intr(int_shadow=False)
    assert guest.next_exit().reason is ExitReason.HALTED
    frame = case.stubs.frame()
    assert (frame.vector, frame.ip) == (case.vector, case.returns)


@requirement("K-INJ-12", "A-PRE-4", "A-PRE-5")
@modes(Mode.PROT32, Mode.LONG64)
def test_interrupt_that_waits_takes_no_events_place(vm: VirtualMachine) -> None:
    """An exception onto a stack that is not there, and an interrupt waits: both arrive (BH-80)."""
    iret = "iretd" if vm.mode is Mode.PROT32 else "iretq"
    stubs = Stubs(
        vm,
        f"    nop\n    hlt\nend:\nhandler:\n    inc ebx\n    {iret}\n",
        unmapped=((HOLE, PAGE_SIZE),),
    )
    stubs.gate(0x41, to=stubs.symbol("handler"))
    stubs.registers.gpr |= {Gpr.RFLAGS: 2 | IF, Gpr.RSP: SP}
    guest = stubs.guest
    guest.inject(EventType.EXCP, 6)
    assert guest.next_exit().state.evt_pending
    guest.registers.gpr[Gpr.RSP] = stubs.top
    guest.interrupt(0x41)
    frame = stubs.take()
    check.equal(frame.vector, 6, "the exception's handler")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    # The handler returns by hand, and the interrupt comes.
    state = guest.state()
    guest.registers.gpr |= {
        Gpr.RIP: frame.ip,
        Gpr.RSP: stubs.top,
        Gpr.RFLAGS: state.gpr[Gpr.RFLAGS] | IF,
    }
    run = guest.run()
    check.equal(run.reason, Stop.HALTED, "end")
    check.equal(run.rip, stubs.symbol("end"), "RIP at the end")
    check.equal(run.registers.gpr[Gpr.RBX] & 0xFFFFFFFF, 1, "interrupts handled")


@requirement("K-INJ-12", "K-MEMX-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("event", ["excp-6", "intr", "ud2"])
def test_stack_of_the_ist_that_is_not_there(vm: VirtualMachine, event: str) -> None:
    """An event whose IST stack is not there survives as well."""
    case = _Interrupted(vm, event)
    stubs, guest = case.stubs, case.stubs.guest
    stubs.gate(case.vector, ist=1)
    guest.write(TSS + 0x24, struct.pack("<Q", SP))
    guest.registers.gpr[Gpr.RSP] = stubs.top
    case.inject()
    taken = guest.next_exit()
    assert isinstance(taken, MemoryExit)
    assert taken.state.evt_pending
    case.fill()
    assert guest.next_exit().reason is ExitReason.HALTED
    assert guest.state().gpr[Gpr.RIP] == stubs.stub(case.vector) + 1
    assert case.pushed(5)[3] == stubs.top
