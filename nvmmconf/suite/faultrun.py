# SPDX-License-Identifier: BSD-2-Clause
"""The cases, once for each seeded fault: collected once, then a forked child a fault.

A libnvmm in software reads which faults are on whenever it is asked for its
capability or for a machine, so a child has nothing to load again.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol

from nvmmconf.abi.soft import FAULT_VARIABLE
from nvmmconf.nvmm import NvmmError, init, query_capability
from nvmmconf.suite.collect import planned
from nvmmconf.suite.expectations import FOLDER, Expectations, read_expectations
from nvmmconf.suite.fixtures import PLACE, Place

PLUGIN = "nvmmconf-faults"
"""Under this name pytest knows the runner; no run is recorded where it is there."""

CHILD_TIMEOUT = 600.0
"""Seconds after which a child is killed: a hang that no watchdog has ended."""


@dataclass(frozen=True)
class Fault:
    """One seeded fault, and the case that killed it the last time."""

    name: str
    summary: str
    likely: str = ""


NO_FAULT = Fault("", "")


@dataclass(frozen=True)
class Kill:
    """A case that does not pass with a fault on."""

    case: str
    area: str
    message: str


@dataclass(frozen=True)
class FaultResult:
    """What became of a fault: `kills` is empty where it survived on all `profiles`."""

    fault: str
    summary: str
    profiles: tuple[str, ...]
    """Where it ran, the last one is where it was killed."""
    cases: int
    """Cases that ran with it."""
    seconds: float
    kills: tuple[Kill, ...] = ()

    @property
    def survived(self) -> bool:
        """True where no case noticed it."""
        return not self.kills


@dataclass(frozen=True)
class _Case:
    item: pytest.Item
    id: str
    name: str
    area: str
    words: frozenset[str]
    known: bool
    """It is known to fail, so that a fault shows where it passes."""


@dataclass
class _Child:
    fault: Fault
    profile: int
    """Index of the profile that it runs on."""
    pid: int
    pipe: int
    progress: mmap.mmap
    order: Sequence[_Case]
    started: float
    said: bytes = b""
    before: FaultResult | None = None


@dataclass
class FaultRunner:
    """A pytest plugin: runs what was collected once a fault, and keeps the results."""

    faults: Sequence[Fault]
    profiles: Sequence[str]
    """In this order until one kills; a fault may have no effect on some."""
    jobs: int
    complete: bool
    """Run all cases on a fault, not only up to the first that kills it."""
    told: Callable[[FaultResult], None] = lambda result: None
    results: list[FaultResult] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Cases that, without a fault, do not end as they are known to."""
    collected: int = 0
    areas: tuple[str, ...] = ()
    _cases: dict[str, list[_Case]] = field(default_factory=dict)
    _expectations: dict[str, Expectations] = field(default_factory=dict)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            self.errors.append(str(report.longrepr).strip().splitlines()[-1])

    @pytest.hookimpl
    def pytest_internalerror(self, excrepr: Any) -> None:
        """Keep what pytest could not do."""
        self.errors.append(str(excrepr).strip().splitlines()[-1])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's: each fault, in a child."""
        if self.errors:
            return True
        for item in session.items:
            self._add(item)
        self.areas = tuple(dict.fromkeys(c.area for row in self._cases.values() for c in row))
        self.collected = max(map(len, self._cases.values()), default=0)
        if self._cases and self._passes_without():
            self._run_all()
        return True

    def _passes_without(self) -> bool:
        """Run each profile without a fault: what ends there as it should can kill one."""
        children = {}
        for index in range(len(self.profiles)):
            child = self._start(NO_FAULT, index, None)
            children[child.pipe] = child
            if len(children) == self.jobs or index == len(self.profiles) - 1:
                while children:
                    for ended in _ready(children):
                        del children[ended.pipe]
                        self._leave_out(ended.profile, self._end(ended))
        return not self.errors

    def _leave_out(self, profile: int, result: FaultResult) -> None:
        failed = {kill.case for kill in result.kills}
        if "" in failed:
            self.errors.append(result.kills[0].message)
        name = self.profiles[profile]
        cases = self._cases.get(name, [])
        odd = {case.id for case in cases if (case.id in failed) is not case.known}
        self._cases[name] = [case for case in cases if case.id not in odd]
        self.left_out += sorted(odd)

    def _run_all(self) -> None:
        running: dict[int, _Child] = {}
        todo: list[tuple[Fault, int, FaultResult | None]] = [
            (fault, 0, None) for fault in reversed(self.faults)
        ]
        while (todo or running) and not self.errors:
            while todo and len(running) < self.jobs:
                child = self._start(*todo.pop())
                running[child.pipe] = child
            for child in _ready(running):
                del running[child.pipe]
                result = self._end(child)
                if result.survived and child.profile + 1 < len(self.profiles):
                    todo.append((child.fault, child.profile + 1, result))
                else:
                    self.results.append(result)
                    self.told(result)

    def _add(self, item: pytest.Item) -> None:
        callspec = getattr(item, "callspec", None)
        place = callspec.params.get(PLACE) if callspec is not None else None
        if not isinstance(place, Place):
            return
        target = place.target
        if target.name not in self._expectations:
            folder = item.config.rootpath / FOLDER
            version = target.capability.version
            self._expectations[target.name] = read_expectations(folder, target.name, version)
        plan = planned(item, target.name, self._expectations[target.name])
        words = frozenset(_words(f"{plan.area} {plan.case} {plan.title}"))
        name = plan.case.removesuffix(f"@{plan.target}")
        case = _Case(item, plan.case, name, plan.area, words, bool(plan.known))
        if plan.level != "info":  # what never fails kills nothing
            self._cases.setdefault(target.name, []).append(case)

    def _start(self, fault: Fault, profile: int, before: FaultResult | None) -> _Child:
        cases = self._cases.get(self.profiles[profile], [])
        order = likely_first(fault, cases)
        progress = mmap.mmap(-1, mmap.PAGESIZE)
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _in_child(fault, order, progress, write_end, self.complete or not fault.name)
        os.close(write_end)
        started = time.monotonic()
        return _Child(fault, profile, pid, read_end, progress, order, started, before=before)

    def _end(self, child: _Child) -> FaultResult:
        os.close(child.pipe)
        _, status = os.waitpid(child.pid, 0)
        done = int.from_bytes(child.progress[:8], "little")
        child.progress.close()
        lines = [json.loads(line) for line in child.said.splitlines()]
        kills = [Kill(**line) for line in lines if "error" not in line]
        errors = [str(line["error"]) for line in lines if "error" in line]
        if errors:
            self.errors.append(f"with the fault {child.fault.name or 'none'}: {errors[0]}")
        elif status:
            words = "did not end"
            if os.WIFSIGNALED(status):
                words = f"the process was ended by {signal.Signals(os.WTERMSIG(status)).name}"
            case = child.order[min(done, len(child.order)) - 1] if child.order else None
            name, area = (case.id, case.area) if case else ("", "")
            kills.append(Kill(name, area, words))
        before = child.before
        return FaultResult(
            fault=child.fault.name,
            summary=child.fault.summary,
            profiles=(*(before.profiles if before else ()), self.profiles[child.profile]),
            cases=(before.cases if before else 0) + done,
            seconds=round((before.seconds if before else 0) + time.monotonic() - child.started, 3),
            kills=tuple(kills),
        )


def _ready(running: dict[int, _Child]) -> list[_Child]:
    """Children that have ended; waits until there is one."""
    while True:
        ended: list[_Child] = []
        for pipe in select.select(list(running), [], [], 1.0)[0]:
            part = os.read(pipe, 65536)
            running[pipe].said += part
            if not part:
                ended.append(running[pipe])
        for child in running.values():
            if time.monotonic() - child.started > CHILD_TIMEOUT and child not in ended:
                os.kill(child.pid, signal.SIGKILL)
        if ended:
            return ended


def _words(text: str) -> Iterable[str]:
    return (word for word in re.split(r"[^a-z0-9]+", text.lower()) if len(word) > 1)


def likely_first(fault: Fault, cases: Sequence[_Case]) -> list[_Case]:
    """Return the cases, those first that share the most words with the fault; else as they are."""
    wanted = frozenset(_words(f"{fault.name} {fault.summary}"))
    names = frozenset(_words(fault.name))

    def rank(case: _Case) -> tuple[bool, int]:
        return case.name != fault.likely, -len(case.words & wanted) - 3 * len(case.words & names)

    return sorted(cases, key=rank)


def _in_child(
    fault: Fault, order: Sequence[_Case], progress: mmap.mmap, pipe: int, complete: bool
) -> NoReturn:
    """Run the cases with the fault on, and tell of what kills it; never returns."""
    status = 1
    try:
        os.environ[FAULT_VARIABLE] = fault.name
        trouble = _ask_again(order)
        if trouble:
            _tell(pipe, Kill("", "start-up", trouble))
            order = ()
        for number, case in enumerate(order, start=1):
            progress[:8] = number.to_bytes(8, "little")
            reports = runtestprotocol(case.item, log=False)
            failed = next((one for one in reports if one.failed), None)
            if failed is not None:
                text = failed.longreprtext.strip().splitlines()
                errors = [line[1:].strip() for line in text if line.startswith("E ")]
                message = (errors or text or [""])[0]
                _tell(pipe, Kill(case.id, case.area, message[:200]))
            elif case.known and fault.name:
                _tell(pipe, Kill(case.id, case.area, "passes, though it is known to fail"))
            else:
                continue
            if not complete:
                break
        status = 0
    except BaseException as error:
        os.write(pipe, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
    finally:
        os._exit(status)


def _ask_again(order: Sequence[_Case]) -> str:
    """Have the targets tell their capability with the fault on; what is wrong with it."""
    places = [case.item.callspec.params[PLACE] for case in order]  # type: ignore[attr-defined]
    for target in {place.target.name: place.target for place in places}.values():
        try:
            with target.chosen():
                init(target.library)
                fresh = query_capability(target.library)
        except NvmmError as error:
            return str(error)
        object.__setattr__(target, "capability", fresh)
    return ""


def _tell(pipe: int, kill: Kill) -> None:
    line = json.dumps({"case": kill.case, "area": kill.area, "message": kill.message})
    os.write(pipe, line.encode() + b"\n")
