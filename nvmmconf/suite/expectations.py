# SPDX-License-Identifier: BSD-2-Clause
"""Known deviations: `expectations/<target>.toml`, and the next baseline.

A file is named after a target (`v2-svm.toml`, `nvmm-v2.toml`) or after a version
of NVMM (`v2.toml`), and then holds for every target of that version.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from nvmmconf.results import CaseResult, Run, Verdict
from nvmmconf.results.atomic import write_atomically
from nvmmconf.results.summary import case_name

FOLDER = "expectations"
UNEXPLAINED = "to be explained: "
"""How the reason of an entry begins that nobody has written yet."""

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_ID = re.compile(r"(BH|Q)-[\w-]+")
_HEAD = re.compile(r"(?:^#(?! SPDX)[^\n]*\n)*^[ \t]*\[\[known\]\]", re.MULTILINE)
"""Where an entry begins: with the comment that stands right above it."""


class ExpectationError(Exception):
    """A file of expectations is not as it should be; one line."""


@dataclass(frozen=True)
class Known:
    """One entry: cases that fail on a target, and why."""

    case: str
    """A pattern of case ids without their target; `*` and `?` are all that is special."""
    reason: str
    id: str = ""
    """Of the bug's history, `BH-12`, or a row of quirks, `Q-3`."""
    link: str = ""
    versions: str = ""
    """Versions of NVMM that it holds for, `2` or `1-2`; all where empty."""
    file: str = ""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        special = {"*": ".*", "?": "."}
        return re.compile("".join(special.get(char, re.escape(char)) for char in self.case))

    def matches(self, name: str) -> bool:
        """True for the name of a case (its id without target) that it means."""
        return self._pattern.fullmatch(name) is not None

    @property
    def area(self) -> str:
        """The area of its cases; a pattern, too."""
        return self.case.partition("/")[0]

    @property
    def words(self) -> str:
        """Why, on one line."""
        return " ".join(f"{self.id}: {self.reason}".removeprefix(": ").split())

    def holds_for(self, version: int) -> bool:
        """True for a version of NVMM that it means."""
        if not self.versions:
            return True
        match = _RANGE.fullmatch(self.versions)
        assert match is not None
        return int(match[1]) <= version <= int(match[2] or match[1])


@dataclass(frozen=True)
class Expectations:
    """What is known of one target."""

    entries: tuple[Known, ...] = ()

    def known(self, name: str) -> str:
        """Why the case `name` fails there; empty where it is to pass."""
        return next((entry.words for entry in self.entries if entry.matches(name)), "")

    def stale(self, names: Iterable[str], areas: frozenset[str] | None) -> list[str]:
        """A line for each entry that matches none of `names`.

        Only entries of `areas` are looked at, all of them where None.
        """
        names = list(names)
        return [
            f"{entry.file}: no case matches {entry.case!r}: correct it, or remove the entry"
            for entry in self.entries
            if (areas is None or entry.area in areas)
            and not any(entry.matches(name) for name in names)
        ]


def read_expectations(folder: Path, target: str, version: int) -> Expectations:
    """Return what is known of `target`; nothing where there is no file.

    Raises ExpectationError for a file that is not as it should be.
    """
    entries: list[Known] = []
    for stem in dict.fromkeys((target, f"v{version}")):
        path = folder / f"{stem}.toml"
        if path.exists():
            entries += [entry for entry in _read(path) if entry.holds_for(version)]
    return Expectations(tuple(entries))


def _read(path: Path) -> list[Known]:
    where = f"{path.parent.name}/{path.name}"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExpectationError(f"{where}: {error}") from None
    rows = content.pop("known", [])
    if content or not isinstance(rows, list):
        raise ExpectationError(f"{where}: there is nothing but [[known]] entries: {list(content)}")
    return [_entry(where, number, row) for number, row in enumerate(rows, start=1)]


def _entry(where: str, number: int, row: object) -> Known:
    place = f"{where}: entry {number}"
    allowed = {field.name for field in fields(Known)} - {"file"}
    if not isinstance(row, dict) or not row.keys() <= allowed:
        strange = sorted(row.keys() - allowed) if isinstance(row, dict) else row
        raise ExpectationError(f"{place}: unknown {strange} (known: {', '.join(sorted(allowed))})")
    for name, value in row.items():
        if not isinstance(value, str):
            raise ExpectationError(f"{place}: {name} is no text: {value!r}")
    for name in ("case", "reason"):
        if not row.get(name, "").strip():
            raise ExpectationError(f"{place}: it has no {name}")
    if row.get("id") and not _ID.fullmatch(row["id"]):
        raise ExpectationError(f"{place}: id {row['id']!r} is none of the bug history (BH-12, Q-3)")
    if row.get("versions") and not _RANGE.fullmatch(row["versions"]):
        raise ExpectationError(f"{place}: versions {row['versions']!r} is not like '2' or '1-2'")
    return Known(**row, file=where)


# ---- the next baseline -------------------------------------------------------


def write_expectations(folder: Path, run: Run) -> list[Path]:
    """Make `run` the baseline: returns the files that changed.

    What failed without being known gets an entry in its target's file.  An entry
    whose cases all pass is commented out, one of which some pass is
    replaced by its cases that do not, with its own reason.  All else in the files
    stays as it is written.  Raises ExpectationError and OSError.
    """
    by_target: dict[str, list[CaseResult]] = {}
    for result in run.results:
        by_target.setdefault(result.planned.target, []).append(result)
    versions = {target.name: target.nvmm_version for target in run.header.targets}
    changed: list[Path] = []
    shared: dict[Path, list[CaseResult]] = {}
    for target, results in by_target.items():
        path = folder / f"{target}.toml"
        if _rewrite(path, results, run.header.run_id, add=True):
            changed.append(path)
        shared.setdefault(folder / f"v{versions.get(target, 0)}.toml", []).extend(results)
    for path, results in shared.items():
        if path.exists() and _rewrite(path, results, run.header.run_id, add=False):
            changed.append(path)
    return changed


def _rewrite(path: Path, results: Sequence[CaseResult], run_id: str, *, add: bool) -> bool:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    entries = _read(path) if before else []
    starts = [match.start() for match in _HEAD.finditer(before)]
    if len(starts) != len(entries):
        raise ExpectationError(f"{path}: write each entry under a [[known]] line of its own")
    head = before[: starts[0]] if starts else before
    ends = [*starts[1:], len(before)] if starts else []
    blocks = [before[start:end] for start, end in zip(starts, ends, strict=True)]
    parts = [head if before else "# SPDX-License-Identifier: BSD-2-Clause\n"]
    for entry, block in zip(entries, blocks, strict=True):
        parts.append(_next_block(entry, block, results, run_id))
    if add:
        failed = (Verdict.FAIL, Verdict.HANG, Verdict.CRASH)
        for result in results:
            if result.ended.verdict in failed:
                reason = UNEXPLAINED + (result.ended.message or result.ended.verdict.value)
                parts.append(_block({"case": case_name(result.planned), "reason": reason}))
    after = parts[0]
    for part in parts[1:]:
        # What stays is as it was written; what is new has a line above it.
        new = part not in blocks
        after += f"\n{part}" if new and after and not after.endswith("\n\n") else part
    if after == before or (not before and len(parts) == 1):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, after.encode())
    return True


def _next_block(entry: Known, block: str, results: Sequence[CaseResult], run_id: str) -> str:
    meant = [one for one in results if entry.matches(case_name(one.planned))]
    verdicts = {one.ended.verdict for one in meant}
    if Verdict.FIXED not in verdicts:
        return block
    lines = block.rstrip().splitlines()
    fixed = f"# Fixed, run {run_id}:\n" + "".join(f"# {line}".rstrip() + "\n" for line in lines)
    left = [one for one in meant if one.ended.verdict is not Verdict.FIXED]
    rows = (
        {"case": case_name(one.planned), **_written(entry)}
        for one in {case_name(one.planned): one for one in left}.values()
    )
    return "\n".join([fixed, *map(_block, rows)]) if left else f"{fixed}\n"


def _written(entry: Known) -> Mapping[str, str]:
    values = {name: getattr(entry, name) for name in ("reason", "id", "link", "versions")}
    return {name: value for name, value in values.items() if value}


def _block(row: Mapping[str, str]) -> str:
    # JSON's strings are TOML's.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in row.items()]
    return "[[known]]\n" + "\n".join(lines) + "\n"
