# SPDX-License-Identifier: BSD-2-Clause
"""Where each requirement is checked, read from the sources of cases and tests.

A citation is machine-readable in one of five forms:

- `@requirement("K-HLT-1")` on a case or a Python test;
- a Python test named after it: `test_a_init_3_an_older_version`;
- an id in the docstring or in a comment of a Python test function;
- an id in a comment inside a TEST(...) or ABORTS(...) of a C test program;
- a row of `golden.csv`: measured cases that show the requirement.  It counts
  only where a test replays that file, and where one of the scripts named has no
  step that is listed as one that cannot agree.

What cannot be checked here stands in `reasons.csv`.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nvmmconf.requirements.table import requirements

HERE = Path(__file__).parent
ID = re.compile(r"\b[AKL]-[A-Z]+-\d+[a-z]?\b")
NAMED = re.compile(r"test_([akl])_([a-z]+)_(\d+[a-z]?)(?:_|$)")
C_TEST = re.compile(r"^[ \t]*(?:TEST|ABORTS)\((\w+).*?^\}|^(?:ABORTS)\((\w+)[^;]*?\)$", re.M | re.S)
C_COMMENT = re.compile(r"/\*.*?\*/", re.S)
GOLDEN_FOLDER = Path("tests") / "softnvmm_api" / "golden"


@dataclass(frozen=True)
class Citation:
    """One place where a requirement is checked."""

    id: str
    where: str
    """Path and name of the case or test, or the golden file."""


@dataclass(frozen=True)
class Coverage:
    """What checks what; `errors` is empty where all citations make sense."""

    citations: dict[str, tuple[Citation, ...]]
    reasons: dict[str, str]
    errors: tuple[str, ...]

    def gaps(self, prefix: str = "") -> tuple[str, ...]:
        """Return the ids that nothing checks and no reason excuses."""
        return tuple(
            id_
            for id_ in requirements()
            if id_.startswith(prefix) and id_ not in self.citations and id_ not in self.reasons
        )


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def _marked(node: ast.FunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        called = decorator.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name == "requirement":
            for argument in decorator.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def python_citations(source: Path, name: str) -> Iterator[Citation]:
    """Yield what the test functions of a Python file cite."""
    text = source.read_text(encoding="utf-8")
    comments = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in _functions(ast.parse(text)):
        found = list(_marked(node))
        if named := NAMED.match(node.name):
            found.append(f"{named[1].upper()}-{named[2].upper()}-{named[3]}")
        said = [ast.get_docstring(node) or ""]
        said += [c for line, c in comments if node.lineno <= line <= (node.end_lineno or 0)]
        found += [id_ for part in said for id_ in ID.findall(part)]
        for id_ in dict.fromkeys(found):
            yield Citation(id_, f"{name}::{node.name}")


def c_citations(source: Path, name: str) -> Iterator[Citation]:
    """Yield what the TESTs of a C program cite, each in a comment inside of it."""
    for test in C_TEST.finditer(source.read_text(encoding="utf-8")):
        found = [id_ for comment in C_COMMENT.findall(test[0]) for id_ in ID.findall(comment)]
        for id_ in dict.fromkeys(found):
            yield Citation(id_, f"{name}::{test[1] or test[2]}")


def _replayed(root: Path) -> frozenset[str]:
    """Names of the golden files that a test replays: strings in its FILES."""
    found: set[str] = set()
    for source in sorted((root / GOLDEN_FOLDER.parent).glob("test_golden*.py")):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        if not any(True for _ in _functions(tree)):
            continue
        found.update(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
    return frozenset(found)


@cache
def _kinds(file: Path) -> frozenset[str]:
    """Everything by which golden.csv may name cases of a file."""
    kinds = {"*"}
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            for key in ("cls", "kind"):
                kinds.add(case.get(key, "*"))
            kinds.update(case.get("tags", ()))
            script = case.get("script", "*")
            kinds |= {script, script.rpartition(".")[0]}
    return frozenset(kinds)


@cache
def _listed(root: Path) -> frozenset[tuple[str, str]]:
    """Kernel scripts of which not every step is compared: file, script without mode.

    Not `life`, which is one sequence about everything; golden.csv does not have
    the rows that only its listed steps show.
    """
    file = root / GOLDEN_FOLDER / "kernel-listed.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()[1:] if file.exists() else ()
    steps = [json.loads(row) for row in rows]
    clean: set[tuple[str, str]] = set()
    for name in {step["file"] for step in steps}:
        scripts = {step["script"].partition("#")[0] for step in steps if step["file"] == name}
        clean |= {
            (name, script.rpartition(".")[0])
            for script in _kinds(root / GOLDEN_FOLDER / f"{name}.jsonl.gz") - scripts
        }
    touched = {(step["file"], step["script"].rpartition(".")[0]) for step in steps}
    return frozenset(touched - clean)


def golden_citations(root: Path, errors: list[str]) -> Iterator[Citation]:
    """Yield what golden.csv says, where it is replayed."""
    replayed = _replayed(root)
    with (HERE / "golden.csv").open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            file = root / GOLDEN_FOLDER / f"{row['file']}.jsonl.gz"
            if row["file"] not in replayed or not file.exists():
                continue
            named = set(row["cases"].split())
            missing = named - _kinds(file)
            if named <= {case for name, case in _listed(root) if name == row["file"]}:
                continue
            if missing:
                errors.append(f"golden.csv: {row['id']}: no {' '.join(missing)} in {row['file']}")
            else:
                yield Citation(row["id"], f"golden {row['file']}: {row['cases']}")


def _reasons() -> dict[str, str]:
    with (HERE / "reasons.csv").open(newline="", encoding="utf-8") as rows:
        return {row["id"]: row["reason"] for row in csv.DictReader(rows)}


def coverage(root: Path) -> Coverage:
    """Read the cases and tests under `root`, a checkout of nvmmconf."""
    errors: list[str] = []
    found: list[Citation] = []
    for folder in ("cases", "tests"):
        for source in sorted((root / folder).rglob("test_*.py")):
            found += python_citations(source, str(source.relative_to(root)))
    for source in sorted((root / "tests").rglob("*.c")):
        found += c_citations(source, str(source.relative_to(root)))
    found += golden_citations(root, errors)
    by_id: dict[str, list[Citation]] = {}
    for citation in found:
        if citation.id in requirements():
            by_id.setdefault(citation.id, []).append(citation)
        else:
            errors.append(f"{citation.where}: no requirement {citation.id}")
    reasons = _reasons()
    errors += [f"reasons.csv: no requirement {id_}" for id_ in reasons if id_ not in requirements()]
    errors += [
        f"reasons.csv: {id_} is checked by {by_id[id_][0].where}" for id_ in reasons if id_ in by_id
    ]
    return Coverage({id_: tuple(by_id[id_]) for id_ in by_id}, reasons, tuple(errors))
