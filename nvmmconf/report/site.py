# SPDX-License-Identifier: BSD-2-Clause
"""The folder that a report is written to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from nvmmconf.results.atomic import write_atomically

_MANIFEST = ".nvmmconf-report.json"


class ReportError(Exception):
    """The report cannot be written there; `str()` is one line that says why."""


class Site:
    """Files under one folder, of which we know which are ours.

    The files are named first, then each is `put()`, then `finish()` removes
    those of ours from before that were not named this time.  A name is a
    POSIX path relative to the folder.  Every method raises OSError and
    ReportError.
    """

    def __init__(self, out: Path, names: Iterable[str]) -> None:
        self._out = out
        self._names = frozenset(names)
        out.mkdir(parents=True, exist_ok=True)
        # In this order: whoever writes index.html has written the manifest before.
        occupied = (out / "index.html").exists()
        if occupied and not (out / _MANIFEST).exists():
            raise ReportError(f"{out / 'index.html'} is not ours; choose another folder")
        self._before = self._read_manifest()
        # What is about to be written is ours, also if we do not get to the end.
        self._write_manifest(self._before | self._names)

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
            write_atomically(path, data)

    def finish(self) -> None:
        """Remove what is ours and stale, and folders that this leaves empty."""
        root = self._out.resolve()
        for name in sorted(self._before - self._names):
            path = self._inside(name)
            if not path.parent.resolve().is_relative_to(root):
                continue
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._out:
                    break
                with contextlib.suppress(OSError):  # not empty, or gone already
                    folder.rmdir()
        self._write_manifest(self._names)

    def _inside(self, name: str) -> Path:
        return self._out / PurePosixPath(name)

    def _read_manifest(self) -> frozenset[str]:
        """The names that we wrote before; none where the manifest is not as we left it."""
        try:
            found = json.loads((self._out / _MANIFEST).read_bytes())["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()
        if not isinstance(found, list):
            return frozenset()
        return frozenset(name for name in found if isinstance(name, str) and _is_safe(name))

    def _write_manifest(self, names: Iterable[str]) -> None:
        text = json.dumps({"files": sorted(names)}, indent=0)
        write_atomically(self._out / _MANIFEST, text.encode())


def _is_safe(name: str) -> bool:
    """True for a relative path to an HTML file that stays below its start."""
    path = PurePosixPath(name)
    return (
        not path.is_absolute()
        and ".." not in path.parts
        and path.suffix == ".html"
        and "\0" not in name
    )
