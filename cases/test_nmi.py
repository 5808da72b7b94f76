# SPDX-License-Identifier: BSD-2-Clause
"""NMIs: SDM 3A 6.7 (vector 2, whatever IF says; no second one until IRET), and the window exit
NMI_READY of libnvmm(3), by which userland learns that the next one may go in."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    EventType,
    ExitReason,
    Gpr,
    InvalidExit,
    Mode,
    Segment,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

IF = 1 << 9
EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
HANDLED = (Mode.REAL16, Mode.PROT32, Mode.LONG64)
"""Where a handler is code of the mode itself."""
HANDLER = """
    hlt
after:
    hlt
handler:
    inc     {{ own }}[count]
iret_insn:
    {{ iret }}
    .pushsection .data
count:
    .word   0
    .popsection
"""


def _handled(vm: VirtualMachine, code: str = "    nop\n") -> Stubs:
    """A guest whose NMI handler counts at `count`, and returns."""
    iret = {Mode.REAL16: "iret", Mode.PROT32: "iretd"}.get(vm.mode, "iretq")
    text = HANDLER.replace("{{ iret }}", iret)
    if vm.mode is not Mode.REAL16:
        text = text.replace("inc     {{ own }}[count]", "inc     word ptr [count]")
    else:
        text = text.replace("inc     {{ own }}", "inc     word ptr {{ own }}")
    stubs = Stubs(vm, code + text)
    stubs.gate(2, to=stubs.symbol("handler"))
    return stubs


def _count(stubs: Stubs) -> int:
    at = stubs.guest.image.linear("count")
    return int.from_bytes(stubs.guest.memory(at, 2), "little")


@requirement("K-INJ-5", "L-EVT-4", "K-INJ-8")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("flags", [2, 2 | IF])
def test_nmi_is_delivered_whatever_if_says(vm: VirtualMachine, flags: int) -> None:
    """Interrupt 2 is an NMI: it goes through entry 2, whether IF is set or not."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] = flags
    stubs.guest.nmi()
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (2, None), "event")
    check.equal(frame.ip, stubs.symbol("here"), "return address")
    check.equal(frame.flags, flags, "flags")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INJ-5", "L-EVT-4", "A-POST-1")
@modes(*EVERY)
def test_nmi_arms_its_window(vm: VirtualMachine) -> None:
    """Injecting an NMI turns NMI-window exiting on, and the exits in its handler tell it."""
    stubs = Stubs(vm)
    stubs.guest.nmi()
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    check.equal(taken.state.nmi_window_exiting, True, "window in exitstate")
    check.equal(stubs.guest.state().intr.nmi_window_exiting, True, "window in state")


@requirement("K-INJ-5")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("vector", [1, 3, 0x41])
def test_other_interrupts_arm_no_nmi_window(vm: VirtualMachine, vector: int) -> None:
    """An interrupt of another vector turns no NMI-window exiting on."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.inject(EventType.INTR, vector)
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.HALTED
    assert not taken.state.nmi_window_exiting


@requirement("K-NMI-2", "K-NMI-3")
@modes(*HANDLED)
def test_nmi_window_opens_after_iret(vm: VirtualMachine) -> None:
    """NMI_READY comes when NMIs are no longer blocked: after the handler's IRET, not before."""
    stubs = _handled(vm)
    stubs.guest.nmi()
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.NMI_READY, "exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("here"), "RIP")
    check.equal(_count(stubs), 1, "NMIs handled")
    check.equal(taken.state.nmi_window_exiting, False, "window")


@requirement("K-NMI-1", "K-NMI-2", "K-NMI-3", "A-EXIT-5")
@modes(*HANDLED)
def test_nmi_window_opens_once_and_not_before_the_end(vm: VirtualMachine) -> None:
    """NMI_READY comes once for an NMI, at the handler's IRET or after it; then HLT halts."""
    stubs = _handled(vm)
    stubs.guest.nmi()
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.NMI_READY, "exit")
    rip = stubs.guest.state().gpr[Gpr.RIP]
    check(rip in (stubs.symbol("iret_insn"), stubs.symbol("here")), f"RIP {rip:#x} at the IRET")
    check.equal(_count(stubs), 1, "NMIs handled")
    check.equal(taken.state.nmi_window_exiting, False, "window")
    check.equal(stubs.guest.next_exit().reason, ExitReason.HALTED, "next exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("after"), "RIP at the end")
    check.equal(_count(stubs), 1, "NMIs handled at the end")


@requirement("K-NMI-1", "K-NMI-2", "K-NMI-3")
@modes(Mode.PROT32, Mode.LONG64)
def test_iret_that_faults_unblocks_nmis(vm: VirtualMachine) -> None:
    """IRET ends the blocking of NMIs even if it faults (SDM 3A 6.7.1): NMI_READY comes at the IRET,
    or before the first instruction of the fault's handler, not after that one's own IRET."""
    iret = "iretd" if vm.mode is Mode.PROT32 else "iretq"
    frame = "    push    0\n" * 5  # CS is a null selector
    stubs = Stubs(vm, f"    nop\n    hlt\nhandler:\n{frame}iret_insn:\n    {iret}\n")
    stubs.gate(2, to=stubs.symbol("handler"))
    stubs.guest.nmi()
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.NMI_READY, "exit")
    rip = stubs.guest.state().gpr[Gpr.RIP]
    check(rip in (stubs.symbol("iret_insn"), stubs.stub(13)), f"RIP {rip:#x} at IRET or handler")
    check.equal(taken.state.nmi_window_exiting, False, "window")
    check.equal(stubs.guest.next_exit().reason, ExitReason.HALTED, "next exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.stub(13) + 1, "RIP in the handler of #GP")


@requirement("K-INT-4")
@modes(Mode.REAL16, Mode.LONG64)
def test_nmi_window_can_be_disarmed(vm: VirtualMachine) -> None:
    """setstate(INTR) with the bit clear disarms the NMI window."""
    stubs = _handled(vm)
    stubs.guest.write(stubs.guest.image.linear("handler"), b"\xf4\x90")  # HLT first
    stubs.guest.nmi()
    assert stubs.guest.next_exit().state.nmi_window_exiting
    stubs.guest.set_intr(nmi_window_exiting=False)
    stubs.registers.gpr[Gpr.RIP] = stubs.symbol("iret_insn")
    assert stubs.guest.next_exit().reason is ExitReason.HALTED
    assert stubs.guest.state().gpr[Gpr.RIP] == stubs.symbol("after")


@requirement("A-EVT-4", "A-PRE-3", "A-PRE-5", "A-PRE-8")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("requests", [1, 2, 3])
def test_nmis_asked_for_at_once_are_one(vm: VirtualMachine, requests: int) -> None:
    """NMIs are latched once: several asked for before the guest runs are one."""
    stubs = _handled(vm)
    for _ in range(requests):
        stubs.guest.request_nmi()
    run = stubs.run()
    check.equal(run.rip, stubs.symbol("after"), "RIP")
    check.equal(_count(stubs), 1, "NMIs handled")


@requirement("A-EVT-4", "A-PRE-3", "A-EXIT-5", "K-NMI-1", "K-NMI-2")
@modes(*EVERY)
def test_second_nmi_waits_for_iret(vm: VirtualMachine) -> None:
    """An NMI that arrives while one is handled waits for IRET, and is then delivered once, however
    many arrived (BH-92)."""
    text = """
    hlt
after:
    hlt
handler:
    push    {{ ax }}
    mov     al, {{ own }}[depth]
    out     0x40, al                    # what is being handled when it begins
    inc     byte ptr {{ own }}[depth]
    in      al, 0x41                    # two NMIs arrive here the first time
    nop
    nop
    dec     byte ptr {{ own }}[depth]
    pop     {{ ax }}
    IRET
    .pushsection .data
depth:
    .byte   0
    .popsection
"""
    iret = {Mode.REAL16: "iret", Mode.PROT32: "iretd"}.get(vm.mode, "iretq")
    text = text.replace("IRET", iret)
    if vm.mode is Mode.COMPAT32:  # its handlers are 64-bit code
        text = text.replace("handler:", "    .code64\nhandler:").replace("{{ ax }}", "rax")
        text += "    .code32\n"
    arrived: list[int] = []

    def arrive(size: int) -> int:
        if not arrived:
            stubs.guest.request_nmi()
            stubs.guest.request_nmi()
        arrived.append(size)
        return 0

    stubs = Stubs(vm, "    nop\n" + text, ports={0x40: 0, 0x41: arrive})
    stubs.gate(2, to=stubs.symbol("handler"))
    stubs.guest.request_nmi()
    run = stubs.run()
    check.equal(run.rip, stubs.symbol("after"), "RIP")
    check.equal([one.value for one in run.ports if one.port == 0x40], [0, 0], "depth at each")
    check.equal(len(arrived), 2, "NMIs handled")


@requirement("A-PRE-3", "A-PRE-4", "A-PRE-5")
@modes(*HANDLED)
def test_nmi_goes_before_an_interrupt(vm: VirtualMachine) -> None:
    """Of an NMI and an interrupt that both wait the NMI goes first; the interrupt follows it."""
    stubs = _handled(vm)
    stubs.registers.gpr[Gpr.RFLAGS] |= IF
    stubs.guest.interrupt(0x41)
    stubs.guest.request_nmi()
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (0x41, stubs.symbol("here")), "interrupt")
    check.equal(_count(stubs), 1, "NMIs handled before it")


@requirement("A-EXIT-6", "A-PRE-3")
@modes(*HANDLED)
def test_nmi_wakes_a_halted_guest(vm: VirtualMachine) -> None:
    """An NMI ends HLT, with IF clear too."""
    stubs = _handled(vm, "    hlt\nwoken:\n")
    assert stubs.run().rip == stubs.symbol("woken")
    stubs.guest.request_nmi()
    run = stubs.run()
    assert run.rip == stubs.symbol("after")
    assert _count(stubs) == 1


@requirement("A-PRE-6")
@modes(Mode.LONG64)
def test_smi_is_dropped(vm: VirtualMachine) -> None:
    """An SMI is dropped, and the guest neither sees it nor hangs (BH-102)."""
    stubs = Stubs(vm, "    nop\n    hlt\nafter:\n")
    stubs.guest.request_smi()
    run = stubs.run()
    assert run.reason is Stop.HALTED
    assert run.rip == stubs.symbol("after")


@requirement("K-INJ-5")
@modes(Mode.PROT32, Mode.LONG64)
def test_nmi_at_cpl_3_changes_stacks(vm: VirtualMachine) -> None:
    """An NMI at CPL 3 is handled at level 0, on the stack of the TSS."""
    stubs = Stubs(vm, user=True)
    stubs.guest.write(0xB000, bytes(16))
    stubs.guest.nmi()
    taken = stubs.guest.next_exit()
    if isinstance(taken, InvalidExit):  # shown by the next case
        assert taken.hwcode == 33
        return
    frame = stubs.frame()
    check.equal((frame.vector, frame.cs, frame.ip), (2, 0x23, stubs.symbol("here")), "event")
    check.equal((frame.ss, frame.sp), (0x2B, 0xE000), "interrupted stack")
    check.equal(stubs.guest.state().seg[Segment.CS].selector & 3, 0, "level")


@requirement("K-INJ-5", "K-INJ-11")
@modes(Mode.PROT32, Mode.LONG64)
def test_nmi_onto_an_untouched_stack(vm: VirtualMachine) -> None:
    """An NMI is delivered onto a stack that nobody has touched yet."""
    stubs = Stubs(vm)
    stubs.registers.gpr[Gpr.RSP] = 0x5800
    stubs.guest.nmi()
    assert stubs.guest.next_exit().reason is ExitReason.HALTED
    assert stubs.frame(0x5800).vector == 2
