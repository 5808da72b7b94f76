# SPDX-License-Identifier: BSD-2-Clause
"""Records of a run, their files, and merging them."""

from nvmmconf.results.codec import Record
from nvmmconf.results.errors import ResultsError
from nvmmconf.results.files import RUN_FILE, find_runs, load_run, save_run
from nvmmconf.results.merge import CONTROLLER_FILE, merge_run, worker_file
from nvmmconf.results.records import (
    FORMAT,
    CaseResult,
    Comparison,
    Ended,
    ExitRow,
    GuestRun,
    InsnRow,
    Planned,
    Requirement,
    Run,
    RunHeader,
    Started,
    TargetInfo,
    Verdict,
    judged,
)
from nvmmconf.results.writer import RecordWriter

__all__ = [
    "CONTROLLER_FILE",
    "FORMAT",
    "RUN_FILE",
    "CaseResult",
    "Comparison",
    "Ended",
    "ExitRow",
    "GuestRun",
    "InsnRow",
    "Planned",
    "Record",
    "RecordWriter",
    "Requirement",
    "ResultsError",
    "Run",
    "RunHeader",
    "Started",
    "TargetInfo",
    "Verdict",
    "find_runs",
    "judged",
    "load_run",
    "merge_run",
    "save_run",
    "worker_file",
]
