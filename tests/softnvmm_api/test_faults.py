# SPDX-License-Identifier: BSD-2-Clause
"""Each seeded fault changes what its scenario in faults_*.c shows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent.parent / "nvmmconf" / "softnvmm" / "faults.c"
PROGRAMS = sorted(path.name for path in HERE.glob("faults_*.c"))
Client = Callable[..., Path]


def scenarios() -> dict[str, str]:
    """Program by scenario; a scenario has its fault's name."""
    return {
        name.replace("_", "-"): program
        for program in PROGRAMS
        for name in re.findall(r"^(?:TEST|WALK)\((\w+)", (HERE / program).read_text(), re.MULTILINE)
    }


def faults() -> dict[str, str]:
    """What faults.c has: meanings by name."""
    return dict(re.findall(r'\] = \{ "([\w-]+)",\s+"([^"]+)"', TABLE.read_text()))


def play(program: Path, name: str, fault: str) -> str:
    """What a scenario shows; it must come to its end whatever the fault."""
    env = {**os.environ, "NVMM_SOFT_FAULT": fault, "NVMM_SOFT_PROFILE": "", "NVMM_SOFT_CHAOS": ""}
    done = subprocess.run(
        [program, name.replace("-", "_")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_fault_has_a_scenario_and_a_meaning() -> None:
    assert len(faults()) >= 80
    assert set(scenarios()) == set(faults())
    assert len(set(faults().values())) == len(faults())


@pytest.mark.parametrize("fault", sorted(faults()))
def test_fault_shows(client: Client, fault: str) -> None:
    program = client(scenarios()[fault])
    wrong = play(program, fault, fault)
    right = play(program, fault, "")
    assert play(program, fault, "") == right, "the scenario itself varies"
    assert wrong != right
