# SPDX-License-Identifier: BSD-2-Clause
"""Sections 6 and 7: whether an event can go in, and what is done before each entry.

The guests are in real mode; a vector's handler halts, at GPA 0x800 + vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import Cr, ExitReason, Gpr, StateFlag
from nvmmconf.accel import Request, Stop, events
from nvmmconf.suite import requirement

MakeRig = Callable[..., Any]
NMI, HARD = 2, 0x20  # the tests' APIC has the latter
SPIN = "eb fe"  # jmp to itself
STI_SPIN = "fb 90 eb fe"  # sti; nop; jmp to itself
IF = 0x200


def with_handlers(rig: MakeRig, code: str, interrupts: bool = True, **how: Any) -> Any:
    one = rig(code, **how)
    for vector in (NMI, HARD):
        handler = 0x800 + vector
        one.put(4 * vector, f"{handler.to_bytes(2, 'little').hex()} 0000")
        one.put(handler, "f4")
    one.put(0x100, code)  # the table is where the code was
    registers = one.vcpu.registers
    registers.gpr[Gpr.RIP] = 0x100
    registers.gpr[Gpr.RSP] = 0x2000
    if interrupts:
        registers.gpr[Gpr.RFLAGS] |= IF
    return one


def halts_in(one: Any) -> int:
    """The vector whose handler the guest halts in."""
    assert one.run().reason is Stop.HALTED
    return int(one.gpr(Gpr.RIP)) - 0x801


@requirement("A-EVT-3", "A-PRE-8")
def test_a_pre_4_an_interrupt_is_acknowledged_and_delivered(rig: MakeRig, apic: Any) -> None:
    one = with_handlers(rig, SPIN, apic=apic)
    one.vcpu.request(Request.HARD)
    assert halts_in(one) == HARD
    assert apic.acknowledged == 1
    assert Request.HARD not in one.vcpu.requests


@requirement("A-PRE-5")
def test_a_pre_3_an_nmi_goes_before_an_interrupt(rig: MakeRig, looks: Any, apic: Any) -> None:
    """One event an entry: the interrupt stays pending meanwhile."""
    one = with_handlers(rig, SPIN, library=looks.library, apic=apic)
    one.vcpu.request(Request.HARD | Request.NMI)
    looks.forget()
    assert halts_in(one) == NMI
    assert [call for call in looks.calls if call.startswith("vcpu_inject")] == ["vcpu_inject 1 2"]
    assert one.vcpu.requests == Request.HARD
    assert apic.acknowledged == 0


def test_an_event_that_has_not_gone_in_is_not_replaced(rig: MakeRig, apic: Any) -> None:
    """The kernel has room for one (L-EVT-2): an acknowledged interrupt would be lost."""
    one = with_handlers(rig, SPIN, apic=apic)
    one.vcpu.push()
    one.vcpu.request(Request.HARD)
    events.pre_run(one.vcpu)  # and then the run is stopped before it enters
    one.vcpu.request(Request.NMI)
    assert halts_in(one) == NMI
    assert one.reasons.count("HALTED") == 2  # the interrupt's handler, and the NMI's
    assert apic.acknowledged == 1


@requirement("A-EVT-1")
def test_a_evt_2_a_window_is_asked_for_where_if_is_clear(
    rig: MakeRig, looks: Any, apic: Any
) -> None:
    """Once, though the guest is not ready for many entries; then the interrupt goes in."""
    one = with_handlers(rig, STI_SPIN, interrupts=False, library=looks.library, apic=apic)
    one.vcpu.request(Request.HARD)
    looks.forget()
    assert halts_in(one) == HARD
    intr = f"{int(StateFlag.INTR):#x}"
    assert looks.calls.count(f"vcpu_setstate {intr}") == 1
    assert looks.calls.count(f"vcpu_getstate {intr}") == 1
    assert "INT_READY" in one.reasons
    assert apic.acknowledged == 1


def test_a_evt_1_no_interrupt_while_a_window_is_awaited(
    rig: MakeRig, looks: Any, apic: Any
) -> None:
    """The first entry goes without it; what that returns tells that no window is awaited."""
    one = with_handlers(rig, "f4", library=looks.library, apic=apic)
    one.vcpu.requests |= Request.HARD
    one.vcpu.int_window_exiting = True
    looks.forget()
    assert halts_in(one) == HARD
    order = [call for call in looks.calls if call.startswith(("vcpu_inject", "vcpu_run"))]
    assert order[:3] == ["vcpu_run", f"vcpu_inject 1 {HARD}", "vcpu_run"]


def test_a_evt_2_the_shadow_holds_an_interrupt_back(rig: MakeRig, looks: Any, apic: Any) -> None:
    """Though IF is set: a window is asked for, and the first entry goes without the interrupt."""
    one = with_handlers(rig, SPIN, library=looks.library, apic=apic)
    one.vcpu.int_shadow = True
    one.vcpu.requests |= Request.HARD
    looks.forget()
    assert halts_in(one) == HARD
    assert looks.calls.index("vcpu_run") < looks.calls.index(f"vcpu_inject 1 {HARD}")
    asked = looks.calls.index(f"vcpu_setstate {int(StateFlag.INTR):#x}")
    assert asked < looks.calls.index("vcpu_run")


def test_a_evt_3_an_nmi_in_its_handler_holds_no_interrupt_back(
    rig: MakeRig, looks: Any, apic: Any
) -> None:
    one = with_handlers(rig, "f4", library=looks.library, apic=apic)
    one.vcpu.nmi_window_exiting = True
    one.vcpu.requests |= Request.HARD
    looks.forget()
    assert halts_in(one) == HARD
    assert looks.calls.index(f"vcpu_inject 1 {HARD}") < looks.calls.index("vcpu_run")


def test_a_evt_4_an_nmi_waits_for_neither_if_nor_the_end_of_a_shadow(
    rig: MakeRig, looks: Any
) -> None:
    """What the first entry goes without never comes here."""
    one = with_handlers(rig, "f4", interrupts=False, library=looks.library)
    one.vcpu.int_shadow = True
    one.vcpu.requests |= Request.NMI
    looks.at_run(lambda: setattr(one.vcpu, "requests", Request(0)))
    assert halts_in(one) == NMI


def test_a_evt_4_no_nmi_until_the_handler_of_the_last_has_ended(rig: MakeRig, looks: Any) -> None:
    one = with_handlers(rig, "f4", library=looks.library)
    one.vcpu.nmi_window_exiting = True
    one.vcpu.requests |= Request.NMI
    looks.at_run(lambda: one.vcpu.requests and setattr(one.vcpu, "requests", Request(0)))
    looks.forget()
    one.run()
    assert not [call for call in looks.calls if call.startswith("vcpu_inject")]


def test_a_pre_1_the_apic_s_tpr_becomes_cr8(rig: MakeRig, looks: Any, apic: Any) -> None:
    """A-PRE-7: by getstate(CRS), CR8, setstate(CRS)."""
    one = with_handlers(rig, "f4", library=looks.library, apic=apic)
    one.vcpu.push()
    apic.tpr = 9
    looks.forget()
    one.run()
    crs = f"{int(StateFlag.CRS):#x}"
    first = looks.calls.index("vcpu_run")
    assert looks.calls[:first] == [f"vcpu_getstate {crs}", f"vcpu_setstate {crs}"]
    one.vcpu.vcpu.getstate(StateFlag.CRS)
    assert one.vcpu.vcpu.state.crs[Cr.CR8] == 9
    assert one.vcpu.tpr == 9


@requirement("A-PRE-7")
def test_a_pre_7_failures_are_reported(
    rig: MakeRig, looks: Any, apic: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = with_handlers(rig, "f4", library=looks.library, apic=apic)
    one.vcpu.push()
    apic.tpr = 9
    looks.fail(f"vcpu_setstate {int(StateFlag.CRS):#x}", 5)
    one.run()
    assert "EIO" in caplog.text


def test_a_pre_7_it_is_written_once(
    rig: MakeRig, looks: Any, apic: Any, exit_of: Callable[..., Any]
) -> None:
    """Of four entries the first."""
    one = with_handlers(rig, "f4", library=looks.library, apic=apic)
    apic.tpr = 9
    looks.returns(exit_of(ExitReason.NONE, cr8=9), times=3)
    looks.forget()
    assert one.run().reason is Stop.HALTED
    crs = f"vcpu_setstate {int(StateFlag.CRS):#x}"
    order = [call for call in looks.calls if call in (crs, "vcpu_run")]
    assert order == [crs, *["vcpu_run"] * 4]


@pytest.mark.parametrize("request_", [Request.INIT, Request.TPR])
def test_a_pre_2_these_make_the_loop_be_left(rig: MakeRig, request_: Request) -> None:
    one = with_handlers(rig, SPIN)
    one.vcpu.push()
    from nvmmconf.accel import events

    one.vcpu.requests |= request_
    events.pre_run(one.vcpu)
    assert one.vcpu.exit_request


def test_a_pre_6_an_smi_is_dropped(rig: MakeRig) -> None:
    one = with_handlers(rig, "f4")
    one.vcpu.requests |= Request.SMI
    assert one.run().reason is Stop.HALTED
    assert not one.vcpu.requests


def test_a_pre_8_a_failing_inject_is_reported(
    rig: MakeRig, looks: Any, apic: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = with_handlers(rig, "f4", library=looks.library, apic=apic)
    one.vcpu.request(Request.HARD)
    looks.fail("vcpu_inject", 5)
    one.run()
    assert "nvmm_vcpu_inject" in caplog.text
    assert "EIO" in caplog.text


def test_a_pre_9_the_big_lock_is_held(rig: MakeRig, apic: Any) -> None:
    one = with_handlers(rig, SPIN, apic=apic)
    held: list[bool] = []
    acknowledge = apic.acknowledge

    def watched() -> int:
        held.append(one.accelerator.lock._is_owned())
        return int(acknowledge())

    apic.acknowledge = watched
    one.vcpu.request(Request.HARD)
    assert halts_in(one) == HARD
    assert held == [True]
