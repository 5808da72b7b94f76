# SPDX-License-Identifier: BSD-2-Clause
"""The folder that a report is written to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nvmmconf.results.atomic import write_atomically

_MANIFEST = ".nvmmconf-report.json"


class ReportError(Exception):
    """The report cannot be written there; `str()` is one line that says why."""


class Site:
    """Files under one folder, of which we know which are ours.

    Files are named first (here, or with `expect()`), then each is `put()`, then
    `finish()` removes those of ours from before that were not named this time. A
    name is a POSIX path relative to the folder.

    A `mark` stands for all that went into the files below one name, or into one
    file; what was finished under the same mark before can be kept instead.
    Every method raises OSError and ReportError.
    """

    def __init__(self, out: Path, names: Iterable[str] = ()) -> None:
        self._out = out
        self._names = set(names)
        self._marks: dict[str, str] = {}
        out.mkdir(parents=True, exist_ok=True)
        # In this order: whoever writes index.html has written the manifest before.
        occupied = (out / "index.html").exists()
        if occupied and not (out / _MANIFEST).exists():
            raise ReportError(f"{out / 'index.html'} is not ours; choose another folder")
        self._before = _read_manifest(out / _MANIFEST)
        # What is about to be written is ours, also if we do not get to the end,
        # and then no mark holds.
        self._write_manifest(self._before.files | self._names)

    def expect(self, names: Iterable[str]) -> None:
        """Name files that are about to be put."""
        self._names.update(names)
        self._write_manifest(self._before.files | self._names)

    def put(self, name: str, content: str) -> None:
        """Write a file that was named, unless it is there just so."""
        if name not in self._names:
            raise ValueError(f"{name} was not named")
        path = self._inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(self._out.resolve()):
            raise ReportError(f"{path} leads out of {self._out}")
        # Pages hold no surrogates; were there one, it must not stop the report.
        data = content.encode("utf-8", "backslashreplace")
        if not (path.is_file() and path.read_bytes() == data):
            write_atomically(path, data, durable=False)

    def keep(self, name: str, mark: str, *, alike: bool = False) -> bool:
        """Name what is there of the file or folder `name`, if it was finished under `mark`.

        If it was not, `mark` is remembered for the next time. `alike` is content
        with a mark that is the same up to its first colon.
        """
        self._marks[name] = mark
        before = self._before.marks.get(name)
        if not isinstance(before, str):
            return False
        if before != mark and not (alike and before.partition(":")[0] == mark.partition(":")[0]):
            return False
        files = [one for one in self._before.files if one == name or one.startswith(f"{name}/")]
        if not files or not all(self._inside(one).is_file() for one in files):
            return False
        self._marks[name] = before
        self._names.update(files)
        return True

    def finish(self) -> None:
        """Remove what is ours and stale, and folders that this leaves empty."""
        root = self._out.resolve()
        for name in sorted(self._before.files - self._names):
            path = self._inside(name)
            if not path.parent.resolve().is_relative_to(root):
                continue
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._out:
                    break
                with contextlib.suppress(OSError):  # not empty, or gone already
                    folder.rmdir()
        self._write_manifest(self._names, self._marks)

    def _inside(self, name: str) -> Path:
        return self._out / PurePosixPath(name)

    def _write_manifest(self, names: Iterable[str], marks: Mapping[str, str] | None = None) -> None:
        text = json.dumps({"files": sorted(names), "marks": marks or {}}, indent=0)
        write_atomically(self._out / _MANIFEST, text.encode("ascii"), durable=False)


@dataclass(frozen=True)
class _Manifest:
    """The names that we wrote before, and the marks of what was finished."""

    files: frozenset[str] = frozenset()
    marks: Mapping[str, str] = field(default_factory=dict)


def _read_manifest(path: Path) -> _Manifest:
    """The manifest; an empty one where the file is not as we left it."""
    try:
        found = json.loads(path.read_bytes())
        files, marks = found["files"], found.get("marks", {})
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _Manifest()
    if not isinstance(files, list) or not isinstance(marks, dict):
        return _Manifest()
    return _Manifest(
        frozenset(name for name in files if isinstance(name, str) and _is_safe(name)), marks
    )


def _is_safe(name: str) -> bool:
    """True for a relative path to an HTML file that stays below its start."""
    path = PurePosixPath(name)
    return (
        not path.is_absolute()
        and ".." not in path.parts
        and path.suffix == ".html"
        and "\0" not in name
    )
