# SPDX-License-Identifier: BSD-2-Clause
"""What a worker writes: the plan, and a record before and after each case."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from nvmmconf.accel import AcceleratorError
from nvmmconf.nvmm import NvmmError
from nvmmconf.results import (
    Comparison,
    Ended,
    GuestRun,
    Planned,
    RecordWriter,
    Started,
    Verdict,
    judged,
    worker_file,
)
from nvmmconf.suite.checks import Checks
from nvmmconf.suite.errors import GuestHangError
from nvmmconf.suite.evidence import guest_run
from nvmmconf.suite.vm import VirtualMachine

_COMPARISONS = 100
"""Comparisons of a case that are kept."""


def utc_now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class CaseRecorder:
    """Appends a worker's records; between `begin` and `end` it gathers what a case shows."""

    def __init__(self, folder: Path, worker: str, *, durable: bool = True) -> None:
        self._worker = worker
        self._writer = RecordWriter(folder / worker_file(worker), durable=durable)
        self._case: str | None = None
        self._planned: Planned | None = None
        self._forget()

    def _forget(self) -> None:
        self._verdict = Verdict.PASS
        self._message = ""
        self._details = ""
        self._seconds = 0.0
        self._comparisons: list[Comparison] = []
        self._checked: list[Comparison] = []
        self._runs: tuple[GuestRun, ...] = ()

    def begin(self, plan: Planned) -> None:
        """A case starts now."""
        self._writer.write(Started(plan.case, self._worker, utc_now()))
        self._case = plan.case
        self._planned = plan
        self._forget()

    def compare(self, operator: str, observed: object, expected: object) -> None:
        """A comparison of the case does not hold."""
        if self._case is not None and len(self._comparisons) < _COMPARISONS:
            self._comparisons.append(Comparison("", operator, _shown(observed), _shown(expected)))

    def phase(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """A phase of the case (setup, call, teardown) is over."""
        if self._case is None:
            return
        self._seconds += report.duration
        verdict, message = _verdict_of(call, report)
        if verdict.severity > self._verdict.severity:
            self._verdict, self._message = verdict, message
            # What the accelerator reported of a failing call is only in its log.
            logs = [text for title, text in report.sections if title.startswith("Captured log")]
            self._details = "\n".join([report.longreprtext, *logs])
            if call.excinfo is not None:
                self._name_comparisons(str(call.excinfo.traceback[-1].statement).strip())
        machine = getattr(item, "funcargs", {}).get("vm")
        if report.when == "call" and isinstance(machine, VirtualMachine):
            passed = self._verdict is Verdict.PASS
            self._runs = tuple(guest_run(run, brief=passed) for run in machine.runs)

    def checked(self, checks: Checks) -> None:
        """The case has made these checks; those that failed are its comparisons."""
        if self._case is not None:
            self._checked = [
                Comparison(one.what, "==", one.observed, one.wanted)
                for one in checks.failures[:_COMPARISONS]
            ]

    @property
    def judged_so_far(self) -> Ended | None:
        """The case's end as its level and expectation have it; None outside of a case."""
        if self._case is None or self._planned is None:
            return None
        ended = Ended(self._case, self._worker, self._verdict, 0.0, self._message)
        return judged(self._planned, ended)

    def _name_comparisons(self, statement: str) -> None:
        # Those before the last one the case has survived: it caught them.
        self._comparisons = [
            Comparison(statement, one.operator, one.observed, one.expected)
            for one in self._comparisons[-1:]
        ]

    def end(self, *, interrupted: bool = False) -> None:
        """The case is over; `interrupted` where the user ended the run in it."""
        if self._case is None:
            return
        if interrupted:
            self._verdict, self._message = Verdict.ERROR, "interrupted by the user"
        failed = self._verdict is Verdict.FAIL
        self._writer.write(
            Ended(
                case=self._case,
                worker=self._worker,
                verdict=self._verdict,
                seconds=round(self._seconds, 6),
                message=self._message,
                details=self._details,
                comparisons=(*self._checked, *self._comparisons) if failed else (),
                runs=self._runs,
            )
        )
        self._case = None

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _shown(value: object) -> str:
    return str(value) if isinstance(value, str) else repr(value)


def _verdict_of(call: pytest.CallInfo[None], report: pytest.TestReport) -> tuple[Verdict, str]:
    if report.passed:
        return Verdict.PASS, ""
    if call.excinfo is None:  # a strict xfail that passed
        return Verdict.FAIL, report.longreprtext
    error = call.excinfo.value
    message = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    # pytest counts an expected failure as skipped; what is required failed nevertheless.
    if report.skipped and not hasattr(report, "wasxfail"):
        return Verdict.UNSUPPORTED, message
    if isinstance(error, GuestHangError):
        return Verdict.HANG, message
    # A call of libnvmm that fails says something of the target, whoever made it.
    cause = error.__cause__ if isinstance(error, AcceleratorError) else error
    if report.when == "call" and isinstance(
        cause, AssertionError | NvmmError | pytest.fail.Exception
    ):
        return Verdict.FAIL, message
    return Verdict.ERROR, f"{type(error).__name__}: {message}"
