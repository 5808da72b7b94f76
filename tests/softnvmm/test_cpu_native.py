# SPDX-License-Identifier: BSD-2-Clause
"""The interpreter agrees with the processor that the tests run on."""

import platform
import re
import subprocess

import pytest
from cpu_machine import build

SEED = 20240229
INSTANCES = 20_000

NATIVE = platform.machine() in ("x86_64", "AMD64") and platform.system() == "Linux"


@pytest.mark.skipif(not NATIVE, reason="needs an x86-64 Linux host to compare with")
def test_user_mode_instructions_do_what_the_host_does():
    runner = build("cpu_native.c", flags=())
    done = subprocess.run(
        [runner, str(SEED), str(INSTANCES)], capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(
        r"instances (\d+) faults (\d+) forms (\d+) of (\d+) mismatches (\d+) unimplemented (\d+)",
        done.stdout,
    )
    assert summary is not None, done.stdout
    instances, faults, tried, forms, mismatches, unimplemented = map(int, summary.groups())
    assert instances == INSTANCES
    assert faults > INSTANCES // 50
    assert tried == forms >= 300
    assert mismatches == 0
    assert unimplemented == 0
