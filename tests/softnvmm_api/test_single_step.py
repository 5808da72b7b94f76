# SPDX-License-Identifier: BSD-2-Clause
"""On "ideal" a single-step trap and an event at the same boundary both come, the trap first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .test_api import names, run

CLEAN = {f"NVMM_SOFT_{word}": "" for word in ("QUIRK", "FAULT", "CHAOS", "HOST")}


@pytest.mark.parametrize("name", names("single_step.c"))
def test_single_step(client: Callable[..., Path], name: str) -> None:
    run(client("single_step.c"), name, NVMM_SOFT_PROFILE="ideal", **CLEAN)
