# SPDX-License-Identifier: BSD-2-Clause
"""The pytest plugin: cases get a `vm`, and every run becomes records and a report.

It does nothing in a project whose configuration has no `nvmmconf_guests`.
With pytest-xdist the controller owns the run's folder and each worker appends
to a file of its own there; without, one process is both.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nvmmconf.abi import Libnvmm, LibraryError, choose_library, open_library
from nvmmconf.guest import GuestError, GuestLibrary, Mode
from nvmmconf.report import ReportError
from nvmmconf.results import Planned, ResultsError, Run, Verdict
from nvmmconf.results.summary import case_name
from nvmmconf.suite import asserted, checks, faultrun
from nvmmconf.suite.collect import case_modes, case_stem, parameter_id, planned
from nvmmconf.suite.expectations import (
    FOLDER,
    ExpectationError,
    Expectations,
    read_expectations,
    write_expectations,
)
from nvmmconf.suite.fixtures import (
    PLACE,
    Place,
    alarm,
    capability,
    library,
    machine,
    nvmm_place,
    target,
    vcpu,
)
from nvmmconf.suite.marker import MARKERS, cited, level_of, modes_of, needs_of
from nvmmconf.suite.recorder import CaseRecorder
from nvmmconf.suite.session import (
    PLAN_FILE,
    Pages,
    RunSession,
    new_run_folder,
    read_plan,
    write_plan,
)
from nvmmconf.suite.summary import summary_lines
from nvmmconf.suite.target import Target, TargetError, find_targets, seeded_faults
from nvmmconf.suite.vm import DEFAULT_TIMEOUT, VirtualMachine

FEWEST_WORKERS = 2
"""`-n auto` means at least these, so that a crash never takes the whole run."""


@dataclass
class Harness:
    """What one pytest process holds: library, targets, guests, and its part of a run."""

    library: Libnvmm
    targets: tuple[Target, ...]
    guests: GuestLibrary
    timeout: float
    expected: Mapping[str, Expectations] = field(default_factory=dict)
    """What is known of each target, by its name."""
    stale: list[str] = field(default_factory=list)
    """A line for each expectation that matches no case."""
    rewritten: list[Path] = field(default_factory=list)
    """Files of expectations that were written."""
    session: RunSession | None = None
    recorder: CaseRecorder | None = None
    plan: dict[str, Planned] = field(default_factory=dict)
    """Planned cases of this process by pytest's node id."""
    stems: dict[str, str] = field(default_factory=dict)
    """Node ids of the functions collected, by what their case ids begin with."""
    finished: Run | None = None
    pages: Pages | None = None
    failure: str = ""


STALE = "nvmmconf_stale"
"""What a worker tells the controller, beside its records."""

HARNESS = pytest.StashKey[Harness]()

__all__ = ["capability", "library", "machine", "nvmm_place", "target", "vcpu"]


# ---- configuration ---------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; `pytest --help` shows them."""
    group = parser.getgroup("nvmmconf", "NVMM conformance")
    group.addoption(
        "--nvmm-lib",
        metavar="PATH",
        help="the libnvmm to use: a path, 'system' or 'bundled'. Default: NVMMCONF_LIB,"
        " else the system's, else the bundled one",
    )
    group.addoption(
        "--nvmm-profile",
        metavar="NAME",
        action="append",
        default=[],
        help="a profile of a libnvmm in software, may be repeated. Default:"
        " NVMM_SOFT_PROFILE, else every profile it has",
    )
    group.addoption(
        "--nvmm-reports",
        metavar="DIR",
        help="where results and the HTML report go. Default: reports, in the project",
    )
    group.addoption(
        "--nvmm-timeout",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIMEOUT,
        help="wall time after which a guest is stopped as hanging. Default: %(default)g",
    )
    group.addoption(
        "--nvmm-write-expectations",
        action="store_true",
        help="make this run the baseline: what fails becomes known in expectations/",
    )
    parser.addini("nvmmconf_guests", "folder of the guests, in the project", default="")


_PATH_OPTIONS = ("--nvmm-lib", "--nvmm-reports")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | pytest.ExitCode | None:
    """Start again with `--nvmm-lib=PATH` where it was written as two words.

    pytest looks for the project before it knows our options, and takes an
    existing PATH that stands alone for a folder of tests.
    """
    words = list(config.invocation_params.args)
    joined: list[str] = []
    while words:
        word = words.pop(0)
        joined.append(f"{word}={words.pop(0)}" if word in _PATH_OPTIONS and words else word)
    if joined == list(config.invocation_params.args):
        return None
    return pytest.main(joined, plugins=config.invocation_params.plugins)


def pytest_configure(config: pytest.Config) -> None:
    """Open the library and find its targets; what is wrong with them is a usage error."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    folder = config.getini("nvmmconf_guests")
    if not folder:
        return
    try:
        library = open_library(choose_library(config.getoption("--nvmm-lib")))
        targets = find_targets(library, config.getoption("--nvmm-profile"))
    except (LibraryError, TargetError) as error:
        raise pytest.UsageError(f"nvmmconf: {error}") from None
    # Written so that NaN is refused, too; a timer takes no more than TIMEOUT_MAX.
    if not 0 < config.getoption("--nvmm-timeout") <= threading.TIMEOUT_MAX:
        raise pytest.UsageError(
            f"nvmmconf: --nvmm-timeout must be more than 0, and at most {threading.TIMEOUT_MAX:g}"
        )
    try:
        expected = {
            one.name: read_expectations(config.rootpath / FOLDER, one.name, one.capability.version)
            for one in targets
        }
    except ExpectationError as error:
        raise pytest.UsageError(f"nvmmconf: {error}") from None
    config.stash[HARNESS] = Harness(
        library=library,
        expected=expected,
        targets=targets,
        guests=GuestLibrary(config.rootpath / folder, config.rootpath / "build" / "guests"),
        timeout=config.getoption("--nvmm-timeout"),
    )


def _harness(config: pytest.Config) -> Harness | None:
    return config.stash.get(HARNESS, None)


def _worker_input(config: pytest.Config) -> Mapping[str, Any] | None:
    return getattr(config, "workerinput", None)


def _reports(config: pytest.Config) -> Path:
    option = config.getoption("--nvmm-reports")
    return Path(option).absolute() if option else config.rootpath / "reports"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto`: a worker a processor, and two at least."""
    if _harness(config) is None or "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    # Not every system can tell what this process may use of its processors.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(FEWEST_WORKERS, usable or 1)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which libnvmm and why, and what stands behind it."""
    harness = _harness(config)
    if harness is None:
        return []
    names = [f"{target.name} (NVMM {target.capability.version})" for target in harness.targets]
    lines = [
        f"libnvmm: {harness.library.path} ({harness.library.reason})",
        f"targets: {', '.join(names)}",
    ]
    if seeded_faults():
        lines.append(f"SEEDED FAULTS ON: {', '.join(seeded_faults())}")
    return lines


# ---- collection --------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a case on each target; with `vm`, in each mode that it has.

    First of all, so that a case's parameters begin with these (`planned`).
    """
    harness = _harness(metafunc.config)
    if harness is None or PLACE not in metafunc.fixturenames:
        return
    definition = metafunc.definition
    try:
        cited(definition)
        level_of(definition)
        needs_of(definition)
        _claim(harness, definition)
        modes: tuple[Mode | None, ...] = (None,)
        if "vm" in metafunc.fixturenames:
            modes = case_modes(harness.guests, metafunc.function, modes_of(definition))
    except (GuestError, ValueError) as error:
        raise pytest.Collector.CollectError(f"{definition.nodeid}: {error}") from None
    except pytest.UsageError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    places = [Place(target, mode) for target in harness.targets for mode in modes]
    metafunc.parametrize(PLACE, places, indirect=True, ids=[place.id for place in places])


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Ids that stay and can be read."""
    return parameter_id(val) if _harness(config) is not None else None


def _claim(harness: Harness, definition: pytest.Item) -> None:
    """Raise ValueError where another function's case ids are the same already."""
    stem = case_stem(definition)
    other = harness.stems.setdefault(stem, definition.nodeid)
    if other != definition.nodeid:
        raise ValueError(f"its case id is that of {other}, too: {stem}; rename one of them")


@pytest.hookimpl(tryfirst=True)  # before anything is deselected
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Look for expectations that match no case, as far as the cases are all there."""
    harness = _harness(session.config)
    if (
        harness is None
        or session.testsfailed
        or not any(one.entries for one in harness.expected.values())
    ):
        return
    paths = session.config.args
    if any("::" in path for path in paths):
        return
    names: dict[str, list[str]] = {}
    areas: set[str] = set()
    for item in items:
        place = _place(item)
        if place is not None:
            plan = planned(item, place.target.name)
            names.setdefault(place.target.name, []).append(case_name(plan))
            areas.add(plan.area)
    every = all(Path(path).is_dir() for path in paths)
    for name, expected in harness.expected.items():
        if areas:
            lines = expected.stale(names.get(name, ()), None if every else frozenset(areas))
            harness.stale += [line for line in lines if line not in harness.stale]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has told of expectations that match no case."""
    harness = _harness(node.config)
    if harness is not None:
        told = getattr(node, "workeroutput", {}).get(STALE, [])
        harness.stale += [line for line in told if line not in harness.stale]


@pytest.hookimpl(tryfirst=True)  # the plan is there before xdist tells the controller
def pytest_collection_finish(session: pytest.Session) -> None:
    """Note what is planned; this begins the run where there is a case at all."""
    config = session.config
    harness = _harness(config)
    if harness is None or config.getoption("collectonly") or _distributes(config):
        return
    if config.pluginmanager.hasplugin(faultrun.PLUGIN):
        return
    if session.testsfailed and not config.getoption("continue_on_collection_errors"):
        return  # nothing will run
    for item in session.items:
        callspec = getattr(item, "callspec", None)
        place = callspec.params.get(PLACE) if callspec is not None else None
        if isinstance(place, Place):
            name = place.target.name
            harness.plan[item.nodeid] = planned(item, name, harness.expected[name])
    if not harness.plan:
        return
    plan = tuple(harness.plan.values())
    # What runs in this process does not take the host down.
    durable = not harness.library.has_soft
    worker_input = _worker_input(config)
    if worker_input is None:
        run = _session(config, harness)
        run.begin(plan)
        harness.recorder = CaseRecorder(run.folder, "main", durable=durable)
    else:
        folder = Path(worker_input["nvmmconf_folder"])
        write_plan(folder, plan)
        harness.recorder = CaseRecorder(folder, worker_input["workerid"], durable=durable)


def _distributes(config: pytest.Config) -> bool:
    """True in the controller of a distributed run, which collects nothing itself."""
    return _worker_input(config) is None and config.getoption("dist", "no") != "no"


def _session(config: pytest.Config, harness: Harness) -> RunSession:
    if harness.session is None:
        reports = _reports(config)
        try:
            folder = new_run_folder(reports)
        except OSError as error:
            raise pytest.UsageError(f"nvmmconf: no run can be kept there: {error}") from None
        harness.session = RunSession(
            folder=folder,
            reports=reports,
            library=harness.library,
            targets=harness.targets,
            arguments=tuple(config.invocation_params.args),
            root=config.rootpath,
        )
    return harness.session


# ---- the controller of a distributed run --------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where its records go."""
    harness = _harness(node.config)
    if harness is not None:
        session = _session(node.config, harness)
        node.workerinput["nvmmconf_folder"] = str(session.folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """The first worker has collected: its plan is everybody's."""
    harness = _harness(node.config)
    if harness is None or harness.session is None:
        return
    # Without workers pytest runs nothing where it cannot collect everything; nor
    # here, or the report would show what is left as if it were the whole suite.
    distributed = node.config.pluginmanager.getplugin("dsession")
    errors = distributed.countfailures
    if errors and not node.config.getoption("continue_on_collection_errors"):
        distributed.shouldstop = f"{errors} error{'s'[: errors != 1]} during collection"
        return
    if not ids:
        return
    session = harness.session
    if not session.plan and (session.folder / PLAN_FILE).exists():
        session.workers = len(node.nodemanager.specs)
        session.begin(read_plan(session.folder))


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """A worker died: its case is a crash, and the run goes on."""
    harness = _harness(sched.config)
    if harness is not None and harness.session is not None:
        harness.session.worker_crashed(crashitem, str(report.longrepr))


# ---- running a case ---------------------------------------------------------------


@pytest.fixture
def vm(request: pytest.FixtureRequest, nvmm_place: Place) -> Iterator[VirtualMachine]:
    """A virtual machine on one target, in one mode; see suite.VirtualMachine."""
    assert nvmm_place.mode is not None
    harness = request.config.stash[HARNESS]
    name = case_stem(request.node)
    with VirtualMachine(
        nvmm_place.target, nvmm_place.mode, harness.guests, harness.timeout, name
    ) as one:
        yield one


def _place(item: pytest.Item) -> Place | None:
    callspec = getattr(item, "callspec", None)
    place = callspec.params.get(PLACE) if callspec is not None else None
    return place if isinstance(place, Place) else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A case whose target lacks what it needs is unsupported."""
    place = _place(item)
    if place is not None:
        missing = needs_of(item).missing(place.target)
        if missing:
            pytest.skip(f"{place.target.name} has not: {missing}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Run a case; what it has checked is its verdict, and it has one."""
    harness = _harness(item.config)
    if harness is None or _place(item) is None:
        return (yield)
    made = checks.begin()
    with contextlib.ExitStack() as context:
        if "vm" not in getattr(item, "fixturenames", ()):
            context.enter_context(alarm(harness.timeout))
        reached = context.enter_context(asserted.watching(getattr(item, "obj", None)))
        try:
            result = yield
        finally:
            machine = getattr(item, "funcargs", {}).get("vm")
            if isinstance(machine, VirtualMachine):
                for run in machine.runs:
                    run.count_checks(made)
            if harness.recorder is not None:
                harness.recorder.checked(made)
    made.raise_failed()
    if not made.count and not reached.count:
        raise checks.NoVerdictError("no verdict: it reached no assertion and no check")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Write a record before a case and one after it."""
    harness = _harness(item.config)
    plan = harness.plan.get(item.nodeid) if harness is not None else None
    if harness is None or harness.recorder is None or plan is None:
        return (yield)
    harness.recorder.begin(plan)
    try:
        result = yield
    except BaseException:
        harness.recorder.end(interrupted=True)
        raise
    harness.recorder.end()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Gather verdict and evidence of each phase."""
    report = yield
    harness = _harness(item.config)
    if harness is not None and harness.recorder is not None:
        harness.recorder.phase(item, call, report)
        _judge(harness.recorder, report)
        if report.when == "teardown":
            harness.recorder.end()  # before the controller hears of it, and merges
    return report


def _judge(recorder: CaseRecorder, report: pytest.TestReport) -> None:
    """What is known or only observed is no failure for pytest, and what is fixed is one."""
    ended = recorder.judged_so_far
    if ended is None or report.when != "call":
        return
    if report.failed and ended.verdict in (Verdict.KNOWN, Verdict.OBSERVED):
        report.outcome = "skipped"
        report.wasxfail = f"{ended.verdict.value}: {ended.message}"
    elif report.passed and ended.verdict is Verdict.FIXED:
        report.outcome = "failed"
        report.longrepr = ended.message


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> None:
    """Keep both sides of a comparison that does not hold, for the report."""
    harness = _harness(config)
    if harness is not None and harness.recorder is not None:
        harness.recorder.compare(op, left, right)


# ---- the end -----------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Merge and report, after pytest-xdist has seen its workers off."""
    config = session.config
    harness = _harness(config)
    if harness is None:
        return
    if harness.recorder is not None:
        harness.recorder.close()
    run = harness.session
    if _worker_input(config) is not None:
        vars(config)["workeroutput"][STALE] = harness.stale
        return
    if run is None:
        return
    if not run.plan:
        _remove_empty(run.folder)
        return
    try:
        harness.finished, harness.pages = run.finish()
        if config.getoption("nvmm_write_expectations"):
            folder = config.rootpath / FOLDER
            harness.rewritten = write_expectations(folder, harness.finished)
    except (ExpectationError, ResultsError, ReportError, OSError) as error:
        harness.failure = str(error)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        return
    bad = not all(result.ended.verdict.is_good for result in harness.finished.results)
    bad = bad or bool(harness.stale)
    if bad and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _remove_empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how it ended, per area and target, and where the report is."""
    harness = _harness(config)
    if harness is None:
        return
    if harness.failure:
        terminalreporter.section("nvmmconf", sep="=")
        terminalreporter.line(f"no report: {harness.failure}")
    elif harness.finished is not None and harness.pages is not None:
        terminalreporter.section("nvmmconf", sep="=")
        for line in summary_lines(harness.finished):
            terminalreporter.line(line)
        for path in harness.rewritten:
            terminalreporter.line(f"written: {path}")
        for line in harness.stale:
            terminalreporter.line(f"expectations: {line}")
        for line in harness.pages.left_out:
            terminalreporter.line(f"left out of the report: {line}")
        terminalreporter.line(f"report: {harness.pages.index}")
