# SPDX-License-Identifier: BSD-2-Clause
"""Clients written for NetBSD compile and run: an emulator's, and the small one of the docs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nvmmconf.abi import bundled_path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HEADERS = ROOT / "nvmmconf" / "softnvmm" / "include"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
Client = Callable[..., Path]


def run(program: Path, version: int) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NVMM_SOFT_PROFILE": f"v{version}-svm"}
    return subprocess.run([program], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", [1, 2])
def test_an_emulator_written_in_c_builds_and_runs(client: Client, version: int) -> None:
    done = run(client("emulator.c", f"NVMM_USER_VERSION={version}"), version)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
@pytest.mark.parametrize("version", [1, 2])
def test_an_emulator_written_in_cxx_builds_and_runs(
    client: Client, tmp_path: Path, version: int, standard: str
) -> None:
    cxx = shutil.which(os.environ.get("CXX", "c++"))
    if cxx is None:
        pytest.skip("no C++ compiler")
    library = client("emulator.c", "NVMM_USER_VERSION=2").parent
    if library.name.startswith("sanitized"):
        pytest.skip("the plain library serves: what is tested here is the header")
    program = tmp_path / "emulator"
    built = subprocess.run(
        [
            cxx,
            "-x",
            "c++",
            f"-std={standard}",
            *WARNINGS,
            f"-DNVMM_USER_VERSION={version}",
            f"-I{HEADERS}",
            HERE / "emulator.c",
            "-x",
            "none",
            library / "libnvmm.so",
            f"-Wl,-rpath,{library}",
            "-o",
            program,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = run(program, version)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("header", ["nvmm.h", "softnvmm.h"])
@pytest.mark.parametrize(("language", "standard"), [("c", "c11"), ("c++", "c++11")])
def test_the_headers_stand_alone_in_strict_mode(
    tmp_path: Path, header: str, language: str, standard: str
) -> None:
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("no C compiler")
    source = tmp_path / "alone.c"
    source.write_text(f"#include <{header}>\nint x;\n#include <{header}>\n")
    for version in (1, 2):
        built = subprocess.run(
            [
                cc,
                "-x",
                language,
                f"-std={standard}",
                *WARNINGS,
                "-pedantic-errors",
                f"-DNVMM_USER_VERSION={version}",
                f"-I{HEADERS}",
                "-fsyntax-only",
                source,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stderr


# fmt: off
FUNCTIONS_V2 = {
    "nvmm_init", "nvmm_root_init", "nvmm_capability", "nvmm_machine_create",
    "nvmm_machine_destroy", "nvmm_machine_configure", "nvmm_vcpu_create", "nvmm_vcpu_destroy",
    "nvmm_vcpu_configure", "nvmm_vcpu_setstate", "nvmm_vcpu_getstate", "nvmm_vcpu_inject",
    "nvmm_vcpu_run", "nvmm_vcpu_stop", "nvmm_hva_map", "nvmm_hva_unmap", "nvmm_gpa_map",
    "nvmm_gpa_unmap", "nvmm_gva_to_gpa", "nvmm_gpa_to_hva", "nvmm_assist_io",
    "nvmm_assist_mem", "nvmm_ctl", "nvmm_vcpu_dump",
}
# fmt: on


def test_libnvmms_functions_are_exported_and_nothing_else(client: Client) -> None:
    """L-VER-6; what softnvmm adds is recognisable."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm")
    library = client("emulator.c", "NVMM_USER_VERSION=2").parent / "libnvmm.so"
    printed = subprocess.run(
        [nm, "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1].partition("@")[0] for line in printed.splitlines()}
    ours = {n for n in names if n.startswith("nvmm_") and not n.startswith("nvmm_soft_")}
    assert ours == FUNCTIONS_V2
    others = {n for n in names - ours if not n.startswith("nvmm_soft_")}
    if library.parent.name.startswith("plain"):
        assert others == set()


@pytest.mark.parametrize("version", [1, 2])
def test_the_header_tells_its_version(tmp_path: Path, version: int) -> None:
    """L-VER-3: NVMM_USER_VERSION decides whether nvmm_vcpu_stop is there."""
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("no C compiler")
    source = tmp_path / "asks.c"
    source.write_text(
        "#include <nvmm.h>\n"
        "#if NVMM_USER_VERSION >= 2\nint (*f)(struct nvmm_vcpu *) = nvmm_vcpu_stop;\n"
        "#else\nint nvmm_vcpu_stop;\n#endif\n"
        "#if NVMM_KERN_VERSION != NVMM_USER_VERSION\n#error kernel\n#endif\n"
    )
    built = subprocess.run(
        [cc, *WARNINGS, f"-DNVMM_USER_VERSION={version}", f"-I{HEADERS}", "-fsyntax-only", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr


def test_an_unknown_user_version_is_refused(tmp_path: Path) -> None:
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("no C compiler")
    source = tmp_path / "v3.c"
    source.write_text("#define NVMM_USER_VERSION 3\n#include <nvmm.h>\n")
    built = subprocess.run(
        [cc, f"-I{HEADERS}", "-fsyntax-only", source], capture_output=True, text=True, check=False
    )
    assert built.returncode != 0
    assert "NVMM_USER_VERSION is 1" in built.stderr


def documented_client() -> str:
    text = (ROOT / "docs" / "softnvmm.md").read_text()
    block = re.search(r"^```c\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1]


PRINT_FLAGS = """
import sys
from pathlib import Path
import nvmmconf.cli as cli
if len(sys.argv) > 1:
    moved = Path(sys.argv[1])
    cli.bundled_path = lambda: moved / "lib" / "libnvmm.so"
    cli.include_path = lambda: moved / "include"
sys.exit(cli.main(["softnvmm", "--cflags", "--libs"]))
"""


@pytest.mark.parametrize("moved", [False, True])
def test_the_documented_client_builds_with_the_printed_flags(tmp_path: Path, moved: bool) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    where = tmp_path / "a path's own spaces"
    where.mkdir()
    (where / "client.c").write_text(documented_client())
    if moved:
        (where / "lib").mkdir()
        shutil.copy(bundled_path(), where / "lib")
        shutil.copytree(HEADERS, where / "include")
    printed = subprocess.run(
        [sys.executable, "-c", PRINT_FLAGS, *([str(where)] if moved else [])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    command = f"cc {' '.join(WARNINGS)} client.c {printed.strip()} -o client"
    built = subprocess.run(
        ["sh", "-c", command], cwd=where, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    done = run(where / "client", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "exit 0x1003, rax 6\n"


@pytest.mark.parametrize(
    ("asked", "has"), [(["--cflags"], ["-I"]), (["--libs"], ["-L", "-lnvmm", "-Wl,-rpath,"])]
)
def test_flags_are_printed_one_kind_at_a_time(asked: list[str], has: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nvmmconf.cli", "softnvmm", *asked],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [word for word in has if word in done.stdout] == has
    assert ("-lnvmm" in done.stdout) == ("--libs" in asked)


def test_softnvmm_without_a_wish_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nvmmconf.cli", "softnvmm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
