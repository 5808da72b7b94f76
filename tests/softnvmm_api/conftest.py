# SPDX-License-Identifier: BSD-2-Clause
"""Builds libnvmm and client programs the plain way: cc, no build system."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOFT = HERE.parent.parent / "nvmmconf" / "softnvmm"
CFLAGS = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-g")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@functools.cache
def compiler() -> str | None:
    """The C compiler's name, or None."""
    return shutil.which(os.environ.get("CC", "cc"))


def run_cc(*args: str | Path) -> None:
    """Compile or link; what the compiler says goes into the exception."""
    cc = compiler()
    assert cc is not None
    done = subprocess.run([cc, *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{cc} failed:\n{done.stderr}")


def can_sanitize(where: Path, flags: tuple[str, ...] = SANITIZE) -> bool:
    """Whether programs built with the sanitizers run here."""
    source, program = where / "probe.c", where / "probe"
    source.write_text("int main(void) { return 0; }\n")
    try:
        run_cc(*flags, source, "-o", program)
    except RuntimeError:
        return False
    return subprocess.run([program], capture_output=True, check=False).returncode == 0


def compile_one(source: Path, where: Path, extra: tuple[str, ...], soft: Path = SOFT) -> Path:
    """Compile one of libnvmm's files for library() in a folder."""
    out = where / f"{source.parent.name}-{source.stem}.o"
    flags = (*CFLAGS, "-fPIC", "-fvisibility=hidden", *extra)
    run_cc(*flags, "-I", soft / "include", "-I", soft, "-c", source, "-o", out)
    return out


def link(where: Path, extra: tuple[str, ...]) -> Path:
    """Link what compile_one() has left in a folder."""
    out = where / "libnvmm.so"
    run_cc(*extra, "-shared", "-o", out, *sorted(where.glob("*.o")), "-pthread", "-lm")
    return out


def library(where: Path, extra: tuple[str, ...], soft: Path = SOFT) -> Path:
    """Build libnvmm.so in a folder, with more flags for compiler and linker."""
    sources = [*sorted(soft.glob("*.c")), *sorted((soft / "cpu").glob("*.c"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source: compile_one(source, where, extra, soft), sources))
    return link(where, extra)


Client = Callable[..., Path]


@contextlib.contextmanager
def once(out: Path) -> Iterator[bool]:
    """Yields whether to make `out`, while no other worker is at it."""
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not out.exists()


@pytest.fixture(scope="session", params=["plain", "sanitized"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Builds clients: client("name.c", "DEFINE=1") is a program linked with libnvmm."""
    if compiler() is None:
        pytest.skip("no C compiler")
    # One folder for all workers of a run: what one has built, the others use.
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    # Or one that outlives the run, whose library is as whoever made it wants it.
    base = Path(os.environ.get("NVMMCONF_CLIENTS", base))
    where = base / f"{request.param}-softnvmm"
    where.mkdir(exist_ok=True)
    sanitize = request.param == "sanitized"
    lib = where / "libnvmm.so"
    with once(lib) as missing:
        if missing and sanitize and not can_sanitize(where):
            pytest.skip("no sanitizer runtime")
        if missing:
            library(where, SANITIZE if sanitize else ())

    @functools.cache
    def build(name: str, *defines: str) -> Path:
        out = where / "-".join([Path(name).stem, *defines]).replace("=", "")
        with once(out) as missing:
            if missing:
                run_cc(
                    *CFLAGS,
                    *(SANITIZE if sanitize else ()),
                    *(f"-D{d}" for d in defines),
                    "-I",
                    SOFT / "include",
                    HERE / name,
                    "-o",
                    out,
                    lib,
                    f"-Wl,-rpath,{where}",
                    "-pthread",
                )
        return out

    return build
