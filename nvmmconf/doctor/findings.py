# SPDX-License-Identifier: BSD-2-Clause
"""What was found, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    """What a finding means for a run."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; the suite runs."""
    PROBLEM = "PROBLEM"
    """The suite cannot run before it is mended."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `advice` is what to do, a line each."""

    topic: str
    level: Level
    text: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and a sentence on what the suite would run on."""

    findings: tuple[Finding, ...]
    conclusion: str

    @property
    def can_run(self) -> bool:
        """True where nothing is in the way."""
        return all(one.level is not Level.PROBLEM for one in self.findings)


def ok(topic: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(topic, Level.OK, text)


def note(topic: str, text: str, *advice: str) -> Finding:
    """Worth knowing."""
    return Finding(topic, Level.NOTE, text, advice)


def problem(topic: str, text: str, *advice: str) -> Finding:
    """In the way of a run."""
    return Finding(topic, Level.PROBLEM, text, advice)
