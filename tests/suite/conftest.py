# SPDX-License-Identifier: BSD-2-Clause
"""The bundled libnvmm, its targets, and the project's own guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvmmconf.abi import Libnvmm, LibraryChoice, bundled_path, open_library
from nvmmconf.guest import GuestLibrary, Mode
from nvmmconf.suite.target import Target, find_targets

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user has switched on is not for these tests."""
    for name in ("NVMM_SOFT_PROFILE", "NVMM_SOFT_FAULT", "NVMMCONF_LIB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def library() -> Libnvmm:
    return open_library(LibraryChoice(str(bundled_path()), "a test"))


@pytest.fixture
def targets(library: Libnvmm) -> dict[str, Target]:
    """Every target of the bundled libnvmm, by name."""
    return {target.name: target for target in find_targets(library)}


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> GuestLibrary:
    """The project's guests, built into a cache of this session."""
    return GuestLibrary(REPOSITORY / "guests", tmp_path_factory.mktemp("guest cache"))


@pytest.fixture(params=list(Mode), ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> Mode:
    one: Mode = request.param
    return one
