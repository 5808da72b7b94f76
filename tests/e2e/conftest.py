# SPDX-License-Identifier: BSD-2-Clause
"""Projects to run pytest in; what several tests look at is run once."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .project import Finished, Project

Once = Callable[[str, Callable[[Path], Finished]], Finished]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project, in a path with a space."""
    return Project.make(tmp_path / "a project")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Call a function once in this session, however many workers ask for what it returns.

    The function gets a folder that is not there yet.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def call(name: str, make: Callable[[Path], Finished]) -> Finished:
        made = shared / f"{name}.json"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                done = make(shared / f"once {name}")
                made.write_text(json.dumps(dataclasses.asdict(done), default=str))
        fields = json.loads(made.read_text())
        return Finished(**fields | {"reports": Path(fields["reports"])})

    return call
