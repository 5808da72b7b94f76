# SPDX-License-Identifier: BSD-2-Clause
"""Processors in threads of one process share memory as processors do (SDM 3A 9.1)."""

import subprocess

import pytest
from cpu_machine import build

PROCESSORS, ROUNDS = 3, 1000
TOTAL = PROCESSORS * ROUNDS
RIGHT = f"{TOTAL} {3 * TOTAL & 0xFFFF} {TOTAL & 0xFF} {TOTAL}"


@pytest.mark.parametrize("flags", [("-pthread",), ("-pthread", "-fsanitize=thread", "-g")])
def test_locked_operations_lose_nothing_and_do_not_race(flags: tuple[str, ...]) -> None:
    try:
        program = build("cpu_threads.c", flags=flags)
    except subprocess.CalledProcessError:
        pytest.skip(f"the compiler does not know {flags[1]}")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == RIGHT.split()
