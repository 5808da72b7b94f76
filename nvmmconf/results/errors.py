# SPDX-License-Identifier: BSD-2-Clause
"""The one error that reading results can end in."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 200


class ResultsError(Exception):
    """A file of results cannot be used; `str()` is one printable line that says why.

    `path` is the file, `line` the line in it, counted from 1, or None where
    the fault is not in one line.
    """

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        self.path = path
        self.line = line
        self.problem = one_line(problem)
        where = one_line(str(path), longest=None)
        if line is not None:
            where += f":{line}"
        super().__init__(f"{where}: {self.problem}")

    def __reduce__(self) -> tuple[type[ResultsError], tuple[Path, int | None, str]]:
        return type(self), (self.path, self.line, self.problem)


def one_line(text: str, longest: int | None = _LONGEST) -> str:
    """`text` as one line of printable characters, cut at `longest`.

    What is wrong with a foreign file is often quoted from it, and must not
    reach a terminal as escape sequences.
    """
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if longest is not None and len(text) > longest:
        text = text[: longest - 3] + "..."
    return text
