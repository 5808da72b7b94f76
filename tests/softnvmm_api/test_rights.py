# SPDX-License-Identifier: BSD-2-Clause
"""On "ideal" walks and assists keep to the SDM's rights, and mark what they use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .test_api import names, run
from .test_single_step import CLEAN


@pytest.mark.parametrize("name", names("rights.c"))
def test_rights(client: Callable[..., Path], name: str) -> None:
    run(client("rights.c"), name, NVMM_SOFT_PROFILE="ideal", **CLEAN)
