# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of guests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvmmconf.guest import GuestLibrary

GUESTS = Path(__file__).resolve().parents[2] / "guests"


@pytest.fixture(scope="session")
def guests() -> Path:
    """The project's own guests."""
    return GUESTS


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> GuestLibrary:
    """The project's own guests, built into a cache of this session."""
    return GuestLibrary(GUESTS, tmp_path_factory.mktemp("guest cache"))
