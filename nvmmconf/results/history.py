# SPDX-License-Identifier: BSD-2-Clause
"""The history: what each result of each run came to, in SQLite.

It is an index of the run files: the verdicts of many runs can be had without
reading any evidence.  A run that is there twice is there once; a run file that
changed since is read again.  Verdicts stay when a run's evidence is pruned.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from nvmmconf.results.codec import RecordError, decode, encode
from nvmmconf.results.errors import ResultsError
from nvmmconf.results.files import RUN_FILE, find_runs, load_run, run_lines
from nvmmconf.results.records import Run, RunHeader, Verdict
from nvmmconf.results.summary import Counts, count

HISTORY_FILE = "history.sqlite"
"""Its name, below the reports."""

_VERSION = 1
_APPLICATION = 0x4E564D4D  # "NVMM"
_PATIENCE = 30.0

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, started_at TEXT NOT NULL,
    header BLOB NOT NULL, digest TEXT NOT NULL, folder TEXT NOT NULL, stamp TEXT NOT NULL);
CREATE TABLE cases (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE verdicts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE results (
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    "case" INTEGER NOT NULL REFERENCES cases (id),
    verdict INTEGER NOT NULL REFERENCES verdicts (id),
    seconds REAL NOT NULL, message BLOB, known BLOB,
    PRIMARY KEY (run, "case")) WITHOUT ROWID;
CREATE TABLE counts (
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    target TEXT NOT NULL, verdict INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (run, target, verdict)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Outcome:
    """What a case came to: the end of it without its evidence."""

    verdict: Verdict
    message: str = ""
    known: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class PastRun:
    """A run without its results: header, and counts by target in the header's order.

    `digest` changes whenever anything in the run does; `folder` is where its evidence was.
    """

    header: RunHeader
    digest: str
    counts: Mapping[str, Counts]
    folder: str = ""

    @property
    def total(self) -> Counts:
        """The counts over all targets."""
        return Counts(
            {
                verdict: number
                for verdict in Verdict
                if (number := sum(counts[verdict] for counts in self.counts.values()))
            }
        )


class History:
    """The history in the file `path`; `None` is one in memory.

    Made if it is not there.  Every method raises ResultsError for a file that
    is no history, or that cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path or Path(":memory:")
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(str(self._path), timeout=_PATIENCE, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction():
            ours = self._number("application_id") == _APPLICATION
            if not ours and self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise ResultsError(self._path, None, "a database of something else")
            if not ours:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
                self._db.executemany(
                    "INSERT INTO verdicts (id, name) VALUES (?, ?)",
                    [(number, verdict.value) for number, verdict in enumerate(Verdict)],
                )
            version = self._number("user_version")
            if version != _VERSION:
                raise ResultsError(
                    self._path, None, f"format {version}; this nvmmconf reads {_VERSION}"
                )
        found = self._db.execute("SELECT id, name FROM verdicts")
        self._verdicts = {number: Verdict(name) for number, name in found}
        self._numbers = {verdict: number for number, verdict in self._verdicts.items()}

    def _number(self, pragma: str) -> int:
        return int(self._db.execute(f"PRAGMA {pragma}").fetchone()[0])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, RecordError) as error:
            problem = f"no history of nvmmconf can be used there: {error}"
            raise ResultsError(self._path, None, problem) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def __enter__(self) -> History:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ---- writing -----------------------------------------------------------

    def add(self, run: Run, folder: Path | None = None) -> bool:
        """Note `run`, whose evidence is in `folder`; False where it was there just so."""
        if folder is not None and (folder / RUN_FILE).is_file():
            digest = hashlib.sha256((folder / RUN_FILE).read_bytes()).hexdigest()
        else:
            hashed = hashlib.sha256()
            for line in run_lines(run):
                hashed.update(line)
            digest = hashed.hexdigest()
        name, stamp = (folder.name, _stamp(folder)) if folder is not None else ("", "")
        with self._errors(), self._transaction():
            old = self._db.execute(
                "SELECT digest, folder, stamp FROM runs WHERE run_id = ?",
                (_blob(run.header.run_id),),
            ).fetchone()
            if old == (digest, name, stamp):
                return False
            self._db.execute("DELETE FROM runs WHERE run_id = ?", (_blob(run.header.run_id),))
            self._insert(run, digest, name, stamp)
            return old is None or old[0] != digest

    def _insert(self, run: Run, digest: str, folder: str, stamp: str) -> None:
        header = run.header
        row = self._db.execute(
            "INSERT INTO runs (run_id, started_at, header, digest, folder, stamp)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (_blob(header.run_id), _blob(header.started_at), encode(header), digest, folder, stamp),
        ).lastrowid
        names = [_blob(result.planned.case) for result in run.results]
        self._db.executemany(
            "INSERT OR IGNORE INTO cases (name) VALUES (?)", [(name,) for name in names]
        )
        numbers = dict(self._db.execute("SELECT name, id FROM cases"))
        self._db.executemany(
            'INSERT OR IGNORE INTO results (run, "case", verdict, seconds, message, known)'
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    row,
                    numbers[name],
                    self._numbers[result.ended.verdict],
                    result.ended.seconds,
                    _blob(result.ended.message) or None,
                    _blob(result.planned.known) or None,
                )
                for name, result in zip(names, run.results, strict=True)
            ],
        )
        by_target: dict[str, list[int]] = {target.name: [] for target in header.targets}
        for index, result in enumerate(run.results):
            by_target.setdefault(result.planned.target, []).append(index)
        for target, indices in by_target.items():
            counts = count(run.results[index] for index in indices)
            self._db.executemany(
                "INSERT OR IGNORE INTO counts (run, target, verdict, number) VALUES (?, ?, ?, ?)",
                [(row, _blob(target), self._numbers[v], n) for v, n in counts.of.items()],
            )

    def sync(self, reports: Path, first: Run | None = None) -> list[str]:
        """Note every finished run below `reports`; returns a line for each that cannot be read.

        `first` is one of them, where it is at hand already.
        """
        with self._errors():
            known = dict(self._db.execute("SELECT folder, stamp FROM runs"))
        problems = []
        for folder in find_runs(reports):
            if not (folder / RUN_FILE).exists() or known.get(folder.name) == _stamp(folder):
                continue
            if first is not None and folder.name == first.header.run_id:
                self.add(first, folder)
                continue
            try:
                self.add(load_run(folder), folder)
            except ResultsError as error:
                problems.append(str(error))
        return problems

    def forget(self, run_id: str) -> None:
        """Remove a run's verdicts."""
        with self._errors(), self._transaction():
            self._db.execute("DELETE FROM runs WHERE run_id = ?", (_blob(run_id),))

    # ---- reading -----------------------------------------------------------

    def runs(self) -> tuple[PastRun, ...]:
        """Every run, newest first."""
        with self._errors():
            counted: dict[int, dict[str, dict[Verdict, int]]] = {}
            for row, target, verdict, number in self._db.execute(
                "SELECT run, target, verdict, number FROM counts ORDER BY run, target, verdict"
            ):
                counts = counted.setdefault(row, {}).setdefault(_text(target), {})
                counts[self._verdicts[verdict]] = number
            found = []
            for row, header, digest, folder in self._db.execute(
                "SELECT id, header, digest, folder FROM runs ORDER BY started_at DESC, run_id DESC"
            ):
                record = decode(header)
                if not isinstance(record, RunHeader):
                    raise ResultsError(self._path, None, "a run in it has no header")
                of = counted.get(row, {})
                order = [target.name for target in record.targets]
                order += sorted(name for name in of if name not in order)
                by_target = {name: Counts(of.get(name, {})) for name in order}
                found.append(PastRun(record, digest, by_target, folder))
            return tuple(found)

    def outcomes(self, run_id: str) -> Mapping[str, Outcome]:
        """What each case of a run came to, by its id."""
        with self._errors():
            return {
                _text(name): Outcome(self._verdicts[verdict], _text(message), _text(known), seconds)
                for name, verdict, message, known, seconds in self._db.execute(
                    "SELECT cases.name, verdict, message, known, seconds FROM results"
                    ' JOIN cases ON cases.id = "case" JOIN runs ON runs.id = run'
                    " WHERE run_id = ? ORDER BY cases.id",
                    (_blob(run_id),),
                )
            }

    def verdicts(self, run_ids: Sequence[str]) -> Mapping[str, tuple[tuple[int, Verdict], ...]]:
        """By case id: (position in `run_ids`, verdict) for each of these runs that has it."""
        found: dict[int, list[tuple[int, Verdict]]] = {}
        with self._errors():
            for position, run_id in enumerate(run_ids):
                for case, verdict in self._db.execute(
                    'SELECT "case", verdict FROM results JOIN runs ON runs.id = run'
                    " WHERE run_id = ?",
                    (_blob(run_id),),
                ):
                    found.setdefault(case, []).append((position, self._verdicts[verdict]))
            names = dict(self._db.execute("SELECT id, name FROM cases")) if found else {}
        return {_text(names[case]): tuple(pairs) for case, pairs in found.items()}


def _stamp(folder: Path) -> str:
    try:
        stat = (folder / RUN_FILE).stat()
    except OSError:
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _blob(text: str) -> str | bytes:
    """`text` as SQLite takes it: a lone surrogate, which only a foreign file has, as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(value: str | bytes | None) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogatepass")
    return value or ""
