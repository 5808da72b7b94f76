# SPDX-License-Identifier: BSD-2-Clause
"""Random code and random state through libnvmm's API: no crash, no hang, no report.

A script too: `test_cpu_fuzz.py SECONDS [SEED]` is `make fuzz-crash`.
"""

import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from cpu_machine import build_fuzzer

SECONDS = 5


def fuzz(seconds: int, seed: int, keep: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [build_fuzzer(), str(seconds), str(seed), keep],
        capture_output=True,
        text=True,
        check=False,
    )


def test_random_code_and_state_crash_nothing(tmp_path):
    try:
        done = fuzz(SECONDS, 1, tmp_path / "input")
    except subprocess.CalledProcessError:
        pytest.skip("no sanitizers, or no coverage, in this compiler")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"inputs (\d+) exits (\d+) shutdowns \d+ corpus (\d+)", done.stdout)
    assert found is not None, done.stdout
    inputs, exits, corpus = map(int, found.groups())
    assert inputs > 0
    assert exits > 0
    assert corpus > 16  # it was led by what it found


def main() -> int:
    seconds = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else secrets.randbits(32)
    print(f"seed {seed}, {seconds} s", flush=True)
    done = fuzz(seconds, seed, Path("fuzz-crash.bin"))
    print(done.stdout + done.stderr, end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
