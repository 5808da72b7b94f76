# SPDX-License-Identifier: BSD-2-Clause
"""fuzz.c: random calls under the sanitizers, on every profile.

A few seconds with fixed seeds here; `make fuzz-api` goes on for ten minutes with
seeds of its own, and names the one that failed.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nvmmconf.abi import LibraryChoice, SoftKind, bundled_path, list_soft, open_library

STEPS = 100_000
SECONDS = float(os.environ.get("NVMMCONF_FUZZ_SECONDS", "0"))
PROFILES = [
    entry.name
    for entry in list_soft(
        open_library(LibraryChoice(str(bundled_path()), "the bundled one")), SoftKind.PROFILE
    )
]
Client = Callable[..., Path]


def fuzz(program: Path, profile: str, seed: int) -> None:
    env = os.environ | {
        "NVMM_SOFT_PROFILE": profile,
        "NVMM_SOFT_QUIRK": "-gpa-refusal-aborts",
        "NVMM_SOFT_FAULT": "",
    }
    done = subprocess.run(
        [program, str(seed), str(STEPS)], env=env, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"seed {seed}, {profile}:\n{done.stderr}"


@pytest.mark.parametrize("profile", PROFILES)
def test_random_calls(client: Client, profile: str) -> None:
    for seed in (1, 2, 3):
        fuzz(client("fuzz.c"), profile, seed)


@pytest.mark.skipif(SECONDS == 0, reason="`make fuzz-api`")
def test_random_calls_for_long(client: Client) -> None:
    program = client("fuzz.c")
    if program.parent.name.startswith("plain"):
        pytest.skip("the sanitized one is meant")
    end = time.monotonic() + SECONDS
    profiles = itertools.cycle(PROFILES)
    runs = 0
    while time.monotonic() < end:
        fuzz(program, next(profiles), random.getrandbits(48))
        runs += 1
    print(f"\n{runs} seeds of {STEPS} calls")
