# SPDX-License-Identifier: BSD-2-Clause
"""The interpreter agrees with the processor that the tests run on.

A script too: `test_cpu_native.py COUNT [SEED]` is `make fuzz`.
"""

import platform
import re
import secrets
import subprocess
import sys

import pytest
from cpu_machine import build

SEED = 20240229
INSTANCES = 50_000
PARTS = (
    "cpu_native.c",
    "native_forms.c",
    "native_chance.c",
    "native_state.c",
    "native_make.c",
    "native_host.c",
    "native_soft.c",
)

NATIVE = platform.machine() in ("x86_64", "AMD64") and platform.system() == "Linux"

pytestmark = pytest.mark.skipif(not NATIVE, reason="needs an x86-64 Linux host to compare with")


def compare(seed: int, count: int) -> subprocess.CompletedProcess[str]:
    runner = build(*PARTS, flags=())
    return subprocess.run(
        [runner, str(seed), str(count)], capture_output=True, text=True, check=False
    )


def numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    assert found is not None, text
    return [int(group) for group in found.groups()]


def test_user_mode_instructions_do_what_the_host_does():
    done = compare(SEED, INSTANCES)
    print(done.stdout)
    if done.returncode == 5:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    instances, faults, tried, forms, mismatches, unimplemented = numbers(
        r"instances (\d+) faults (\d+) forms (\d+) of (\d+) mismatches (\d+) unimplemented (\d+)",
        done.stdout,
    )
    assert instances == INSTANCES
    assert faults > INSTANCES // 50
    assert "NEVER TRIED" not in done.stdout
    assert tried == forms >= 700
    assert mismatches == 0
    assert unimplemented == 0
    bits64, bits32, bits16 = numbers(r"64-bit (\d+) 32-bit (\d+) 16-bit (\d+)", done.stdout)
    assert bits64 > INSTANCES // 3
    if "SKIPPED" not in done.stdout:
        assert bits32 > INSTANCES // 8 < bits16
        assert "-bit code: " not in done.stdout


def main() -> int:
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else secrets.randbits(32)
    print(f"seed {seed}", flush=True)
    done = compare(seed, count)
    print(done.stdout + done.stderr, end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
