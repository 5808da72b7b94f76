# SPDX-License-Identifier: BSD-2-Clause
"""The `nvmmconf` command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nvmmconf.abi import (
    LibraryChoice,
    LibraryError,
    SoftKind,
    bundled_path,
    include_path,
    list_soft,
    open_library,
)
from nvmmconf.commands import boot, cases, compare, doctor, faults, results
from nvmmconf.commands.cases import CasesError
from nvmmconf.commands.faults import FaultsError
from nvmmconf.commands.store import StoreError
from nvmmconf.report import ReportError
from nvmmconf.requirements import coverage, requirements
from nvmmconf.results import CONTROLLER_FILE, RUN_FILE, ResultsError, merge_run, save_run
from nvmmconf.suite.catalogue import CatalogueError
from nvmmconf.suite.expectations import ExpectationError
from nvmmconf.suite.session import is_running, report
from nvmmconf.suite.target import TargetError


class CliError(Exception):
    """Bad input; each argument is one line."""

    def __str__(self) -> str:
        return "\nnvmmconf: ".join(map(str, self.args))


def _report(arguments: argparse.Namespace) -> None:
    reports: Path = arguments.reports
    left_out: list[str] = []
    for controller in sorted((reports / "runs").glob(f"*/{CONTROLLER_FILE}")):
        folder = controller.parent
        if (folder / RUN_FILE).exists():
            continue
        if is_running(folder):
            print(f"run {folder.name} is still going on: left alone")
            continue
        try:
            save_run(merge_run(folder), folder)
        except ResultsError as error:
            left_out.append(str(error))
        else:
            print(f"merged the interrupted run {folder.name}")
    if not list((reports / "runs").glob(f"*/{RUN_FILE}")):
        raise CliError(*left_out or [f"{reports}: no run there; run the cases: pytest -n auto"])
    pages = report(reports)
    print(pages.index)
    if left_out or pages.left_out:
        raise CliError(*(f"left out: {line}" for line in (*left_out, *pages.left_out)))


def _requirements(arguments: argparse.Namespace) -> None:
    root: Path = arguments.root
    if not (root / "cases").is_dir() or not (root / "tests").is_dir():
        raise CliError(f"{root}: no checkout of nvmmconf (cases/ and tests/)")
    found = coverage(root)
    table = Table("id", "checked by, or why not", box=None, pad_edge=False)
    for id_ in requirements():
        citations = found.citations.get(id_, ())
        if citations:
            more = f" (+{len(citations) - 1})" if len(citations) > 1 else ""
            table.add_row(id_, citations[0].where + more)
        else:
            reason = found.reasons.get(id_)
            table.add_row(id_, f"not here: {reason}" if reason else "NOTHING CHECKS THIS")
    # Piped, a row is a line whatever its length.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 400)
    console.print(table)
    for prefix, what in (("A-", "accelerator"), ("K-", "kernel"), ("L-", "libnvmm")):
        ids = [id_ for id_ in requirements() if id_.startswith(prefix)]
        checked = sum(id_ in found.citations for id_ in ids)
        excused = sum(id_ in found.reasons for id_ in ids)
        print(
            f"{what}: {checked} of {len(ids)} checked ({100 * checked / len(ids):.1f} %),"
            f" {excused} with a reason, {len(found.gaps(prefix))} neither"
        )
    if found.errors:
        raise CliError(*found.errors)


def _build_flags(cflags: bool, libs: bool) -> str:
    """Flags for a C compiler, quoted for a shell."""
    flags: list[str] = []
    if cflags:
        flags.append(f"-I{include_path()}")
    if libs:
        folder = bundled_path().parent
        flags += [f"-L{folder}", "-lnvmm", f"-Wl,-rpath,{folder}"]
    return shlex.join(flags)


def _softnvmm(arguments: argparse.Namespace) -> None:
    if arguments.cflags or arguments.libs:
        print(_build_flags(arguments.cflags, arguments.libs))
        return
    if arguments.kind is None:
        arguments.usage("one of --list-..., --cflags, --libs is needed")
    library = open_library(LibraryChoice(str(bundled_path()), "the bundled one"))
    entries = list_soft(library, arguments.kind)
    if not sys.stdout.isatty():  # for a pipe: a line each
        print("".join(f"{entry.name}\t{entry.summary}\n" for entry in entries), end="")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for entry in entries:
        table.add_row(entry.name, entry.summary)
    Console(highlight=False).print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nvmmconf",
        description="Conformance suite for NVMM. The cases are run by pytest: pytest -n auto",
    )
    parser.add_argument("--version", action="version", version=metadata.version("nvmmconf"))
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    doctor.add_to(commands)
    boot.add_to(commands)
    cases.add_to(commands)
    faults.add_to(commands)
    compare.add_to(commands)
    results.add_to(commands)

    command = commands.add_parser(
        "report",
        help="write the HTML report again, from the runs under reports/",
        description="Write the HTML report from the runs that are there; a run that was"
        " interrupted is merged first. Prints the path of its first page.",
    )
    command.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports"
    )
    command.set_defaults(act=_report)

    command = commands.add_parser(
        "requirements",
        help="every requirement and where it is checked",
        description="List every requirement: the first case, test or measured script that"
        " checks it and how many more, or why it cannot be checked here. Fails where an"
        " id is cited that does not exist.",
    )
    command.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="a checkout; default: here"
    )
    command.set_defaults(act=_requirements)

    command = commands.add_parser(
        "softnvmm",
        help="what the bundled libnvmm in software offers",
        description="List what the bundled libnvmm in software offers. NVMM_SOFT_PROFILE"
        " chooses a profile, NVMM_SOFT_FAULT=name[,name] switches faults on.",
    )
    command.add_argument(
        "--cflags", action="store_true", help="compiler flags for a client, quoted for a shell"
    )
    command.add_argument(
        "--libs", action="store_true", help="linker flags for a client, quoted for a shell"
    )
    kinds = command.add_mutually_exclusive_group()
    for kind in SoftKind:
        kinds.add_argument(
            f"--list-{kind.name.lower()}s",
            dest="kind",
            action="store_const",
            const=kind,
            help=f"list its {kind.name.lower()}s",
        )
    command.set_defaults(act=_softnvmm, usage=command.error)
    return parser


def _have_streams() -> None:
    """Python has None for a stream that was closed before it began (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status: its own, 1 for an error, 2 for usage."""
    _have_streams()
    arguments = _parser().parse_args(argv)
    act: Callable[[argparse.Namespace], int | None] = arguments.act
    try:
        return act(arguments) or 0
    except (
        CasesError,
        CatalogueError,
        CliError,
        ExpectationError,
        FaultsError,
        LibraryError,
        ReportError,
        ResultsError,
        StoreError,
        TargetError,
        OSError,
    ) as error:
        print(f"nvmmconf: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
