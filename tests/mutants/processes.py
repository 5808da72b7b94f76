# SPDX-License-Identifier: BSD-2-Clause
"""Programs that are run with a time limit, and of which nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class StoppedError(Exception):
    """No more programs are to be run."""


class Processes:
    """Runs programs, each with what it starts in a process group of its own; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(
        self, command: Sequence[str], where: Path, env: Mapping[str, str], seconds: float | None
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` in the folder `where`; nothing of its group is left when this returns.

        Raises subprocess.TimeoutExpired after `seconds`, StoppedError after `stop`.
        """
        with self._lock:
            if self._stopped:
                raise StoppedError
            process = subprocess.Popen(
                command,
                cwd=where,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        with process:
            try:
                out, _ = process.communicate(timeout=seconds)
            finally:
                _kill_group(process)
                with self._lock:
                    self._running.discard(process)
        return subprocess.CompletedProcess(command, process.returncode, out, "")

    def stop(self) -> None:
        """Kill what runs, and have nothing more run."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill_group(process)


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
