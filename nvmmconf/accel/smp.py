# SPDX-License-Identifier: BSD-2-Clause
"""Running vCPUs until the machine's run ends: one on this thread, or a thread each."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nvmmconf.accel.bell import Bell
from nvmmconf.accel.loop import LoopExit, exec_vcpu
from nvmmconf.accel.outcome import Outcome, Stop

if TYPE_CHECKING:
    from nvmmconf.accel.accelerator import Accelerator
    from nvmmconf.accel.vcpu import AccelVcpu

LOOK_AGAIN = 0.05
"""Seconds between looks at `can_wake` while everything is halted: nothing tells when
what was hoped for has gone."""


def drive(accelerator: Accelerator, vcpu: AccelVcpu) -> Outcome:
    """Run `vcpu` on this thread until there is an outcome; its registers are then current.

    A halted one waits for its bell.  Where all that run are idle, and nothing
    outside can wake one, the outcome is HALTED.
    """
    while True:
        with accelerator.lock:
            # Looked at before the guest runs, too: a request made while
            # this vCPU did not exist has kicked nobody.
            outcome = accelerator.control.outcome
            idle = False
            if outcome is None:
                why = exec_vcpu(accelerator, vcpu)
                outcome = accelerator.control.outcome
                # A request may have come since the exit was looked at.
                if outcome is None and why is LoopExit.HALTED and vcpu.is_idle:
                    idle = True
                    last = all(other.is_idle for other in accelerator.running)
                    if last and not accelerator.can_wake():
                        outcome = Outcome(Stop.HALTED)
                        accelerator.all_halted(outcome)
            if outcome is not None:
                if accelerator.journal is not None:
                    accelerator.journal.ended(vcpu, outcome)
                vcpu.fetch()
                return outcome
        if idle:
            vcpu.bell.wait(LOOK_AGAIN if last else None)


def run_threads(accelerator: Accelerator, vcpus: Sequence[AccelVcpu]) -> Outcome:
    """Run `vcpus`, a thread each, until there is an outcome and all have left the guest.

    This thread waits, so that signal handlers run (on the main thread): Ctrl-C
    stops the guest and is raised when the threads have ended.
    """
    ended: list[Outcome] = []

    def thread(vcpu: AccelVcpu) -> None:
        try:
            if interrupted:  # before this thread was known to have started
                return
            ended.append(drive(accelerator, vcpu))
        except BaseException as error:  # a device's: a thread has nobody to pass it on to
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = (
                f"vCPU {vcpu.index}: {type(error).__name__}: {error}"
                f" (in {where.name}, line {where.lineno})"
            )
            accelerator.reports.error(message)
            accelerator.control.panic(message, vcpu.fault(None))
        finally:
            running.discard(vcpu)
            done.ring()

    # Not join: interrupted by a signal handler that raises, it takes a thread
    # that runs for one that has ended (bpo-45274 and what its repair broke).
    done = Bell()
    interrupted: list[BaseException] = []
    running = set(vcpus)
    threads = [
        threading.Thread(target=thread, args=(vcpu,), name=f"vCPU {vcpu.index}", daemon=True)
        for vcpu in vcpus
    ]
    while True:
        try:
            if interrupted:
                accelerator.control.request(Outcome(Stop.STOPPED))
                accelerator.kick_all()  # the request may have been interrupted on its way
            else:
                for one in threads:
                    one.start()
            begun = {vcpu for vcpu, one in zip(vcpus, threads, strict=True) if one.ident}
            while running & begun:
                # Not for ever: a signal that comes right before the wait does not end
                # it, and its handler would not run.
                done.wait(LOOK_AGAIN)
            break
        except BaseException as error:
            # The first counts.  A second Ctrl-C does not end the wait: the machine must
            # not be destroyed, nor the kick's handler taken away, under a running vCPU.
            interrupted.append(error)
    if interrupted:
        raise interrupted[0]
    for one in threads:
        one.join()
    return accelerator.control.outcome or ended[0]
