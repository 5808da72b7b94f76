# SPDX-License-Identifier: BSD-2-Clause
"""A run as its controller sees it: its folder, its header and plan, merging, the report."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import gc
import os
import platform
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from nvmmconf.abi import Libnvmm
from nvmmconf.abi.library import ENVIRONMENT_VARIABLE
from nvmmconf.abi.soft import FAULT_VARIABLE, PROFILE_VARIABLE
from nvmmconf.report import ReportError, Store, write_site
from nvmmconf.requirements import requirement_row, requirements
from nvmmconf.results import (
    CONTROLLER_FILE,
    RUN_FILE,
    Planned,
    RecordWriter,
    Requirement,
    ResultsError,
    Run,
    RunHeader,
    load_run,
    merge_run,
    save_run,
)
from nvmmconf.results.codec import decode, encode
from nvmmconf.results.history import HISTORY_FILE, History, PastRun
from nvmmconf.results.kills import read_kills
from nvmmconf.suite.recorder import utc_now
from nvmmconf.suite.target import Target, seeded_faults

PLAN_FILE = "plan.jsonl"
"""Every worker collects the same cases, and writes them here."""

_CHOOSING = (ENVIRONMENT_VARIABLE, FAULT_VARIABLE, PROFILE_VARIABLE, "NVMM_SOFT_CHAOS")

KILLS = Path("faults") / "latest.json"
"""Below the reports: what `nvmmconf faults` found last."""


def new_run_folder(reports: Path) -> Path:
    """Make the folder of a new run and return it; ids sort by time."""
    runs = reports / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        now = datetime.datetime.now(datetime.UTC)
        serial = f"{now.microsecond:05x}{secrets.token_hex(1)}"
        folder = runs / f"{now:%Y%m%dT%H%M%SZ}-{serial}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            _sync(runs)  # the name has to outlive the host
            return folder


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_running(folder: Path) -> bool:
    """True while the controller of the run in `folder` lives: it holds a lock."""
    try:
        with (folder / CONTROLLER_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_plan(folder: Path, plan: Sequence[Planned]) -> None:
    """Write the plan, which is every worker's; never half a file."""
    draft = folder / f"{PLAN_FILE}.{os.getpid()}"
    draft.write_bytes(b"".join(encode(planned) for planned in plan))
    draft.replace(folder / PLAN_FILE)


def read_plan(folder: Path) -> tuple[Planned, ...]:
    """Return the plan that a worker wrote."""
    lines = (folder / PLAN_FILE).read_bytes().splitlines()
    records = [decode(line) for line in lines]
    return tuple(record for record in records if isinstance(record, Planned))


@dataclass
class RunSession:
    """The controller's part of one run in `folder`."""

    folder: Path
    reports: Path
    library: Libnvmm
    targets: tuple[Target, ...]
    arguments: tuple[str, ...]
    root: Path
    workers: int = 1
    plan: tuple[Planned, ...] = ()
    crashed: dict[str, str] = field(default_factory=dict)
    _lock: BinaryIO | None = None

    def begin(self, plan: tuple[Planned, ...]) -> None:
        """Write header and plan; only the first call does."""
        if self.plan or not plan:
            return
        self.plan = plan
        with RecordWriter(self.folder / CONTROLLER_FILE) as writer:
            writer.write(self._header())
            for planned in plan:
                writer.write(planned)
        # Held while this process lives, so that nobody takes the run for interrupted.
        self._lock = (self.folder / CONTROLLER_FILE).open("rb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def worker_crashed(self, nodeid: str, message: str) -> None:
        """A worker died while it ran the case `nodeid`."""
        for planned in self.plan:
            if planned.nodeid == nodeid:
                self.crashed[planned.case] = message

    def finish(self) -> tuple[Run, Pages]:
        """Merge the workers' records and write the report.

        Raises ResultsError, ReportError or OSError; the records stay where they are.
        """
        with _uncollected():
            run = merge_run(self.folder, self.crashed)
            save_run(run, self.folder)
            if self._lock is not None:
                self._lock.close()
            (self.folder / PLAN_FILE).unlink(missing_ok=True)
            return run, report(self.reports, first=run)

    def _header(self) -> RunHeader:
        cited = dict.fromkeys(one for planned in self.plan for one in planned.requirements)
        rows = [requirement_row(identifier) for identifier in cited]
        planned_for = {planned.target for planned in self.plan}
        return RunHeader(
            run_id=self.folder.name,
            started_at=utc_now(),
            suite_version=metadata.version("nvmmconf"),
            suite_revision=revision(self.root),
            library=self.library.path,
            library_reason=self.library.reason,
            targets=tuple(target.info() for target in self.targets if target.name in planned_for),
            host=host(),
            arguments=self.arguments,
            workers=self.workers,
            faults=seeded_faults(),
            environment={name: os.environ[name] for name in _CHOOSING if name in os.environ},
            requirements=tuple(Requirement(r.id, r.text, r.area, r.source) for r in rows),
        )


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cyclic collector, which would go over all records again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class Pages:
    """A report: its first page, and a line for each run that could not be read."""

    index: Path
    left_out: tuple[str, ...] = ()


def report(reports: Path, first: Run | None = None) -> Pages:
    """Note all finished runs under `reports` in the history, and write the report.

    `first` is the newest, where it is at hand already; then pages of older runs stay as
    they are. Raises ResultsError where the history or the newest run cannot be read,
    ReportError where the report cannot be written.
    """

    def folder(past: PastRun) -> Path:
        return reports / "runs" / (past.folder or past.header.run_id)

    def load(past: PastRun) -> Run:
        if first is not None and past.header.run_id == first.header.run_id:
            return first
        return load_run(folder(past))

    left_out: list[str] = []
    with History(reports / HISTORY_FILE) as history:
        left_out += history.sync(reports, first)
        kills = None
        try:
            kills = read_kills(reports / KILLS)
        except ResultsError as error:
            left_out.append(str(error))
        store = Store(
            history=history,
            load=load,
            has=lambda past: (folder(past) / RUN_FILE).is_file(),
            requirements=tuple(
                Requirement(row.id, row.text, row.area, row.source)
                for row in requirements().values()
            ),
            kills=kills,
        )
        if left_out and not any(map(store.has, history.runs())):
            raise ReportError(left_out[0])
        index = write_site(store, reports / "html", only_newest=first is not None)
    return Pages(index, tuple(left_out))


def revision(root: Path) -> str:
    """Return the suite's revision as git tells it, `unknown` where there is no git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip() or "unknown"


def host() -> Mapping[str, str]:
    """Return what the cases ran on."""
    system = platform.uname()
    return {
        "host": system.node,
        "system": f"{system.system} {system.release}",
        "build": system.version,
        "machine": system.machine,
        "processors": str(os.cpu_count() or 0),
        "python": platform.python_version(),
    }
