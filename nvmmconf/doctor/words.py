# SPDX-License-Identifier: BSD-2-Clause
"""A diagnosis as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from nvmmconf.doctor.findings import Diagnosis, Level

_LEVEL = max(len(level.value) for level in Level)


def lines(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    """A block a finding, its advice below it with arrows; then the conclusion."""
    topic = max((len(one.topic) for one in diagnosis.findings), default=0)
    indent = " " * (_LEVEL + topic + 4)
    for one in diagnosis.findings:
        head = f"{one.level.value:{_LEVEL}}  {one.topic:{topic}}  "
        yield from _wrapped(head, one.text, indent, width)
        for advice in one.advice:
            yield from _wrapped(f"{indent}-> ", advice, f"{indent}   ", width)
    yield ""
    yield from _wrapped("", diagnosis.conclusion, "", width)


def _wrapped(head: str, text: str, indent: str, width: int) -> list[str]:
    # Words stay whole, so that paths and commands can be copied.
    return textwrap.wrap(
        " ".join(text.split()),
        max(width, len(indent) + 20),
        initial_indent=head,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
