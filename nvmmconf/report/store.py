# SPDX-License-Identifier: BSD-2-Clause
"""What a report is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.results import Requirement, Run
from nvmmconf.results.history import History, PastRun
from nvmmconf.results.kills import KillTable


def _always(run: PastRun) -> bool:
    return True


@dataclass(frozen=True)
class Store:
    """The verdicts of all runs, and a way to the evidence of each.

    `load` raises ResultsError; `has` says whether there is anything to load.
    `requirements` is every requirement that there is today, cited or not.
    """

    history: History
    load: Callable[[PastRun], Run]
    has: Callable[[PastRun], bool] = _always
    requirements: tuple[Requirement, ...] = ()
    kills: KillTable | None = None
