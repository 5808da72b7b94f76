# SPDX-License-Identifier: BSD-2-Clause
"""A-VCPU-1, A-LOOP-7: a guest that never exits by itself is left because of the kick.

softnvmm leaves every guest now and then, as a kernel's clock does, and the
loop would see any request there; so here the look-alike goes on running until
a signal pends, as hardware would (L-STOP-4a).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.accel import Outcome, Stop, kick
from nvmmconf.suite.watchdog import Watchdog

MakeRig = Callable[..., Any]
SPIN = "eb fe"  # jmp to itself
PATIENCE = 1000  # of the base's ticks: seconds

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def patient(looks: Any) -> None:
    looks.set_int("ticks", PATIENCE)
    looks.set_int("gave_up", 0)


def stop(one: Any) -> None:
    one.control.request(Outcome(Stop.STOPPED))


@pytest.mark.parametrize("on_main", [True, False], ids=["vcpu-on-main", "kicker-on-main"])
def test_a_spinning_guest_is_left(rig: MakeRig, looks: Any, on_main: bool) -> None:
    one = rig(SPIN, library=looks.library)
    entered = threading.Event()
    looks.at_run(entered.set)
    seen: list[Outcome] = []

    def ask() -> None:
        entered.wait()
        with Watchdog(0.001, lambda: stop(one), one.accelerator.kick_all):
            left.wait()

    def run() -> None:
        seen.append(one.run())
        left.set()

    left = threading.Event()
    here, there = (run, ask) if on_main else (ask, run)
    thread = threading.Thread(target=there, daemon=True)
    thread.start()
    here()
    thread.join()
    assert seen == [Outcome(Stop.STOPPED)]
    assert looks.get_int("gave_up") == 0


def test_without_the_signal_it_is_not(
    rig: MakeRig, looks: Any, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    """That the test above can fail: nothing but the signal ends such a run."""
    if profile != "v1-svm":
        pytest.skip("version 2 has the stop word besides")
    looks.set_int("ticks", 5)
    one = rig(SPIN, library=looks.library)
    monkeypatch.setattr(kick, "send", lambda thread: None)
    entered = threading.Event()
    looks.at_run(entered.set)
    asking = threading.Thread(target=lambda: (entered.wait(), stop(one)), daemon=True)
    asking.start()
    assert one.run() == Outcome(Stop.STOPPED)  # when the look-alike had given up
    asking.join()
    assert looks.get_int("gave_up") == 1


def test_version_2_asks_the_stop_word_too(
    rig: MakeRig, looks: Any, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    """It is what covers a signal that is handled before the entry (A-LOOP-4)."""
    one = rig(SPIN, library=looks.library)
    monkeypatch.setattr(kick, "send", lambda thread: None)
    looks.forget()
    one.vcpu.enter_thread()
    kicking = threading.Thread(target=one.vcpu.kick)
    kicking.start()
    kicking.join()
    one.vcpu.leave_thread()
    assert looks.calls == (["vcpu_stop"] if profile == "v2-svm" else [])
    assert one.vcpu.exit_request
