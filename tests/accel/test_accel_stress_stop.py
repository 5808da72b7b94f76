# SPDX-License-Identifier: BSD-2-Clause
"""A-LOOP-4 under stress: each of many stops at random moments makes the run return.

    make stress-stop        100,000 stops a version, each way round

The guest jumps to itself, and the look-alike library leaves no guest by
itself: nothing but a stop that arrives ends a run.  One that was lost would
hang the test; the watchdog's thread turns that into a failure that says when.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nvmmconf.accel import Outcome, Stop

MakeRig = Callable[..., Any]
PROFILES = ("ideal", "v1-svm", "v1-vmx", "v2-svm", "v2-vmx", "v3-svm", "v3-vmx")
STOPS = int(os.environ.get("NVMMCONF_STRESS_STOPS", "2000"))
LOST = 60.0
"""Seconds without any progress after which a stop counts as lost; one takes microseconds."""


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NVMM_SOFT_PROFILE", request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    """Threads change places as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Stress:
    """Run number n ends by stop number n, which is made at a random moment after its start."""

    def __init__(self, one: Any) -> None:
        self.one = one
        self.may_stop = threading.Semaphore(0)
        self.seen = 0
        self.wrong: list[tuple[int, Outcome]] = []
        self.lost: int | None = None
        self.over = threading.Event()

    def run(self) -> None:
        one = self.one
        for number in range(STOPS):
            one.control.clear()
            self.may_stop.release()
            outcome = one.run()
            if outcome != Outcome(Stop.STOPPED, number):
                self.wrong.append((number, outcome))
                break
            if self.over.is_set():  # this run was freed, not stopped
                break
            self.seen += 1
        self.over.set()
        self.may_stop.release()

    def stop(self) -> None:
        chance = random.Random(20)
        for number in range(STOPS):
            self.may_stop.acquire()
            if self.over.is_set():
                return
            for _ in range(chance.randrange(chance.choice((1, 10, 100, 1000, 10000)))):
                pass
            self.one.control.request(Outcome(Stop.STOPPED, number))

    def watch(self) -> None:
        """Free a run whose stop was lost."""
        before = -1
        while not self.over.wait(LOST):
            if self.seen == before:
                self.lost = before
                self.over.set()
                while self.one.vcpu.is_running:
                    self.one.accelerator.kick_all()
            before = self.seen


@pytest.mark.parametrize("on_main", [True, False], ids=["vcpu-on-main", "stopper-on-main"])
def test_a_loop_4_each_stop_arrives(rig: MakeRig, looks: Any, on_main: bool) -> None:
    """BH-51, BH-51a, BH-97, BH-104: from another thread, in the guest and around its entry."""
    looks.set_int("ticks", 10**6)
    one = rig("eb fe", library=looks.library)
    one.accelerator.trace = None
    stress = Stress(one)
    watching = threading.Thread(target=stress.watch, daemon=True)
    watching.start()
    here, there = (stress.run, stress.stop) if on_main else (stress.stop, stress.run)
    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    here()
    thread.join()
    watching.join()
    assert stress.lost is None, f"stop {stress.lost} of {STOPS} was lost"
    assert stress.wrong == []
    assert stress.seen == STOPS
