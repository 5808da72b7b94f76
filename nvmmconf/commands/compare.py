# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf compare`: what differs between two runs, for a terminal and for CI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nvmmconf.commands.store import Reports, StoreError
from nvmmconf.report.text import listed, quantity, visible
from nvmmconf.results import ResultsError, load_run
from nvmmconf.results.changes import Change, Changed, compare
from nvmmconf.results.history import Outcome

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_STYLES = {Change.REGRESSION: "bold red", Change.FIX: "green"}
_WORDS = {
    Change.REGRESSION: "regression",
    Change.FIX: "fixed",
    Change.NEW: "new",
    Change.GONE: "gone",
    Change.OTHER: "otherwise",
}


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "compare",
        help="what differs between two runs; 1 where there is a regression",
        description="Compare two runs, case by case. Exits with 0 where nothing got worse, 1"
        " where a case that was as required is not, 2 where a run cannot be read.",
    )
    add_arguments(command)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what the command takes, and the act."""
    what = "a run id or the beginning of one, 'latest', 'previous', or a file of results"
    command.add_argument("before", metavar="A", help=what)
    command.add_argument("after", metavar="B", help="the later one, in the same ways")
    command.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports"
    )
    command.set_defaults(act=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    try:
        sides = [_outcomes(arguments.reports, word) for word in (arguments.before, arguments.after)]
    except (StoreError, ResultsError, OSError) as error:
        print(f"nvmmconf: {error}", file=sys.stderr)
        return 2
    (before, old), (after, new) = sides
    # Of an area or a target that B has not nothing is gone.
    ran = set(map(_place, new))
    old = {case: one for case, one in old.items() if _place(case) in ran}
    changes = compare(old, new)
    _print(changes)
    counted = {
        change: len([one for one in changes if one.change is change])
        for change in Change
        if any(one.change is change for one in changes)
    }
    words = [f"{number:,} {_WORDS[change]}" for change, number in counted.items()]
    same = len(new) - len([one for one in changes if one.after is not None])
    print(f"{before} -> {after}: {listed([*words, quantity(same, 'result') + ' as before'])}")
    return 1 if Change.REGRESSION in counted else 0


def _place(case: str) -> tuple[str, str]:
    return case.partition("/")[0], case.rpartition("@")[2]


def _outcomes(reports: Path, word: str) -> tuple[str, Mapping[str, Outcome]]:
    path = Path(word)
    if path.exists():
        run = load_run(path)
        return visible(run.header.run_id), {
            one.planned.case: Outcome(one.ended.verdict, one.ended.message, one.planned.known)
            for one in run.results
        }
    with Reports(reports) as store:
        found = store.find(word)
        return visible(found.header.run_id), store.history.outcomes(found.header.run_id)


def _print(changes: Sequence[Changed]) -> None:
    if not changes:
        return
    # Piped, a row is a line whatever its length.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 500)
    table = Table(box=None, pad_edge=False)
    table.add_column("change", no_wrap=True)
    table.add_column("case", overflow="fold")
    table.add_column("was")
    table.add_column("is")
    table.add_column("message", overflow="fold")
    order = list(Change)
    for one in sorted(changes, key=lambda one: order.index(one.change)):
        message = one.after.message if one.after is not None else ""
        table.add_row(
            _WORDS[one.change],
            escape(visible(one.case)),
            one.before.verdict.value if one.before else "-",
            one.after.verdict.value if one.after else "-",
            escape(visible(message)[:200]),
            style=_STYLES.get(one.change, ""),
        )
    console.print(table)
