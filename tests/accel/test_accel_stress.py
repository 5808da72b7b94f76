# SPDX-License-Identifier: BSD-2-Clause
"""A-LOOP-4: nothing asked from another thread is lost, whatever the vCPU's thread is doing.

The guest counts down and halts.  Its count is large, so a run that ends with
a halt instead of the stop asked for tells that the stop was lost.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nvmmconf.abi import Gpr
from nvmmconf.accel import Outcome, Request, Stop

MakeRig = Callable[..., Any]
COUNT_DOWN = "66 49 75 fc f4"  # dec ecx; jnz; hlt
MANY = 0x4000000  # seconds of interpretation; a stop comes within milliseconds
STOPS = 2000


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    """Threads change places as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def spin(most: int, chance: random.Random) -> None:
    for _ in range(chance.randrange(most)):
        pass


def runner(one: Any, ready: threading.Semaphore, seen: list[Outcome]) -> None:
    """Runs the guest afresh for each stop."""
    for _ in range(STOPS):
        one.control.clear()
        one.vcpu.halted = False
        one.vcpu.synchronize()
        one.vcpu.registers.gpr[Gpr.RIP] = 0
        one.vcpu.registers.gpr[Gpr.RCX] = MANY
        ready.release()
        seen.append(one.run())
        if one.gpr(Gpr.RCX) == 0:  # it came to the end: what was asked for was seen too late
            seen[-1] = Outcome(Stop.HALTED)
            ready.release()  # nobody is to wait for the runs that there will not be
            return


def stopper(one: Any, ready: threading.Semaphore, seen: list[Outcome], seed: int) -> None:
    """Asks for stop number n at a random moment after run number n was begun."""
    chance = random.Random(seed)
    for number in range(STOPS):
        ready.acquire()
        if seen and seen[-1].reason is Stop.HALTED:
            return
        spin(chance.choice((1, 30, 300, 3000)), chance)
        one.control.request(Outcome(Stop.STOPPED, number))


@pytest.mark.parametrize("on_main", [True, False], ids=["vcpu-on-main", "stopper-on-main"])
def test_a_loop_4_no_stop_is_lost(rig: MakeRig, on_main: bool) -> None:
    """Python runs signal handlers on the main thread only, so both ways round count."""
    one = rig(COUNT_DOWN)
    ready = threading.Semaphore(0)
    seen: list[Outcome] = []
    asking: tuple[Any, ...] = (stopper, one, ready, seen, 20)
    running: tuple[Any, ...] = (runner, one, ready, seen)
    here, there = (running, asking) if on_main else (asking, running)
    thread = threading.Thread(target=there[0], args=there[1:], daemon=True)
    thread.start()
    here[0](*here[1:])
    thread.join()
    assert seen == [Outcome(Stop.STOPPED, number) for number in range(STOPS)]


def test_a_loop_4_no_request_is_lost(rig: MakeRig) -> None:
    """Two threads raise different requests on one vCPU at once; each waits for its own."""
    one = rig(COUNT_DOWN)
    one.vcpu.registers.gpr[Gpr.RCX] = 0xFFFFFFFF
    polled = threading.Event()
    finished = threading.Event()
    lost: list[int] = []

    class Apic:
        tpr = 0
        base = 0

        def poll(self) -> None:
            polled.set()

        def acknowledge(self) -> int:
            raise AssertionError("nothing is pending")

    one.vcpu.apic = Apic()

    def ask_for_polls() -> None:
        for number in range(100):
            polled.clear()
            one.vcpu.request(Request.POLL)
            # A guard against hanging, not a limit: a request that is kept comes at once.
            if not polled.wait(20):
                lost.append(number)
                break
        finished.set()
        one.control.request_exit(0)

    def disturb() -> None:
        while not finished.is_set():
            one.vcpu.request(Request.SMI)

    threads = [threading.Thread(target=target) for target in (ask_for_polls, disturb)]
    for thread in threads:
        thread.start()
    outcome = one.run()
    for thread in threads:
        thread.join()
    assert lost == []
    assert outcome == Outcome(Stop.EXITED, 0)
