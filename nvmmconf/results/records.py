# SPDX-License-Identifier: BSD-2-Clause
"""What a run leaves behind, as data.

A run is one header and, per case, a `Planned`, a `Started` and an `Ended`
record.  They are frozen dataclasses that hold only text, numbers and other
records, so that a run file can be read on a machine that has neither guests
nor a libnvmm: the report is a pure function of what is here.

`Started` is written before the guest runs and `Ended` after, so that a host
that goes down in between names the case that was in flight.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FORMAT = 2
"""Version of the record format; a reader refuses any other."""


class Verdict(enum.Enum):
    """How a case ended, in the fixed order of severity (see `severity`)."""

    PASS = "pass"
    """What was required is what happened."""
    OBSERVED = "observed"
    """The kernel is free here, and does not do what the case would have it do."""
    UNSUPPORTED = "unsupported"
    """The target says that it lacks a capability the case needs; nothing was checked."""
    KNOWN = "known"
    """Something required did not happen, as the expectations of this target say."""
    FIXED = "fixed"
    """What the expectations say to fail was as required: the entry is to be removed."""
    FAIL = "fail"
    """The guest ran, and something required did not happen."""
    HANG = "hang"
    """The watchdog stopped the guest."""
    CRASH = "crash"
    """The worker process died in the case."""
    ERROR = "error"
    """The harness itself failed; nothing is known about the target."""
    MISSING = "missing"
    """Planned, and no record of its end: the run ended before it."""

    @property
    def severity(self) -> int:
        """Position in the order above; a group shows its most severe verdict."""
        return list(Verdict).index(self)

    @property
    def is_good(self) -> bool:
        """True where the run may still exit with status 0."""
        return self in (Verdict.PASS, Verdict.OBSERVED, Verdict.UNSUPPORTED, Verdict.KNOWN)


@dataclass(frozen=True)
class Requirement:
    """One row of a requirement table: what is promised, in a sentence."""

    id: str
    text: str
    area: str
    source: str


@dataclass(frozen=True)
class TargetInfo:
    """One NVMM that cases ran against, as its capability describes it.

    `name` is what follows the `@` in a case id (`v2-svm`); `nvmm_version` is
    capability.version; `capability` has every other field in words, in order.
    """

    name: str
    nvmm_version: int
    capability: Mapping[str, str]


@dataclass(frozen=True)
class RunHeader:
    """What ran, on what, how.

    `run_id` is the run's folder name; `started_at` ISO 8601 in UTC;
    `library` the path of the libnvmm and `library_reason` why that one;
    `faults` the seeded faults that were on; `requirements` every requirement
    that a planned case cites.
    """

    run_id: str
    started_at: str
    suite_version: str
    suite_revision: str
    library: str
    library_reason: str
    targets: tuple[TargetInfo, ...]
    host: Mapping[str, str]
    arguments: tuple[str, ...]
    workers: int
    faults: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that chose library, target or faults, for the rerun command."""
    requirements: tuple[Requirement, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True)
class Planned:
    """A case that was selected to run."""

    case: str
    """Stable id: `area/name[params]@target`."""
    target: str
    area: str
    title: str
    """First paragraph of the case's docstring: the requirement, in the case's words."""
    requirements: tuple[str, ...]
    nodeid: str
    """pytest's node id, for the rerun command."""
    level: str = "must"
    """`must`, `should` or `info`: how strictly the requirement binds."""
    known: str = ""
    """Why the case is expected to fail on this target; empty where it is not."""


@dataclass(frozen=True)
class Started:
    """Written just before a case's first guest instruction."""

    case: str
    worker: str
    at: str


@dataclass(frozen=True)
class Comparison:
    """One comparison of a case that did not hold."""

    expression: str
    """Source text of the assertion."""
    operator: str
    observed: str
    expected: str


@dataclass(frozen=True)
class ExitRow:
    """One exit of a guest's run.

    `sequence` counts from 1; `rip` is RIP when the exit was taken, in the form
    `0x1003 <after_hlt>` where a symbol is known; `detail` is the payload in words.
    """

    sequence: int
    reason: str
    rip: str
    detail: str


@dataclass(frozen=True)
class InsnRow:
    """One disassembled instruction; `label` is a symbol that stands on it."""

    address: int
    encoding: str
    """Hex bytes."""
    text: str
    label: str = ""


@dataclass(frozen=True)
class GuestRun:
    """One boot of one guest: everything that is known about what it did.

    `rip` is the final RIP, an address in `listing`, or None where the run
    never got that far; `registers` are the final ones, name to hex text;
    `dropped` counts exits older than those kept in `trace`.
    """

    guest: str
    mode: str
    outcome: str
    """`HALTED`, `EXITED(0)`, `RESET`, ..., in the words of accel.Stop."""
    rip: int | None
    console: str
    registers: Mapping[str, str]
    trace: tuple[ExitRow, ...]
    dropped: int
    listing: tuple[InsnRow, ...]
    note: str = ""
    """What the libnvmm itself could not do for the guest; mostly empty."""


@dataclass(frozen=True)
class Ended:
    """The end of a case."""

    case: str
    worker: str
    verdict: Verdict
    seconds: float
    message: str = ""
    """Empty for a pass; else one line that says what went wrong."""
    details: str = ""
    """The traceback or assertion as pytest shows it, for a fail or an error."""
    comparisons: tuple[Comparison, ...] = ()
    runs: tuple[GuestRun, ...] = ()


def judged(planned: Planned, ended: Ended) -> Ended:
    """Return `ended` as the level and the expectation of its case have it.

    A failure is an observation at level info, and known where it is expected; a
    pass that was expected to fail is `fixed`.  What says nothing of the target stays.
    """
    verdict, message = ended.verdict, ended.message
    if planned.known and verdict in (Verdict.FAIL, Verdict.HANG, Verdict.CRASH):
        verdict = Verdict.KNOWN
    elif planned.known and verdict is Verdict.PASS:
        verdict = Verdict.FIXED
        message = f"it passes: remove its entry from the expectations ({planned.known})"
    elif planned.level == "info" and verdict is Verdict.FAIL:
        verdict = Verdict.OBSERVED
    else:
        return ended
    return replace(ended, verdict=verdict, message=message)


@dataclass(frozen=True)
class CaseResult:
    """A case of a finished run: its plan and how it ended.

    Every planned case has exactly one: one whose worker died is a CRASH, one
    without any record a MISSING.
    """

    planned: Planned
    ended: Ended

    @property
    def expectation(self) -> str:
        """How the end compares with what was expected, in words."""
        match self.ended.verdict:
            case Verdict.KNOWN:
                return f"known ({self.planned.known})"
            case Verdict.FIXED:
                return f"unexpected pass ({self.planned.known})"
        return "as expected" if self.ended.verdict.is_good else "not as expected"


@dataclass(frozen=True)
class Run:
    """A whole run, merged: the header and one result per planned case, in plan order."""

    header: RunHeader
    results: tuple[CaseResult, ...] = field(default=())
