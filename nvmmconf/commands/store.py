# SPDX-License-Identifier: BSD-2-Clause
"""The kept runs, as commands need them."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import TracebackType

from nvmmconf.results import RUN_FILE, Run, load_run, save_run
from nvmmconf.results.files import RUN_ID
from nvmmconf.results.history import HISTORY_FILE, History, PastRun


class StoreError(Exception):
    """There is no such run, or it cannot be kept; one line."""


class Reports:
    """The runs below a folder of reports, and their history, which is brought up to date.

    A run that cannot be read is told on the standard error and left out.
    Raises StoreError where there is no such folder, unless `make` is true.
    """

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        if not make and not folder.is_dir():
            raise StoreError(f"{folder}: no run there; run the cases: pytest -n auto")
        self._folder = folder
        self.history = History(folder / HISTORY_FILE)
        try:
            for problem in self.history.sync(folder):
                print(f"nvmmconf: left out: {problem}", file=sys.stderr)
        except BaseException:
            self.history.close()
            raise

    def __enter__(self) -> Reports:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.history.close()

    def runs(self) -> tuple[PastRun, ...]:
        """Every run, newest first.  Raises StoreError where there is none."""
        found = self.history.runs()
        if not found:
            raise StoreError(f"{self._folder}: no run there; run the cases: pytest -n auto")
        return found

    def find(self, word: str) -> PastRun:
        """The run that `word` names: its id or the beginning of it, `latest`, `previous`.

        Raises StoreError.
        """
        runs = self.runs()
        if word in ("latest", "previous"):
            position = 0 if word == "latest" else 1
            if position >= len(runs):
                raise StoreError(f"there is no previous run: only {runs[0].header.run_id}")
            return runs[position]
        found = [run for run in runs if run.header.run_id.startswith(word)]
        exact = [run for run in found if run.header.run_id == word]
        if len(exact or found) != 1:
            what = f"{len(found)} runs begin with" if found else "there is no run"
            raise StoreError(f"{what} {word!r}; nvmmconf results list names them")
        return (exact or found)[0]

    def evidence(self, run: PastRun) -> Path | None:
        """The folder with the run's records; None where they were pruned."""
        folder = self._folder / "runs" / (run.folder or run.header.run_id)
        return folder if (folder / RUN_FILE).is_file() else None

    def load(self, run: PastRun) -> Run:
        """The whole run.  Raises StoreError where its records were pruned, ResultsError."""
        folder = self.evidence(run)
        if folder is None:
            raise StoreError(f"{run.header.run_id}: its records were pruned; its verdicts are kept")
        return load_run(folder)

    def take(self, path: Path) -> tuple[Run, bool]:
        """Keep the run in the file or folder `path`; False where it is here already.

        Raises StoreError for a run that cannot be one of ours, and where another run has
        its id; ResultsError for a file that cannot be read whole. Then nothing is kept.
        """
        run = load_run(path)
        run_id = run.header.run_id
        if not re.fullmatch(RUN_ID, run_id):
            raise StoreError(f"{path}: {run_id[:80]!r} is no id of a run")
        folder = self._folder / "runs" / run_id
        if (folder / RUN_FILE).exists():
            if load_run(folder) == run:
                return run, False
            raise StoreError(f"{path}: there is another run {run_id} already")
        save_run(run, folder)
        self.history.add(run, folder)
        return run, True

    def prune(self, keep: int, *, forget: bool) -> list[PastRun]:
        """Remove the records of all but the newest `keep` runs; `forget` their verdicts, too."""
        gone = []
        for run in self.history.runs()[keep:]:
            folder = self.evidence(run)
            if folder is None and not forget:
                continue
            if folder is not None:
                shutil.rmtree(folder)
            if forget:
                self.history.forget(run.header.run_id)
            gone.append(run)
        return gone
