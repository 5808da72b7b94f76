# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf results`: the runs that are kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nvmmconf.commands import compare
from nvmmconf.commands.store import Reports, StoreError
from nvmmconf.report.export import junit, tap
from nvmmconf.report.past import past_of, window
from nvmmconf.report.text import moment, quantity, visible
from nvmmconf.results import Run
from nvmmconf.results.atomic import write_atomically
from nvmmconf.results.files import run_lines
from nvmmconf.results.summary import Counts

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_FORMATS: dict[str, Callable[[Run], bytes]] = {
    "jsonl": lambda run: b"".join(run_lines(run)),
    "junit": junit,
    "tap": lambda run: tap(run).encode("utf-8"),
}


def add_to(commands: Commands) -> None:
    """Add the command and its own."""
    command = commands.add_parser(
        "results",
        help="the kept runs: list, show, import, export, compare, prune",
        description="The runs that are kept below the reports. A run is named by its id, by"
        " the beginning of it, or as 'latest' or 'previous'.",
    )
    own = command.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = _add(own, "list", "every run, newest first", _list)
    one = _add(own, "show", "a run: what ran, counts, and what is not as expected", _show)
    one.add_argument("run", nargs="?", default="latest", metavar="RUN", help="default: latest")
    one = _add(own, "import", "keep runs of another host; a run twice is one run", _import)
    one.add_argument("files", nargs="+", type=Path, metavar="FILE", help="run.jsonl, or its folder")
    one = _add(own, "export", "a run as one file", _export)
    one.add_argument("run", nargs="?", default="latest", metavar="RUN", help="default: latest")
    one.add_argument("--format", choices=_FORMATS, default="jsonl", help="default: jsonl")
    one.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    one = own.add_parser("compare", help="as `nvmmconf compare`")
    compare.add_arguments(one)
    one = _add(own, "prune", "remove the records of old runs; their verdicts stay", _prune)
    one.add_argument("--keep", type=int, required=True, metavar="N", help="newest runs to keep")
    one.add_argument("--forget", action="store_true", help="remove their verdicts, too")


def _add(
    commands: Commands, name: str, words: str, act: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words)
    command.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports"
    )
    command.set_defaults(act=act)
    return command


def _list(arguments: argparse.Namespace) -> None:
    with Reports(arguments.reports) as store:
        rows = [
            (
                visible(run.header.run_id),
                visible(moment(run.header.started_at)),
                visible(",".join(run.counts)),
                visible(",".join(run.header.faults)) or "-",
                "yes" if store.evidence(run) else "pruned",
                _words(run.total),
            )
            for run in store.runs()
        ]
    if not sys.stdout.isatty():
        print("".join("\t".join(row) + "\n" for row in rows), end="")
        return
    table = Table("run", "started", "targets", "faults", "records", "results", box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def _words(counts: Counts) -> str:
    return ", ".join(f"{number} {verdict.value}" for verdict, number in counts.of.items()) or "-"


def _show(arguments: argparse.Namespace) -> None:
    # Piped, a row is a line whatever its length.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 500)
    with Reports(arguments.reports) as store:
        past = store.find(arguments.run)
        run = store.load(past) if store.evidence(past) else None
        beside = past_of(run, window(past, store.runs()), store.history) if run else None
        outcomes = store.history.outcomes(past.header.run_id)
    header = past.header
    print(f"run {visible(header.run_id)}, {visible(moment(header.started_at))}")
    print(f"nvmmconf {visible(header.suite_version)}, revision {visible(header.suite_revision)}")
    print(f"{visible(header.library)} ({visible(header.library_reason)})")
    if header.faults:
        print(f"SEEDED FAULTS ON: {visible(', '.join(header.faults))}")
    for target, counts in past.counts.items():
        print(f"{visible(target)}: {_words(counts)}")
    rows = [(case, one) for case, one in outcomes.items() if not one.verdict.is_good]
    if not rows:
        return
    table = Table("case", "verdict", "beside earlier runs", "message", box=None, pad_edge=False)
    for case, one in rows:
        standing = beside.standings.get(case) if beside else None
        table.add_row(
            escape(visible(case)),
            one.verdict.value,
            escape(visible(standing.words)) if standing else "",
            escape(visible(one.message)[:200]),
        )
    print()
    console.print(table)


def _import(arguments: argparse.Namespace) -> None:
    for path in arguments.files:
        if not path.exists():
            raise StoreError(f"{path}: no such file")
    with Reports(arguments.reports, make=True) as store:
        for path in arguments.files:
            run, new = store.take(path)
            words = "imported" if new else "is here already"
            print(f"run {run.header.run_id} {words}: {quantity(len(run.results), 'result')}")


def _export(arguments: argparse.Namespace) -> None:
    with Reports(arguments.reports) as store:
        data = _FORMATS[arguments.format](store.load(store.find(arguments.run)))
    if arguments.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    else:
        write_atomically(arguments.output, data)


def _prune(arguments: argparse.Namespace) -> None:
    if arguments.keep < 0:
        raise StoreError("--keep: a number of runs, 0 or more")
    with Reports(arguments.reports) as store:
        for run in store.prune(arguments.keep, forget=arguments.forget):
            print(
                f"removed {'all of' if arguments.forget else 'the records of'} {run.header.run_id}"
            )
