# SPDX-License-Identifier: BSD-2-Clause
"""Events that userland injects: nvmm_vcpu_inject() of libnvmm(3), and what the processor makes of
them: SDM 3A 6.12 to 6.14 (stacks and gates), 6.13 (error codes), SDM 3B 17.3.1.1 (RF); what must
be refused, what must not get lost, and what an injected event does not look at."""

from __future__ import annotations

import errno

import pytest

from nvmmconf.suite import (
    Cr,
    EventType,
    ExitReason,
    Gpr,
    InvalidExit,
    Level,
    Mode,
    Segment,
    SegmentRegister,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    requirement,
)

CF, IF, RF = 1, 1 << 9, 1 << 16
PROTECTED = (Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
NEW_STACK = 0x6800


@requirement("K-INJ-6", "K-INJ-8", "K-INJ-11", "L-EVT-5", "K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("vector", [8, 10, 11, 12, 13, 14, 17])
def test_exception_pushes_its_error_code(vm: VirtualMachine, vector: int) -> None:
    """An injected exception that has an error code pushes the one given, and returns to RIP."""
    error = 0 if vector in (8, 17) else 0x7A58
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector, error=error)
    frame = stubs.take()
    check.equal(frame.vector, vector, "vector")
    check.equal(frame.error, error, "error code")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    check(not stubs.guest.state().intr.evt_pending, "nothing is pending after delivery")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INJ-6", "K-INJ-8", "K-INJ-11")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("vector", [1, 6, 7, 16, 18, 19])
def test_exception_without_error_code_pushes_none(vm: VirtualMachine, vector: int) -> None:
    """An injected exception that has no error code pushes none, whatever was given."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector, error=0x18)
    frame = stubs.take()
    check.equal(frame.vector, vector, "vector")
    check.equal(frame.error, None, "error code")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    check(not stubs.guest.state().intr.evt_pending, "nothing is pending after delivery")


@requirement("K-INJ-6", "K-INJ-8")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("vector", [4, 5])
def test_overflow_and_bound_can_be_injected(vm: VirtualMachine, vector: int) -> None:
    """#OF and #BR, which outside 64-bit mode instructions raise, can be injected there."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector)
    frame = stubs.take()
    assert (frame.vector, frame.error) == (vector, None)
    assert frame.ip == stubs.symbol("here")


@requirement("K-INJ-6", level=Level.INFO)
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [4, 5])
def test_overflow_and_bound_in_64_bit_mode(vm: VirtualMachine, vector: int) -> None:
    """#OF and #BR, which 64-bit mode has not, are delivered or the entry is refused."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector)
    assert stubs.guest.next_exit().reason is ExitReason.HALTED


@requirement("K-INJ-6", level=Level.INFO)
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [9, 15, *range(20, 32)])
def test_reserved_exception(vm: VirtualMachine, vector: int) -> None:
    """An exception that the processor may not have is delivered, or the entry is refused."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector)
    assert stubs.guest.next_exit().reason is ExitReason.HALTED


@requirement("K-INJ-6", "K-INJ-16")
@modes(Mode.REAL16)
@pytest.mark.parametrize("vector", [1, 6, 7, 16, 18, 19, 8, 10, 11, 12, 13, 14, 17])
def test_real_mode_pushes_no_error_code(vm: VirtualMachine, vector: int) -> None:
    """In real mode an injected exception is delivered, and has no error code."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector)
    frame = stubs.take()
    check.equal(frame.vector, vector, "vector")
    check.equal(frame.error, None, "error code")
    check.equal((frame.cs, frame.ip), (0x2000, stubs.symbol("here")), "return address")


@requirement("K-INJ-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("error", [0, 1, 2, 4, 0x18, 0xFF, 0x100, 0x7FFF])
def test_error_code_is_pushed_whole(vm: VirtualMachine, error: int) -> None:
    """The error code given arrives as it is, in the whole of its stack slot."""
    stubs = Stubs(vm)
    stubs.guest.write(stubs.top - 0x40, b"\xaa" * 0x40)
    stubs.guest.inject(EventType.EXCP, 13, error=error)
    frame = stubs.take()
    assert (frame.vector, frame.error) == (13, error)


@requirement("K-INJ-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [6, 7, 10, 11, 12, 13, 14, 16, 17, 19])
def test_fault_pushes_rf(vm: VirtualMachine, vector: int) -> None:
    """A fault pushes RFLAGS with RF set (BH-81), and the rest as it was."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] = 2 | CF | IF
    stubs.guest.inject(EventType.EXCP, vector)
    assert stubs.take().flags == 2 | CF | IF | RF


@requirement("K-INJ-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [1, 8, 18])
def test_trap_or_abort_pushes_no_rf(vm: VirtualMachine, vector: int) -> None:
    """A trap or an abort pushes RFLAGS as they are, without RF."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] = 2 | CF | IF
    stubs.guest.inject(EventType.EXCP, vector)
    assert stubs.take().flags == 2 | CF | IF


@requirement("K-INJ-7", "K-INJ-11")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("flags", [0x202, 0xED7, 0x3202])
def test_interrupt_pushes_the_flags_as_they_are(vm: VirtualMachine, flags: int) -> None:
    """An interrupt pushes RFLAGS as they are, and an interrupt gate clears IF."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] = flags
    stubs.guest.inject(EventType.INTR, 0x41)
    frame = stubs.take()
    check.equal(frame.flags, flags, "flags pushed")
    check.equal(stubs.guest.state().gpr[Gpr.RFLAGS], flags & ~IF, "flags in the handler")


@requirement("K-INJ-4", "K-INJ-6", "K-INJ-8", "K-INJ-11", "L-EVT-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [0, 1, 3, 6, 8, 13, 14, 31, 32, 0x41, 0x80, 0xFF])
def test_interrupt_of_any_vector_is_delivered(vm: VirtualMachine, vector: int) -> None:
    """An interrupt may have any vector, below 32 too, and pushes no error code."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR, vector, error=0x18)
    frame = stubs.take()
    check.equal(frame.vector, vector, "vector")
    check.equal(frame.error, None, "error code")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INJ-1", "L-EVT-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [0, 3])
def test_divide_error_and_breakpoint_can_be_injected(vm: VirtualMachine, vector: int) -> None:
    """#DE and #BP are exceptions as others are, and can be injected (BH-53)."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector)
    frame = stubs.take()
    assert (frame.vector, frame.error) == (vector, None)
    assert frame.ip == stubs.symbol("here")


@requirement("K-INJ-1", "L-EVT-3", "L-EVT-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("vector", [2, 32, 33, 0x40, 0x80, 0xFF])
def test_no_such_exception(vm: VirtualMachine, vector: int) -> None:
    """An exception that there cannot be (NMI's vector, 32 and up) makes run fail with EINVAL."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, vector)
    with expect_errno(errno.EINVAL):
        stubs.guest.next_exit()


@requirement("K-INJ-2", "L-EVT-3", "L-EVT-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("kind", [2, 3, 4, 0x80, 0xFFFFFFFF])
def test_no_such_event_type(vm: VirtualMachine, kind: int) -> None:
    """An event of an unknown type makes run fail with EINVAL, not inject."""
    stubs = Stubs(vm)
    stubs.guest.inject(kind, 0x41)
    with expect_errno(errno.EINVAL):
        stubs.guest.next_exit()


@requirement("K-INJ-3")
@modes(Mode.REAL16, Mode.LONG64)
def test_refused_event_is_gone(vm: VirtualMachine) -> None:
    """After a run that refused its event the next one runs the guest, without any event."""
    stubs = Stubs(vm, "    mov {{ bx }}, 0x1234\n    hlt\nafter:\n")
    stubs.guest.inject(EventType.EXCP, 2)
    with expect_errno(errno.EINVAL):
        stubs.guest.next_exit()
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    state = stubs.guest.state()
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("after"), "RIP")
    check.equal(state.gpr[Gpr.RBX], 0x1234, "BX")


@requirement("K-RUN-12", "K-INJ-3", "L-ST-7")
@modes(Mode.REAL16, Mode.LONG64)
def test_refused_event_leaves_the_exit(vm: VirtualMachine) -> None:
    """A run that refuses its event leaves the exit as it was: it can still be assisted."""
    stubs = Stubs(vm, "    mov al, 0x5A\n    out 0x40, al\n    hlt\nafter:\n", ports={0x40: 0})
    assert stubs.guest.next_exit().reason is ExitReason.IO
    stubs.guest.vcpu.inject(EventType.EXCP, 2)
    with expect_errno(errno.EINVAL):
        stubs.guest.vcpu.run()
    stubs.guest.vcpu.assist_io()
    run = stubs.run()
    check.equal(run.rip, stubs.symbol("after"), "RIP")
    check.equal([one.value for one in run.ports], [0x5A], "accesses")


@requirement("K-INJ-3", level=Level.SHOULD)
@modes(Mode.REAL16, Mode.LONG64)
def test_state_committed_with_a_refused_event_is_in_force(vm: VirtualMachine) -> None:
    """State that was committed with an event that run refuses is in force at the next run."""
    stubs = Stubs(vm, "    hlt\nother:\n    hlt\nafter:\n")
    stubs.registers.gpr[Gpr.RIP] = stubs.symbol("other")
    stubs.registers.gpr[Gpr.RBX] = 0x5678
    stubs.guest.inject(EventType.EXCP, 2)
    with expect_errno(errno.EINVAL):
        stubs.guest.next_exit()
    stubs.guest.next_exit()
    state = stubs.guest.state()
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("after"), "RIP")
    check.equal(state.gpr[Gpr.RBX], 0x5678, "BX")


@requirement("K-INJ-9", "L-EVT-2")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("second", [EventType.EXCP, EventType.INTR])
@pytest.mark.parametrize("first", [EventType.EXCP, EventType.INTR])
def test_second_inject_replaces_the_first(
    vm: VirtualMachine, first: EventType, second: EventType
) -> None:
    """Of two events injected before one run only the last is delivered."""
    stubs = Stubs(vm, "    hlt\nafter:\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(first, 6 if first is EventType.EXCP else 0x40)
    stubs.guest.inject(second, 7 if second is EventType.EXCP else 0x41)
    frame = stubs.take()
    check.equal(frame.vector, 7 if second is EventType.EXCP else 0x41, "vector")
    check.equal(frame.ip, stubs.symbol("here"), "return address: nothing else was delivered")


@requirement("L-EVT-1")
@modes(Mode.REAL16, Mode.LONG64)
def test_event_is_what_the_record_holds_at_the_run(vm: VirtualMachine) -> None:
    """The event is what vcpu->event holds when run is called, not when inject was."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, 6)
    stubs.guest.vcpu.put_event(EventType.EXCP, 7)
    assert stubs.take().vector == 7


@requirement("L-EVT-1")
@modes(Mode.LONG64)
def test_record_alone_is_no_event(vm: VirtualMachine) -> None:
    """What vcpu->event holds is delivered only where inject was called."""
    stubs = Stubs(vm, "    hlt\nafter:\n")
    stubs.guest.vcpu.put_event(EventType.EXCP, 6)
    run = stubs.run()
    assert run.rip == stubs.symbol("after")


@requirement("L-EVT-1", "K-INJ-11")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("kind", [EventType.EXCP, EventType.INTR])
def test_event_is_delivered_once(vm: VirtualMachine, kind: EventType) -> None:
    """An event is delivered once: the handler's run goes on without another."""
    stubs = Stubs(vm, "handler:\n    inc {{ bx }}\n    hlt\nafter:\n    hlt\nend:\n")
    vector = 6 if kind is EventType.EXCP else 0x41
    stubs.gate(vector, to=stubs.symbol("handler"))
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(kind, vector)
    assert stubs.run().rip == stubs.symbol("after")
    run = stubs.run()
    assert run.rip == stubs.symbol("end")
    assert run.registers.gpr[Gpr.RBX] == 1


@requirement("K-INJ-10")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("kind", [EventType.EXCP, EventType.INTR])
def test_committed_state_comes_before_the_event(vm: VirtualMachine, kind: EventType) -> None:
    """State committed with the same run is in force before the event is delivered."""
    stubs = Stubs(vm, "    nop\nother:\n    nop\n")
    idt = stubs.guest.memory(0x8000, 0x1000)
    stubs.guest.write(0x4000, idt)
    registers = stubs.registers
    registers.gpr |= {
        Gpr.RIP: stubs.symbol("other"),
        Gpr.RSP: NEW_STACK,
        Gpr.RFLAGS: 2 | CF | IF,
    }
    registers.seg[Segment.IDT] = SegmentRegister(0, 0x4000, len(idt) - 1)
    stubs.guest.write(0x8000, bytes(0x1000))
    vector = 6 if kind is EventType.EXCP else 0x41
    stubs.guest.inject(kind, vector)
    assert stubs.run().reason is Stop.HALTED
    frame = stubs.frame(NEW_STACK)
    check.equal(frame.vector, vector, "vector, by the new IDT")
    check.equal(frame.ip, stubs.symbol("other"), "return address")
    check.equal(frame.flags & ~RF, 2 | CF | IF, "flags")


@requirement("K-INJ-10")
@modes(Mode.LONG64)
def test_cr2_committed_with_a_page_fault_is_the_guests(vm: VirtualMachine) -> None:
    """CR2 committed with an injected #PF is what its handler reads."""
    stubs = Stubs(vm, "handler:\n    mov rbx, cr2\n    hlt\n")
    stubs.gate(14, to=stubs.symbol("handler"))
    stubs.registers.cr[Cr.CR2] = 0x1234_5678_9000
    stubs.guest.inject(EventType.EXCP, 14, error=4)
    assert stubs.run().registers.gpr[Gpr.RBX] == 0x1234_5678_9000


@requirement("K-INJ-17")
@modes(Mode.LONG64)
@pytest.mark.parametrize("tpr", [1, 4, 8, 15])
def test_tpr_never_blocks_an_injected_interrupt(vm: VirtualMachine, tpr: int) -> None:
    """The TPR is userland's business: an injected interrupt of a lower class is delivered."""
    stubs = Stubs(vm)
    stubs.guest.tpr = tpr
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR, 0x10)
    assert stubs.take().vector == 0x10


@requirement("K-INJ-14", "K-INJ-15", "L-EVT-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x20, 0x41, 0xFF])
def test_interrupt_with_if_clear_is_not_lost(vm: VirtualMachine, vector: int) -> None:
    """An interrupt injected while IF is 0, which the caller should not do, is delivered at once
    (SVM) or makes the entry invalid (VMX); it is not dropped, nor does it wait (BH-52)."""
    stubs = Stubs(vm, "    hlt\nafter:\n")
    stubs.guest.inject(EventType.INTR, vector)
    taken = stubs.guest.next_exit()
    if isinstance(taken, InvalidExit):
        assert taken.hwcode == 33
    else:
        assert stubs.frame().vector == vector


@requirement("K-INJ-14", "K-INJ-15")
@modes(Mode.REAL16, Mode.LONG64)
def test_interrupt_in_a_shadow_is_not_lost(vm: VirtualMachine) -> None:
    """An interrupt injected into an interrupt shadow is delivered at once, or the entry is
    invalid; it is not dropped."""
    stubs = Stubs(vm, "    hlt\nafter:\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.set_intr(int_shadow=True)
    stubs.guest.inject(EventType.INTR, 0x41)
    taken = stubs.guest.next_exit()
    if isinstance(taken, InvalidExit):
        assert taken.hwcode == 33
    else:
        assert stubs.frame().vector == 0x41


@requirement("K-INJ-7")
@modes(Mode.PROT32, Mode.LONG64)
def test_untouched_stack_changes_nothing(vm: VirtualMachine) -> None:
    """An interrupt onto a stack that nobody has touched yet pushes RFLAGS as they are."""
    stubs = Stubs(vm)
    stubs.registers.gpr |= {Gpr.RSP: NEW_STACK - 0x1000, Gpr.RFLAGS: 2 | IF}
    stubs.guest.inject(EventType.INTR, 0x41)
    assert stubs.run().reason is Stop.HALTED
    frame = stubs.frame(NEW_STACK - 0x1000)
    check.equal(frame.vector, 0x41, "vector")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    check.equal(frame.flags, 2 | IF, "flags")


@requirement("K-INJ-6", level=Level.INFO)
@modes(Mode.LONG64)
def test_error_code_of_more_than_16_bits(vm: VirtualMachine) -> None:
    """An error code of more than 16 bits, which no exception has, is pushed or refused."""
    stubs = Stubs(vm)
    stubs.guest.inject(EventType.EXCP, 14, error=0x1_0004)
    assert stubs.guest.next_exit().reason is ExitReason.HALTED


@requirement("K-INJ-8", "K-INJ-17")
@modes(*PROTECTED)
@pytest.mark.parametrize("vector", [6, 13, 14, 17])
def test_exception_at_cpl_3_changes_stacks(vm: VirtualMachine, vector: int) -> None:
    """An exception injected at CPL 3 goes to level 0 on the stack of the TSS, and pushes the
    interrupted one."""
    stubs = Stubs(vm, user=True)
    error = None if vector == 6 else 0
    stubs.guest.inject(EventType.EXCP, vector)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (vector, error), "event")
    check.equal((frame.cs, frame.ip), (0x23, stubs.symbol("here")), "return address")
    check.equal((frame.ss, frame.sp), (0x2B, 0xE000), "interrupted stack")
    state = stubs.guest.state()
    check.equal(state.seg[Segment.CS].selector & 3, 0, "level of the handler")
    check.equal(state.seg[Segment.SS].selector & 3, 0, "level of its stack")


@requirement("K-INJ-8")
@modes(*PROTECTED)
@pytest.mark.parametrize("vector", [0x20, 0x41, 0xFF])
def test_interrupt_at_cpl_3_looks_at_no_gate_privilege(vm: VirtualMachine, vector: int) -> None:
    """An interrupt at CPL 3 goes through a gate of DPL 0, and pushes the interrupted stack."""
    stubs = Stubs(vm, user=True)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR, vector)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (vector, None), "event")
    check.equal((frame.cs, frame.ip), (0x23, stubs.symbol("here")), "return address")
    check.equal((frame.ss, frame.sp), (0x2B, 0xE000), "interrupted stack")
