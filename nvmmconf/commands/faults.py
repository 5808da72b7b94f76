# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf faults`: does the suite bite?"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from rich.table import Table

from nvmmconf.abi import Libnvmm, LibraryError, SoftKind, choose_library, list_soft, open_library
from nvmmconf.abi.soft import FAULT_VARIABLE
from nvmmconf.results.atomic import write_atomically
from nvmmconf.suite.faultrun import PLUGIN, Fault, FaultResult, FaultRunner

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

SHOWN = 5
"""How many of the cases that are left out are named."""
FOLDER = "faults"
"""Below the reports: a file a run, and `latest.json`."""

FORMAT = 1


class FaultsError(Exception):
    """The suite could not be run, or a fault survived; one line."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "faults",
        help="run the cases once per seeded fault of softnvmm: which case kills which",
        description="Run the cases with one seeded fault of the libnvmm in software on at a"
        " time, up to the first case that does not pass. A fault that no case notices on the"
        " first profile is tried on the others. Exits with 1 where one survives.",
    )
    command.add_argument(
        "--fault", action="append", default=[], metavar="NAME", help="only this; may be repeated"
    )
    command.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME",
        help="only on this profile; may be repeated. Default: ideal, then the others",
    )
    command.add_argument(
        "--complete", action="store_true", help="all cases for each fault, not up to the first"
    )
    command.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="faults at once; default: %(default)s"
    )
    command.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="of a guest; default: 5"
    )
    command.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports"
    )
    command.add_argument(
        "cases", nargs="*", metavar="PATH", help="what to run, as for pytest; default: all cases"
    )
    command.set_defaults(act=_faults)


def _faults(arguments: argparse.Namespace) -> None:
    try:
        library = open_library(choose_library())
    except LibraryError as error:
        raise FaultsError(str(error)) from None
    profiles = _chosen(library, SoftKind.PROFILE, arguments.profile)
    path = arguments.reports / FOLDER / "latest.json"
    likely = _killers(path)
    summaries = {one.name: one.summary for one in list_soft(library, SoftKind.FAULT)}
    faults = [
        Fault(name, summaries[name], likely.get(name, ""))
        for name in _chosen(library, SoftKind.FAULT, arguments.fault)
    ]
    if os.environ.get(FAULT_VARIABLE):
        raise FaultsError(f"{FAULT_VARIABLE} is set already: unset it")
    terminal = sys.stdout.isatty()
    done = 0

    def told(result: FaultResult) -> None:
        nonlocal done
        done += 1
        if terminal:
            print(f"\r{done} of {len(faults)}  {result.fault:<40.40}", end="", flush=True)

    runner = FaultRunner(faults, profiles, max(1, arguments.jobs), arguments.complete, told)
    started = datetime.datetime.now(datetime.UTC)
    _run(runner, arguments)
    seconds = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
    if terminal:
        print("\r" + " " * 60 + "\r", end="")
    if runner.left_out:
        few = ", ".join(runner.left_out[:SHOWN])
        more = len(runner.left_out) - SHOWN
        print(
            "left out, as without a fault they do not end as they are known to:"
            f" {few}{f' and {more} more' if more > 0 else ''}"
        )
    runner.results.sort(key=lambda result: list(summaries).index(result.fault))
    _print(runner.results, arguments.complete)
    written = _write(arguments.reports / FOLDER, runner, started, seconds)
    killed = sum(not result.survived for result in runner.results)
    print(
        f"{killed} of {len(faults)} faults killed ({100 * killed / max(1, len(faults)):.1f} %)"
        f" by {runner.collected} cases in {seconds:.1f} s: {written}"
    )
    if killed < len(faults):
        names = ", ".join(result.fault for result in runner.results if result.survived)
        raise FaultsError(f"survived: {names}")


def _chosen(library: Libnvmm, kind: SoftKind, wanted: Sequence[str]) -> list[str]:
    offered = [entry.name for entry in list_soft(library, kind)]
    if not offered:
        raise FaultsError(f"{library.path} has no seeded faults: use NVMMCONF_LIB=bundled")
    for name in wanted:
        if name not in offered:
            what = kind.name.lower()
            raise FaultsError(f"there is no {what} {name!r} (nvmmconf softnvmm --list-{what}s)")
    return list(dict.fromkeys(wanted)) or offered


def _run(runner: FaultRunner, arguments: argparse.Namespace) -> None:
    words = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    words += ["-o", "addopts=--strict-markers", f"--nvmm-timeout={arguments.timeout:g}"]
    words += [f"--nvmm-profile={name}" for name in runner.profiles]
    try:
        status = pytest.main([*words, *arguments.cases], plugins=[_Named(runner)])
    except pytest.UsageError as error:
        raise FaultsError(str(error)) from None
    if runner.errors:
        raise FaultsError(f"the cases could not be run: {runner.errors[0]}")
    if not runner.collected:
        raise FaultsError(f"no case was found (pytest's exit status {int(status)})")


class _Named:
    """Registers the runner under its name."""

    def __init__(self, runner: FaultRunner) -> None:
        self._runner = runner

    def pytest_configure(self, config: pytest.Config) -> None:
        """Before anything is collected."""
        config.pluginmanager.register(self._runner, PLUGIN)


def _print(results: Sequence[FaultResult], complete: bool) -> None:
    # Piped, a row is a line whatever its length.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 300)
    table = Table(box=None, pad_edge=False)
    table.add_column("fault", no_wrap=True)
    table.add_column("area", no_wrap=True)
    table.add_column("first killed by", overflow="fold")
    table.add_column("s", justify="right")
    for result in results:
        if result.survived:
            table.add_row(result.fault, "-", "SURVIVED", f"{result.seconds:.1f}", style="bold red")
        else:
            first = result.kills[0]
            table.add_row(result.fault, first.area, first.case, f"{result.seconds:.1f}")
    console.print(table)
    areas: dict[str, int] = {}
    for result in results:
        for area in {kill.area for kill in result.kills}:
            areas[area] = areas.get(area, 0) + 1
    matrix = Table("area", box=None, pad_edge=False)
    matrix.add_column("kills" if complete else "kills first", justify="right")
    for area, number in sorted(areas.items(), key=lambda pair: -pair[1]):
        matrix.add_row(area, str(number))
    console.print()
    console.print(matrix)


def _write(folder: Path, runner: FaultRunner, started: datetime.datetime, seconds: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "started_at": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "complete": runner.complete,
        "profiles": list(runner.profiles),
        "cases": runner.collected,
        "areas": list(runner.areas),
        "faults": [dataclasses.asdict(result) for result in runner.results],
    }
    data = json.dumps(content, indent=1).encode() + b"\n"
    path = folder / f"{started:%Y%m%dT%H%M%SZ}.json"
    write_atomically(path, data)
    write_atomically(folder / "latest.json", data)
    return path


def _killers(path: Path) -> dict[str, str]:
    """The case that killed each fault the last time, without its target."""
    try:
        rows = json.loads(path.read_bytes())["faults"]
        killed = {row["fault"]: row["kills"][0]["case"] for row in rows if row["kills"]}
        return {name: case.rpartition("@")[0] for name, case in killed.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
