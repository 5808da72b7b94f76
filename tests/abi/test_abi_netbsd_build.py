# SPDX-License-Identifier: BSD-2-Clause
"""Everything that is compiled at installation compiles for NetBSD/amd64, too."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nvmmconf"
SOFTNVMM = PACKAGE / "softnvmm"
SOURCES = sorted([*SOFTNVMM.glob("*.c"), *SOFTNVMM.glob("cpu/*.c"), PACKAGE / "abi/binding.c"])

needs_ziglang = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None,
    reason="no ziglang in this environment: run 'make .venv/.test'",
)


@needs_ziglang
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compiles_for_netbsd(source: Path, tmp_path: Path) -> None:
    # -Wno-unused-function: cffi puts the users of binding.c's functions behind it.
    command = [
        *(sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-netbsd", "-std=gnu11"),
        *("-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-D_GNU_SOURCE"),
        *("-I", str(SOFTNVMM / "include"), "-I", str(SOFTNVMM)),
        *("-c", "-o", str(tmp_path / "object.o"), str(source)),
    ]
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "global"),
        "ZIG_LOCAL_CACHE_DIR": str(tmp_path / "local"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
