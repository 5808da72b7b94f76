# SPDX-License-Identifier: BSD-2-Clause
"""The C programs beside this file, one pytest case for each of their TESTs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
Client = Callable[..., Path]


def names(source: str) -> list[str]:
    """What TEST(...) and ABORTS(...) a program has."""
    text = (HERE / source).read_text()
    return [
        ("aborts_" if macro == "ABORTS" else "") + name
        for macro, name in re.findall(r"^(TEST|ABORTS)\((\w+)", text, re.MULTILINE)
    ]


def run(program: Path, name: str, expect: int = 0, **env: str) -> None:
    done = subprocess.run(
        [program, name], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, done.stderr


@pytest.mark.parametrize("name", names("life.c"))
def test_life(client: Client, name: str) -> None:
    run(client("life.c"), name)


@pytest.mark.parametrize("name", names("memory.c"))
def test_memory(client: Client, name: str) -> None:
    run(
        client("memory.c"),
        name,
        -signal.SIGABRT if name.startswith("aborts_") else 0,
        ASAN_OPTIONS="handle_abort=0",
    )


@pytest.mark.parametrize("name", names("comm.c"))
def test_comm(client: Client, name: str) -> None:
    run(client("comm.c"), name)


@pytest.mark.parametrize("name", names("contract.c"))
def test_contract(client: Client, name: str) -> None:
    run(client("contract.c"), name)


@pytest.mark.parametrize("name", names("mapping.c"))
def test_mapping(client: Client, name: str) -> None:
    run(client("mapping.c"), name)


@pytest.mark.parametrize("name", names("run.c"))
def test_run(client: Client, name: str) -> None:
    run(client("run.c"), name)


@pytest.mark.parametrize("name", ["version", "struct_is_48_bytes", "hlt"])
def test_version_1_client(client: Client, name: str) -> None:
    run(client("v1.c", "NVMM_USER_VERSION=1"), name, NVMM_SOFT_PROFILE="v1-svm")


@pytest.mark.parametrize("name", sorted(set(names("v1.c")) - {"struct_is_48_bytes"}))
def test_version_1_machine(client: Client, name: str) -> None:
    run(client("v1.c"), name, NVMM_SOFT_PROFILE="v1-svm")
