# SPDX-License-Identifier: BSD-2-Clause
"""Words and names of the report: what a reader sees of a value."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from nvmmconf.results import Verdict
from nvmmconf.results.changes import Kind

MEANINGS: dict[Verdict, str] = {
    Verdict.PASS: "What is required is what happened.",
    Verdict.OBSERVED: "The kernel is free here; what it does is not what the case would have.",
    Verdict.UNSUPPORTED: "The target says that it lacks what the case needs; nothing was checked.",
    Verdict.KNOWN: "Something required did not happen, as the target's expectations say.",
    Verdict.FIXED: "It was expected to fail and passes; its expectation is to be removed.",
    Verdict.FAIL: "The guest ran, and something that is required did not happen.",
    Verdict.HANG: "The guest did not come to an end; the watchdog stopped it.",
    Verdict.CRASH: "The worker process died in the case.",
    Verdict.ERROR: "The suite itself failed, so nothing is known about the target.",
    Verdict.MISSING: "Planned, but the run ended before it.",
}
"""The legend: each verdict in a sentence."""

STANDINGS: dict[Kind, str] = {
    Kind.EXPECTED: "Nothing to look at.",
    Kind.KNOWN: "The expectations of the target say that it fails, and why.",
    Kind.REGRESSION: "It was as required in the run that is named, and has not been since.",
    Kind.FIXED: "It was not as required in the run that is named, and now it is.",
    Kind.NEVER: "It has not been as required in any earlier run that is looked at.",
    Kind.INTERMITTENT: "It went to and fro in the runs that are looked at, three times or more.",
    Kind.UNEXPECTED: "No earlier run has the case, or it passes where it was expected to fail.",
}
"""How a verdict stands to what was expected and to the ten runs before it."""

# Cc: controls; Cf: what reorders or hides text; Cs: lone surrogates, which no
# encoding writes; Zl, Zp: line ends that do not look like any.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SLUG_LENGTH = 48
_HASH_LENGTH = 10


def _stand_in(char: str) -> str:
    # Not the pictures of U+2400: few fonts have them, and an escape can be searched for.
    return char.encode("unicode_escape").decode("ascii")


def _shown_as_is(char: str, keep: str) -> bool:
    return char in keep or unicodedata.category(char) not in _INVISIBLE


def visible(text: str, keep: str = "") -> str:
    """`text` with every character that shows nothing, or deceives, made visible.

    Those in `keep` stay as they are.  Guests choose what they print, and a
    page that held it raw could hide or reorder what stands beside it.
    """
    if text.isprintable():
        return text
    return "".join(char if _shown_as_is(char, keep) else _stand_in(char) for char in text)


def console(text: str) -> Markup:
    r"""`text` as the content of a `<pre>`; stand-ins are marked as such.

    So a guest that prints `\x1b` is told from one that prints an escape.
    """
    text = text.replace("\r\n", "\n")
    parts = [
        escape(char)
        if _shown_as_is(char, keep="\n\t")
        else Markup('<span class="ctl">{}</span>').format(_stand_in(char))
        for char in text
    ]
    return Markup("").join(parts)


def block(text: str) -> Markup:
    """Text of several lines, such as a traceback, as the content of a `<pre>`."""
    return escape(visible(text, keep="\n\t"))


def breakable(name: str) -> Markup:
    """A case's name, with places where a narrow column may break it."""
    return Markup(re.sub(r"(?<=/)(?=.)|(?<=.)(?=\[)", "<wbr>", str(escape(visible(name)))))


def slug(name: str) -> str:
    """A name for a file or an anchor: readable, safe on every file system, one per `name`."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].rstrip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{words}-{digest}" if words else digest


def quantity(number: int, one: str, many: str | None = None) -> str:
    """`1 case`, `2 cases`, `1,500 cases`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def duration(seconds: float) -> str:
    """A duration with three figures or so, and its unit."""
    if seconds < 0.0005:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s"


def moment(iso: str) -> str:
    """An ISO 8601 time in UTC as people write it; any other text as it is."""
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.\d+)?(?:Z|\+00:00)", iso, re.ASCII
    )
    return f"{match[1]} {match[2]} UTC" if match else iso


def shell_quoted(word: str) -> str:
    """`word` in single quotes, always: a node id has brackets sooner or later."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def rerun_command(nodeid: str, environment: Mapping[str, str], arguments: Sequence[str]) -> str:
    """The shell command that runs the one case again, on the same libnvmm, faults and all."""
    words = [f"{name}={shell_quoted(value)}" for name, value in environment.items()]
    words.append("pytest")
    for position, argument in enumerate(arguments):
        if argument.startswith("--nvmm-lib="):
            words.append(shell_quoted(argument))
        elif argument == "--nvmm-lib" and position + 1 < len(arguments):
            words += [argument, shell_quoted(arguments[position + 1])]
    words.append(shell_quoted(nodeid))
    return " ".join(words)
