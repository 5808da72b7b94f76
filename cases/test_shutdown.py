# SPDX-License-Identifier: BSD-2-Clause
"""Double faults and shutdown: SDM 3A 6.15, interrupt 8, and its table of what becomes one;
the exit SHUTDOWN of NVMM, and what its accelerator makes of it."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    EventType,
    ExitReason,
    Gpr,
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
from nvmmconf.suite.stubs import TSS

IF = 1 << 9
DF, NP, GP, PF = 8, 11, 13, 14
FIRST = {
    # name: vector, instructions, class
    "div": (0, "    xor ecx, ecx\n    div ecx\n", "contributory"),
    "int3": (3, "    int3\n", "benign"),
    "ud2": (6, "    ud2\n", "benign"),
    "int-n": (0x41, "    int 0x41\n", "benign"),
    "selector": (13, "    mov eax, 0x1230\n    mov ds, eax\n", "contributory"),
    "absent": (11, "    mov eax, 0x40\n    mov ds, eax\n", "contributory"),
    "page-fault": (14, "    mov eax, 0x40000000\n    mov eax, [rax]\n", "page-fault"),
}
BAD = 0x4000_0000
"""An address without a page, where there is paging."""


def _without_gate(stubs: Stubs, vector: int, second: str) -> None:
    """Have the delivery of `vector` raise #NP, #GP or #PF."""
    if second == "np":
        stubs.gate(vector, present=False)
    elif second == "gp":
        stubs.gate(vector, selector=0)
    else:
        stubs.guest.write(TSS + 0x24, (BAD + 0x1000).to_bytes(8, "little"))  # IST 1
        stubs.gate(vector, ist=1)


@requirement("K-SHUT-1", "A-EXIT-7")
def test_triple_fault_shuts_down(vm: VirtualMachine) -> None:
    """An exception that cannot be delivered, nor the #DF after it, is a shutdown."""
    run = vm.boot("shutdown")
    assert run.reasons() == [ExitReason.SHUTDOWN]
    assert run.reason is Stop.RESET


@requirement("K-SHUT-1", "A-EXIT-7")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["ud2", "int3", "int 0x41", "div cl"])
def test_without_an_idt_everything_shuts_down(vm: VirtualMachine, insn: str) -> None:
    """With no IDT every exception and INT n is a shutdown."""
    stubs = Stubs(vm, f"    {insn}\n    hlt\n")
    stubs.registers.seg[Segment.IDT] = SegmentRegister(0, 0, 0)
    run = stubs.run()
    assert run.reason is Stop.RESET
    assert stubs.exits() == [ExitReason.SHUTDOWN]


@requirement("K-SHUT-1", "A-EXIT-7", "K-INJ-8")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("event", ["excp", "intr", "nmi"])
def test_injected_event_without_an_idt_shuts_down(vm: VirtualMachine, event: str) -> None:
    """An injected event that cannot be delivered is a shutdown as the guest's own is."""
    stubs = Stubs(vm, "    nop\n    hlt\n")
    stubs.registers.seg[Segment.IDT] = SegmentRegister(0, 0, 0)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    if event == "excp":
        stubs.guest.inject(EventType.EXCP, 6)
    elif event == "intr":
        stubs.guest.inject(EventType.INTR, 0x41)
    else:
        stubs.guest.nmi()
    assert stubs.guest.next_exit().reason is ExitReason.SHUTDOWN


@requirement("K-SHUT-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize(
    "way", ["stack-not-canonical", "stack-without-page", "idt-without-page", "df-absent"]
)
def test_ways_to_a_triple_fault(vm: VirtualMachine, way: str) -> None:
    """No stack, no page for the IDT, no handler for #DF: a shutdown."""
    stubs = Stubs(vm, "    xor ecx, ecx\n    div ecx\n    hlt\n")
    if way == "stack-not-canonical":
        stubs.registers.gpr[Gpr.RSP] = 1 << 47
    elif way == "stack-without-page":
        stubs.registers.gpr[Gpr.RSP] = BAD + 0x1000
    elif way == "idt-without-page":
        stubs.registers.seg[Segment.IDT] = SegmentRegister(0, BAD, 0xFFF)
    else:
        stubs.gate(0, present=False)
        stubs.gate(DF, present=False)
    assert stubs.guest.next_exit().reason is ExitReason.SHUTDOWN


@requirement("K-SHUT-1", "K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("second", ["np", "gp", "pf"])
@pytest.mark.parametrize("first", FIRST)
def test_fault_while_an_event_is_delivered(vm: VirtualMachine, first: str, second: str) -> None:
    """A fault during the delivery of another event is delivered in its place, or as #DF, by the
    classes of both."""
    vector, code, kind = FIRST[first]
    stubs = Stubs(vm, code + "    hlt\n")
    _without_gate(stubs, vector, second)
    frame = stubs.take()
    # After a contributory one a #PF is handled by itself.
    becomes_df = kind == "page-fault" or (kind == "contributory" and second != "pf")
    check.equal(
        frame.vector, DF if becomes_df else {"np": NP, "gp": GP, "pf": PF}[second], "vector"
    )
    if becomes_df:
        check.equal(frame.error, 0, "error code of #DF")
    elif second == "np":
        external = first not in ("int3", "int-n")
        check.equal(frame.error, vector * 8 + 2 + external, "error code")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-SHUT-1", "K-INK-12")
@modes(Mode.PROT32)
@pytest.mark.parametrize("second", ["np", "gp"])
@pytest.mark.parametrize("first", [name for name in FIRST if name != "page-fault"])
def test_fault_while_an_event_is_delivered_without_paging(
    vm: VirtualMachine, first: str, second: str
) -> None:
    """In protected mode the same classes hold."""
    vector, code, kind = FIRST[first]
    stubs = Stubs(vm, code + "    hlt\n")
    _without_gate(stubs, vector, second)
    frame = stubs.take()
    wanted = DF if kind == "contributory" else {"np": NP, "gp": GP}[second]
    check.equal(frame.vector, wanted, "vector")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-SHUT-1", "K-INJ-6")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("event", ["gp", "ud", "intr"])
def test_fault_while_an_injected_event_is_delivered(vm: VirtualMachine, event: str) -> None:
    """An injected event counts in its class: contributory and #NP are #DF, others give way."""
    vector = {"gp": GP, "ud": 6, "intr": 0x41}[event]
    stubs = Stubs(vm)
    stubs.gate(vector, present=False)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR if event == "intr" else EventType.EXCP, vector)
    frame = stubs.take()
    wanted = (DF, 0) if event == "gp" else (NP, vector * 8 + 3)
    assert (frame.vector, frame.error) == wanted


@requirement("K-SHUT-1")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("third", ["np", "gp"])
def test_fault_while_a_double_fault_is_delivered(vm: VirtualMachine, third: str) -> None:
    """A fault during the delivery of #DF is a shutdown, whatever handlers there are."""
    stubs = Stubs(vm, "    xor ecx, ecx\n    div ecx\n    hlt\n")
    _without_gate(stubs, 0, "np")
    _without_gate(stubs, DF, third)
    assert stubs.guest.next_exit().reason is ExitReason.SHUTDOWN


@requirement("K-SHUT-1", "K-INJ-6")
@modes(Mode.PROT32, Mode.LONG64)
def test_fault_while_an_injected_double_fault_is_delivered(vm: VirtualMachine) -> None:
    """An injected #DF that faults on its way is a shutdown."""
    stubs = Stubs(vm)
    stubs.gate(DF, present=False)
    stubs.guest.inject(EventType.EXCP, DF)
    assert stubs.guest.next_exit().reason is ExitReason.SHUTDOWN


@requirement("K-SHUT-1")
@modes(Mode.REAL16)
def test_short_vector_table_is_a_double_fault(vm: VirtualMachine) -> None:
    """In real mode a vector beyond the IDT's limit raises #GP, and that beyond it #DF."""
    stubs = Stubs(vm, "    int 0x41\n    hlt\n")
    stubs.registers.seg[Segment.IDT] = SegmentRegister(0, 0, 4 * (DF + 1) - 1)
    frame = stubs.take()
    assert (frame.vector, frame.error) == (DF, None)


@requirement("K-SHUT-1")
@modes(Mode.PROT32)
def test_double_fault_at_cpl_3(vm: VirtualMachine) -> None:
    """A double fault at CPL 3 changes to the stack of level 0, and its error code is 0."""
    stubs = Stubs(vm, "    xor ecx, ecx\n    div ecx\n", user=True)
    stubs.gate(0, present=False)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (DF, 0), "event")
    check.equal((frame.ss, frame.sp), (0x2B, 0xE000), "interrupted stack")
