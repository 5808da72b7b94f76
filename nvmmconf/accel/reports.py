# SPDX-License-Identifier: BSD-2-Clause
"""Telling the user of a failure once, however often it is met."""

from __future__ import annotations

import logging

log = logging.getLogger("nvmmconf.accel")

MOST = 1000
"""Different messages that are remembered; a guest can make up any number of them."""


class Reports:
    """Each message is logged the first time, and counted.

    What fails before one entry mostly fails before each: the loop would fill
    any log with it.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def error(self, message: str) -> None:
        """A failure: the call, its arguments and the errno's name."""
        self._report(logging.ERROR, message)

    def warning(self, message: str) -> None:
        """Something unexpected that the guest goes on after."""
        self._report(logging.WARNING, message)

    def _report(self, level: int, message: str) -> None:
        times = self.counts.get(message, 0)
        if times or len(self.counts) < MOST:
            self.counts[message] = times + 1
        if not times:
            log.log(level, "NVMM: %s", message)
