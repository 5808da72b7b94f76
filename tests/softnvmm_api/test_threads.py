# SPDX-License-Identifier: BSD-2-Clause
"""Programs with threads: they work, and the thread sanitizer has nothing to say."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import CFLAGS, SOFT, can_sanitize, compiler, library, once, run_cc

HERE = Path(__file__).resolve().parent
THREAD = ("-fsanitize=thread",)
NAMES = re.findall(r"^TEST\((\w+)", (HERE / "threads.c").read_text(), re.MULTILINE)
# In run.c what needs a second thread.  Not getstate_waits_for_the_run of
# contract.c: two threads in one vCPU's comm page is what L-ST-8 excludes.
ALSO = ["stop_during_run", "signal_ends_run", "maps_while_running", "destroy_while_running",
        "vcpu_destroy_while_running"]  # fmt: skip
Client = Callable[..., Path]


def run(program: Path, name: str, **env: str) -> None:
    done = subprocess.run(
        [program, name], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_threads(client: Client, name: str) -> None:
    run(client("threads.c"), name)


@pytest.fixture(scope="session")
def racing(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Builds clients with library and all for the thread sanitizer."""
    if compiler() is None:
        pytest.skip("no C compiler")
    base = tmp_path_factory.getbasetemp()
    where = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "racing-softnvmm"
    where.mkdir(exist_ok=True)
    if not can_sanitize(base, THREAD):
        pytest.skip("no thread sanitizer here")
    lib = where / "libnvmm.so"
    with once(lib) as missing:
        if missing:
            library(where, THREAD)

    def build(name: str) -> Path:
        out = where / Path(name).stem
        with once(out) as missing:
            if missing:
                run_cc(*CFLAGS, *THREAD, "-I", SOFT / "include", HERE / name, "-o", out, lib,
                       f"-Wl,-rpath,{where}", "-pthread")  # fmt: skip
        return out

    return build


@pytest.mark.parametrize("chaos", ["", "3"])
@pytest.mark.parametrize(
    ("program", "name"),
    [*(("threads.c", name) for name in NAMES), *(("run.c", name) for name in ALSO)],
)
def test_no_races(racing: Client, program: str, name: str, chaos: str) -> None:
    run(racing(program), name, NVMM_SOFT_CHAOS=chaos)
