# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf list` and `nvmmconf show`: the cases, without running any."""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from nvmmconf.abi import SoftKind, choose_library, list_soft, open_library
from nvmmconf.guest import GuestError, GuestLibrary, disassemble
from nvmmconf.requirements import requirement_row
from nvmmconf.results import RUN_FILE, Verdict, find_runs
from nvmmconf.suite.catalogue import Catalogue, CatalogueCase, catalogue
from nvmmconf.suite.expectations import FOLDER, read_expectations
from nvmmconf.suite.target import find_targets

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class CasesError(Exception):
    """There is no such case; one line."""


def add_to(commands: Commands) -> None:
    """Add the commands."""
    command = commands.add_parser(
        "list",
        help="the cases: id, level, area, requirements",
        description="List the cases without running them; a pipe gets a line each, tab-separated.",
    )
    command.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="ids: 'pio/*', or a part of one"
    )
    command.set_defaults(act=_list)
    command = commands.add_parser(
        "show",
        help="one case: requirement, guest, disassembly, expectations, where it failed",
        description="Show a case without running it.",
    )
    command.add_argument("case", metavar="CASE", help="its id, with or without the target")
    command.add_argument(
        "--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: reports"
    )
    command.set_defaults(act=_show)


def _catalogue() -> Catalogue:
    library = open_library(choose_library())
    # The cases are the same on all of them.
    return catalogue([entry.name for entry in list_soft(library, SoftKind.PROFILE)][:1])


def _list(arguments: argparse.Namespace) -> None:
    cases = list(_matching(_catalogue(), arguments.pattern))
    if not cases:
        raise CasesError(f"no case matches {arguments.pattern!r}")
    rows = [
        (one.name, one.plan.level, one.plan.area, " ".join(one.plan.requirements)) for one in cases
    ]
    if not sys.stdout.isatty():
        print("".join("\t".join(row) + "\n" for row in rows), end="")
        return
    table = Table("case", "level", "area", "requirements", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)
    print(f"{len(rows)} cases on each target")


def _matching(found: Catalogue, pattern: str) -> Iterator[CatalogueCase]:
    special = pattern.replace("[", "[[]")  # brackets are those of an id
    for name, case in found.cases.items():
        if fnmatch.fnmatchcase(name, special) or pattern in name:
            yield case


def _show(arguments: argparse.Namespace) -> None:
    found = _catalogue()
    name = arguments.case if arguments.case in found.cases else arguments.case.rpartition("@")[0]
    case = found.cases.get(name) or _only(found, arguments.case)
    for line in _lines(found, case, arguments.reports):
        print(line)


def _only(found: Catalogue, words: str) -> CatalogueCase:
    matching = list(_matching(found, words))
    stems = {case.name.partition("[")[0] for case in matching}
    if len(matching) == 1 or len(stems) == 1:
        return matching[0]
    if matching:
        some = ", ".join(case.name for case in matching[:5])
        raise CasesError(f"{len(matching)} cases match {words!r}: {some}, ...")
    near = difflib.get_close_matches(words, found.cases, n=3, cutoff=0.4)
    raise CasesError(f"there is no case {words!r}" + (f"; near: {', '.join(near)}" if near else ""))


def _lines(found: Catalogue, case: CatalogueCase, reports: Path) -> Iterator[str]:
    plan = case.plan
    yield f"{case.name}    {plan.level.upper()}"
    yield ""
    yield from textwrap.indent(case.docstring or plan.title, "  ").splitlines()
    yield ""
    yield "Requirements"
    for identifier in plan.requirements:
        row = requirement_row(identifier)
        yield from textwrap.wrap(
            f"{row.id}: {row.text} ({row.source})",
            96,
            initial_indent="  ",
            subsequent_indent="      ",
        )
    yield ""
    yield f"{case.file.relative_to(found.root)}:{case.line}"
    yield from textwrap.indent(textwrap.dedent(case.source), "  ").splitlines()
    for guest in case.guests:
        yield from _guest(found, case, guest)
    yield ""
    yield "Expectations"
    yield from _expectations(found, case) or ["  to pass on every target"]
    yield ""
    yield "Last seen not as required"
    yield f"  {_last_failure(reports, case.name) or 'in no run that is kept here'}"


def _guest(found: Catalogue, case: CatalogueCase, name: str) -> Iterator[str]:
    library = GuestLibrary(found.root / "guests", found.root / "build" / "guests")
    yield ""
    try:
        source = library.source(name)
        yield f"guests/{name}.S"
        yield from textwrap.indent(source.text, "  ").splitlines()
        if case.mode is None:
            return
        image = library.image(name, case.mode)
    except GuestError as error:  # it has parameters, which only the case knows
        yield f"  not disassembled: {error}"
        return
    yield ""
    yield f"guests/{name}.S in {case.mode.value}"
    for row in disassemble(image):
        if row.label:
            yield f"  {row.label}:"
        yield f"    {row.address:#8x}  {row.encoding.hex(' '):<24}  {row.text}"


def _expectations(found: Catalogue, case: CatalogueCase) -> list[str]:
    lines = []
    for target in find_targets(open_library(choose_library())):
        expected = read_expectations(found.root / FOLDER, target.name, target.capability.version)
        if reason := expected.known(case.name):
            lines.append(f"  {target.name}: known ({reason})")
    return lines


def _last_failure(reports: Path, name: str) -> str:
    """The newest run in which the case was not good on a target, in words."""
    needle = json.dumps(f"{name}@")[:-1].encode()
    for folder in find_runs(reports):
        path = folder / RUN_FILE
        if not path.exists():
            continue
        for line in path.read_bytes().splitlines():
            if not line.startswith(b'{"record":"ended"') or needle not in line[:400]:
                continue
            record = json.loads(line)
            verdict = Verdict(record["verdict"])
            if not verdict.is_good:
                where = record["case"].rpartition("@")[2]
                return f"{folder.name}: {verdict.value} on {where}: {record['message']}"
    return ""
