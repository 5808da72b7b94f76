# SPDX-License-Identifier: BSD-2-Clause
"""Sections 5 and 8: who is newer (A-SYNC), and what every return tells (A-POST)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lookalike import LookAlike

from nvmmconf.abi import Cr, ExitReason, Gpr
from nvmmconf.accel import Stop, callbacks
from nvmmconf.accel.loop import exec_vcpu
from nvmmconf.board.interfaces import BusError
from nvmmconf.nvmm import IoAccess, MemAccess

MakeRig = Callable[..., Any]
GET, SET = "vcpu_getstate 0x5f", "vcpu_setstate 0x5f"


class Device:
    """Does something at each access."""

    def __init__(self, action: Callable[[], object], value: int = 0) -> None:
        self._action = action
        self._value = value
        self.accesses = 0

    def port_read(self, offset: int, size: int) -> int:
        self.accesses += 1
        self._action()
        return self._value

    def port_write(self, offset: int, size: int, value: int) -> None:
        self.accesses += 1
        self._action()


def test_a_sync_1_fetches_where_not_dirty_and_becomes_dirty(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.push()
    one.vcpu.vcpu.state.gprs[Gpr.RBX] = 77
    looks.forget()
    one.vcpu.synchronize()
    assert looks.calls == [GET]
    assert one.vcpu.dirty
    assert one.gpr(Gpr.RBX) == 77


def test_a_sync_1_leaves_newer_registers_alone(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.push()
    one.vcpu.synchronize()
    one.vcpu.registers.gpr[Gpr.RBX] = 5
    one.vcpu.vcpu.state.gprs[Gpr.RBX] = 77
    looks.forget()
    one.vcpu.synchronize()
    assert looks.calls == []
    assert one.gpr(Gpr.RBX) == 5


def test_a_sync_1_a_run_that_ends_before_it_begins_leaves_newer_registers_alone(
    rig: MakeRig,
) -> None:
    """Who ends a run has the registers fetched, and may not lose what was changed before."""
    one = rig()
    one.vcpu.registers.gpr[Gpr.RBX] = 5
    one.control.request_exit(3)
    assert one.run().reason is Stop.EXITED
    assert one.gpr(Gpr.RBX) == 5
    assert one.vcpu.dirty


def test_a_sync_2_after_reset_the_registers_are_pushed(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.registers.gpr[Gpr.RSI] = 0x51
    looks.forget()
    one.vcpu.after_reset()
    assert looks.calls == [SET]
    assert not one.vcpu.dirty
    assert one.vcpu.vcpu.state.gprs[Gpr.RSI] == 0x51


def test_a_sync_3_before_a_snapshot_is_loaded(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.after_reset()
    looks.forget()
    one.vcpu.before_load()
    assert one.vcpu.dirty
    one.vcpu.registers.gpr[Gpr.RSI] = 0x99
    one.vcpu.synchronize()
    assert looks.calls == []
    assert one.run().reason is Stop.HALTED
    assert one.gpr(Gpr.RSI) == 0x99


def test_a_sync_4_pushed_once_then_clean(
    rig: MakeRig, looks: LookAlike, exit_of: Callable[..., Any]
) -> None:
    """Three passes that change nothing on the emulator's side, one push."""
    one = rig(library=looks.library)
    looks.forget()
    looks.returns(exit_of(ExitReason.NONE), times=3)
    assert one.run().reason is Stop.HALTED
    assert [call for call in looks.calls if call in (SET, "vcpu_run")] == [SET, *["vcpu_run"] * 4]


def test_a_sync_4_a_change_between_two_passes_is_pushed(rig: MakeRig) -> None:
    """A pass ends with a NONE exit; the emulator has changed RIP meanwhile."""
    one = rig("e6 70 f4 43 f4")  # out 0x70,al; hlt; inc bx; hlt
    one.vcpu.registers.gpr[Gpr.RBX] = 1

    def jump() -> None:
        one.control.request_exit(7)

    one.pc.ports.claim(0x70, 1, Device(jump))
    assert one.run().reason is Stop.EXITED
    assert one.vcpu.registers.rip == 2
    one.vcpu.synchronize()
    one.vcpu.registers.gpr[Gpr.RIP] = 3
    assert one.accelerator.resume(one.vcpu).reason is Stop.HALTED
    assert (one.vcpu.registers.rip, one.gpr(Gpr.RBX)) == (5, 2)


def test_a_sync_4_what_a_pass_leaves_dirty_the_next_one_pushes(
    rig: MakeRig, looks: LookAlike, exit_of: Callable[..., Any]
) -> None:
    """The inner loop is not left in between."""
    one = rig(library=looks.library)
    looks.returns(exit_of(ExitReason.NONE))
    values = iter([0x55])

    def change() -> None:
        for value in values:
            one.vcpu.registers.gpr[Gpr.RBX] = value
            one.vcpu.dirty = True

    looks.at_run(change)
    looks.forget()
    assert one.run().reason is Stop.HALTED
    order = [call for call in looks.calls if call in (SET, "vcpu_run")]
    assert order == [SET, "vcpu_run", SET, "vcpu_run"]
    assert one.vcpu.vcpu.state.gprs[Gpr.RBX] == 0x55


@pytest.mark.parametrize("code", ["e6 70 f4", "e4 70 f4"])  # out 0x70,al / in al,0x70; hlt
def test_a_sync_5_a_device_that_synchronises(rig: MakeRig, code: str) -> None:
    """Were it left dirty, the push would undo the instruction, for ever."""
    one = rig(code)
    device = Device(lambda: one.vcpu.synchronize(), value=0x5C)
    one.pc.ports.claim(0x70, 1, device)

    def enough() -> None:
        if device.accesses > 1:
            one.control.panic("the instruction was undone")

    device._action = lambda: (one.vcpu.synchronize(), enough())
    assert one.run().reason is Stop.HALTED
    assert device.accesses == 1
    assert one.vcpu.registers.rip == 3
    if code.startswith("e4"):
        assert one.gpr(Gpr.RAX) & 0xFF == 0x5C


@pytest.mark.parametrize("is_in", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_sync_5_the_io_callback_leaves_it_clean(rig: MakeRig, is_in: bool, fails: bool) -> None:
    one = rig()

    def act() -> None:
        one.vcpu.dirty = True
        if fails:
            raise BusError("no")

    one.pc.ports.claim(0x70, 1, Device(act))
    callbacks.io(one.vcpu, IoAccess(0x70, is_in, memoryview(bytearray(1))))
    assert not one.vcpu.dirty


@pytest.mark.parametrize("is_write", [True, False])
def test_a_sync_5_the_memory_callback_leaves_it_clean(rig: MakeRig, is_write: bool) -> None:
    one = rig()
    one.vcpu.dirty = True
    callbacks.mem(one.vcpu, MemAccess(0x100, is_write, memoryview(bytearray(4))))
    assert not one.vcpu.dirty


def once(one: Any) -> None:
    """One outer call of the loop: the registers are not fetched after it."""
    with one.accelerator.lock:
        exec_vcpu(one.accelerator, one.vcpu)


# ---- section 8 -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["int_shadow", "int_window_exiting", "nmi_window_exiting"])
def test_a_post_1_each_bit(
    rig: MakeRig, looks: LookAlike, exit_of: Callable[..., Any], name: str
) -> None:
    one = rig(library=looks.library)
    names = ("int_shadow", "int_window_exiting", "nmi_window_exiting")
    looks.returns(exit_of(ExitReason.HALTED, **{name: 1}))
    one.run()
    assert _bits(one, names) == {other: other == name for other in names}
    looks.returns(exit_of(ExitReason.HALTED))
    one.accelerator.resume(one.vcpu)
    assert not any(_bits(one, names).values())


def _bits(one: Any, names: tuple[str, ...]) -> dict[str, bool]:
    return {name: getattr(one.vcpu, name) for name in names}


def test_a_post_1_rflags_without_a_fetch(
    rig: MakeRig, looks: LookAlike, exit_of: Callable[..., Any]
) -> None:
    """They are used before anybody synchronises, by the test of what wakes the vCPU."""
    one = rig(library=looks.library)
    looks.returns(exit_of(ExitReason.SHUTDOWN, rflags=0x246))
    once(one)
    assert one.gpr(Gpr.RFLAGS) == 0x246


@pytest.mark.parametrize("with_apic", [True, False])
def test_a_post_2_another_cr8(
    rig: MakeRig, looks: LookAlike, apic: Any, exit_of: Callable[..., Any], with_apic: bool
) -> None:
    one = rig(library=looks.library, apic=apic if with_apic else None)
    looks.returns(exit_of(ExitReason.SHUTDOWN, cr8=6))
    once(one)
    assert one.vcpu.tpr == 6
    assert apic.tpr == (6 if with_apic else 0)


def test_a_post_2_the_local_apic_is_told_under_the_big_lock(
    rig: MakeRig, looks: LookAlike, exit_of: Callable[..., Any]
) -> None:
    held: list[tuple[int, bool]] = []

    class Watched:
        base = 0

        @property
        def tpr(self) -> int:
            return 4

        @tpr.setter
        def tpr(self, value: int) -> None:
            held.append((value, one.accelerator.lock._is_owned()))

    one = rig(library=looks.library, apic=Watched())
    looks.returns(exit_of(ExitReason.SHUTDOWN, cr8=6))
    once(one)
    assert held == [(6, True)]


def test_a_post_2_the_same_cr8_leaves_the_apic_alone(
    rig: MakeRig, looks: LookAlike, exit_of: Callable[..., Any]
) -> None:
    class Watched:
        base = 0
        writes = 0

        @property
        def tpr(self) -> int:
            return 4

        @tpr.setter
        def tpr(self, value: int) -> None:
            self.writes += 1

    watched = Watched()
    one = rig(library=looks.library, apic=watched)
    one.vcpu.tpr = 4
    looks.returns(exit_of(ExitReason.SHUTDOWN, cr8=4))
    once(one)
    assert (one.vcpu.tpr, watched.writes) == (4, 0)


def test_a_post_a_return_that_did_not_enter_tells_nothing(
    rig: MakeRig, looks: LookAlike, apic: Any, exit_of: Callable[..., Any]
) -> None:
    """L-RUN-3: exitstate is all zero then; neither TPR nor IF of the guest have become so."""
    one = rig(library=looks.library, apic=apic)
    apic.tpr = 5
    one.vcpu.registers.gpr[Gpr.RFLAGS] = 0x202
    one.vcpu.int_shadow = True
    looks.returns(exit_of(ExitReason.NONE, rflags=0))
    seen: list[tuple[int, int, bool, bool]] = []

    def look() -> None:
        vcpu = one.vcpu
        seen.append((vcpu.tpr, apic.tpr, vcpu.registers.interrupts_enabled, vcpu.int_shadow))

    looks.at_run(look)
    assert one.run().reason is Stop.HALTED
    assert seen == [(5, 5, True, True)] * 2


def test_a_post_a_stop_before_the_first_entry_keeps_the_tpr(rig: MakeRig, apic: Any) -> None:
    """The same on the bundled library itself; on version 1 nothing is run at all."""
    one = rig("f4", apic=apic)
    apic.tpr = 5
    one.vcpu.exit_request = True
    assert one.run().reason is Stop.HALTED
    assert (apic.tpr, one.vcpu.tpr) == (5, 5)
    assert one.vcpu.vcpu.state.crs[Cr.CR8] == 5
