# SPDX-License-Identifier: BSD-2-Clause
"""NVMM_SOFT_CHAOS changes when a run ends, and no verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEEDS = os.environ.get("NVMMCONF_CHAOS_SEEDS", "1 2").split()
"""`make chaos` gives twenty, and then runs all cases."""
CASES = (
    ["cases"]
    if "NVMMCONF_CHAOS_SEEDS" in os.environ
    else ["cases/test_hlt.py", "cases/test_nmi.py"]
)
Client = Callable[..., Path]


def run(program: Path, name: str, seed: str | None) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("NVMM_SOFT_")}
    if seed is not None:
        env["NVMM_SOFT_CHAOS"] = seed
    done = subprocess.run([program, name], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_bad_seed_is_refused(client: Client) -> None:
    run(client("chaos.c"), "bad_seeds", None)


def test_a_seed_is_a_run(client: Client) -> None:
    program = client("chaos.c")
    traces = [run(program, "trace", seed) for seed in ("7", "7", "8")]
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]
    assert "reason 0\n" not in run(program, "trace", None)


@pytest.mark.parametrize("seed", ["0", "1", "18446744073709551615"])
@pytest.mark.parametrize("name", ["trace", "stop_is_seen", "vcpus_differ"])
def test_nothing_is_lost(client: Client, name: str, seed: str) -> None:
    run(client("chaos.c"), name, seed)


def verdicts(library: Path, reports: Path, seed: str) -> dict[str, str]:
    """What the cases say."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NVMM", "PYTEST"))}
    if seed:
        env["NVMM_SOFT_CHAOS"] = seed
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    done = subprocess.run(
        [*command, f"--nvmm-lib={library}", f"--nvmm-reports={reports}", *CASES],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    records = list((reports / "runs").glob("*/run.jsonl"))
    assert len(records) == 1, done.stdout
    lines = [json.loads(line) for line in records[0].read_text().splitlines()]
    found = {str(line["case"]): str(line["verdict"]) for line in lines if "verdict" in line}
    # Where the kernel is free, what is observed may differ from run to run.
    return {case: "pass" if said == "observed" else said for case, said in found.items()}


@pytest.fixture(scope="module")
def calm(client: Client, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    library = client("chaos.c").parent / "libnvmm.so"
    if library.parent.name.startswith("sanitized"):
        pytest.skip("python would need the sanitizers loaded before it")
    found = verdicts(library, tmp_path_factory.mktemp("calm"), "")
    assert len(found) > 0
    return library, found


@pytest.mark.parametrize("seed", SEEDS)
def test_no_verdict_changes(calm: tuple[Path, dict[str, str]], tmp_path: Path, seed: str) -> None:
    library, found = calm
    chaotic = verdicts(library, tmp_path, seed)
    assert {case: v for case, v in chaotic.items() if found[case] != v} == {}
    assert chaotic.keys() == found.keys()
