# SPDX-License-Identifier: BSD-2-Clause
"""The Makefile under GNU make and BSD make, and what it says where a tool is missing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from .project import BACKSTOP, REPOSITORY, environment

NEEDED = ("as", "cc", "ld", "objcopy")

PYTHON = """\
#!/bin/sh
# Stands for Python: notes what it is asked, makes an environment of itself.
echo "$*" >>"$LOG"
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m $FAILING "*) exit 1 ;;
esac
"""


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# ---- which tool is missing ---------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder to be all of PATH, with everything that is needed; a Python, too."""
    folder = tmp_path / "the tools"
    folder.mkdir()
    for tool in NEEDED:
        executable(folder / tool, "#!/bin/sh\n")
    executable(folder / "uname", "#!/bin/sh\necho Linux\n")
    executable(folder / "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    return folder


def shells() -> list[str]:
    found = [shutil.which(name) for name in ("dash", "ksh", "bash")]
    return [one for one in found if one] or ["/bin/sh"]


@pytest.fixture(params=shells(), ids=lambda shell: Path(shell).name)
def shell(request: pytest.FixtureRequest) -> str:
    """Each POSIX shell that is here."""
    found: str = request.param
    return found


def tools(shell: str, path: Path, **more: str) -> tuple[int, list[str]]:
    """Exit status and lines of `.ci/tools`, which print nothing but what is wrong."""
    done = subprocess.run(
        [shell, str(REPOSITORY / ".ci/tools")],
        env={"PATH": str(path), **more},
        capture_output=True,
        text=True,
        timeout=BACKSTOP,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_nothing_is_missing(shell: str, path: Path) -> None:
    assert tools(shell, path) == (0, [])


@pytest.mark.parametrize(
    ("tool", "what", "debian", "netbsd"),
    [
        ("cc", "the C compiler (cc)", "gcc", "the set comp (sysinst)"),
        ("as", "the assembler's as", "binutils", "the set comp (sysinst)"),
        ("ld", "the assembler's ld", "binutils", "the set comp (sysinst)"),
        ("objcopy", "the assembler's objcopy", "binutils", "the set comp (sysinst)"),
        (
            "python3",
            "Python (python3)",
            "python3",
            "pkgin install python311, then make PYTHON=python3.11",
        ),
    ],
)
def test_one_tool_is_missing(
    shell: str, path: Path, tool: str, what: str, debian: str, netbsd: str
) -> None:
    (path / tool).unlink()
    line = f"nvmmconf: {what} is missing: on Debian apt-get install {debian}; on NetBSD {netbsd}"
    assert tools(shell, path) == (1, [line])


def test_all_that_is_missing_is_named_at_once(shell: str, path: Path) -> None:
    (path / "cc").unlink()
    (path / "ld").unlink()
    status, lines = tools(shell, path)
    assert status == 1
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("module", "text", "what", "package"),
    [
        (
            "sitecustomize.py",
            "import sys\nsys.version_info = (3, 10, 9)\n",
            "Python 3.11 or newer (python3 is older)",
            "python3;",
        ),
        (
            "ensurepip.py",
            "raise ImportError('Debian has it in a package of its own')\n",
            "Python's venv module",
            "python3-venv;",
        ),
        (
            "sitecustomize.py",
            "import sysconfig\nsysconfig.get_path = lambda name: '/nonexistent'\n",
            "Python's C header Python.h",
            "python3-dev;",
        ),
    ],
    ids=["old", "no venv", "no Python.h"],
)
def test_something_of_python_is_missing(
    shell: str, path: Path, tmp_path: Path, module: str, text: str, what: str, package: str
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / module).write_text(text)
    status, (line,) = tools(shell, path, PYTHONPATH=str(modules))
    assert status == 1
    assert line.startswith(f"nvmmconf: {what} is missing: on Debian apt-get install {package}")
    assert "on NetBSD pkgin install python311" in line


def test_tools_of_other_names(shell: str, path: Path) -> None:
    """CC may have words of its own, as a compiler cache has; PYTHON may have a path."""
    (path / "cc").unlink()
    executable(path / "ccache", "#!/bin/sh\n")
    (path / "python3").rename(path / "python of mine")
    named = {"CC": "ccache gcc", "PYTHON": str(path / "python of mine")}
    assert tools(shell, path, **named) == (0, [])
    status, lines = tools(shell, path, CC="nocc -O2", PYTHON="python9")
    assert status == 1
    assert [line.partition(" is missing")[0] for line in lines] == [
        "nvmmconf: Python (python9)",
        "nvmmconf: the C compiler (nocc -O2)",
    ]


def test_netbsd_needs_cmake(shell: str, path: Path) -> None:
    """No wheel of it is there for NetBSD, as there is for Linux."""
    executable(path / "uname", "#!/bin/sh\necho NetBSD\n")
    status, (line,) = tools(shell, path)
    assert status == 1
    assert line.startswith("nvmmconf: cmake is missing: ")
    executable(path / "cmake", "#!/bin/sh\n")
    assert tools(shell, path) == (0, [])


# ---- make --------------------------------------------------------------------------


@pytest.fixture(params=["make", "bmake"])
def make(request: pytest.FixtureRequest) -> str:
    """GNU make and BSD make, where they are."""
    found = shutil.which(request.param)
    if found is None:
        pytest.skip(f"{request.param} is not installed")
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make looks at, in a path with a space, with nothing built."""
    root = tmp_path / "a checkout"
    (root / "nvmmconf").mkdir(parents=True)
    (root / "nvmmconf/part.c").touch()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root)
    shutil.copytree(REPOSITORY / ".ci", root / ".ci")
    executable(root / "python-of-test", PYTHON)
    return root


def run_make(
    make: str, root: Path, *arguments: str, failing: str = "nothing", path: str = ""
) -> tuple[int, str, list[str]]:
    """Exit status, output, and what Python was asked to do."""
    log = root / "log"
    log.unlink(missing_ok=True)
    more = {"LOG": str(log), "FAILING": failing} | ({"PATH": path} if path else {})
    done = subprocess.run(
        [make, "PYTHON=./python-of-test", *arguments],
        cwd=root,
        env=environment() | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BACKSTOP,
        check=False,
    )
    asked = log.read_text().splitlines() if log.exists() else []
    return done.returncode, done.stdout, [line for line in asked if line.startswith("-m ")]


@pytest.mark.parametrize("target", ["all", "run", "test", "lint", "bench", "clean", "tools"])
def test_target_can_be_made(make: str, checkout: Path, target: str) -> None:
    status, out, asked = run_make(make, checkout, "-n", target)
    assert status == 0, out
    assert out.strip()
    assert asked == []
    assert not (checkout / ".venv").exists()


def test_help_names_every_target(make: str, checkout: Path) -> None:
    status, out, _ = run_make(make, checkout, "help")
    assert status == 0
    for word in ("make ", "make test", "make lint", "make bench", "make clean", "PYTHON="):
        assert any(line.startswith(word) for line in out.splitlines())


def words(asked: list[str]) -> list[str]:
    """What was asked, without pip's options."""
    return [" ".join(word for word in line.split() if word[:2] != "--")[3:] for line in asked]


def test_first_make_installs_and_the_second_only_runs(make: str, checkout: Path) -> None:
    status, out, asked = run_make(make, checkout)
    assert status == 0, out
    first = words(asked)
    assert first[0] == "venv .venv"
    assert first[1].startswith("pip")  # the environment has one
    assert first[2].startswith("pip install -q scikit-build-core>=0.10 cffi>=1.16")
    assert first[3:] == ["pip install -q -e .", "pytest -n auto"]

    status, out, asked = run_make(make, checkout)
    assert status == 0, out
    assert words(asked) == ["pytest -n auto"]


def test_changed_source_is_built_again(make: str, checkout: Path) -> None:
    run_make(make, checkout)
    installed = (checkout / ".venv/.installed").stat().st_mtime
    for name in ("nvmmconf/part.c", "pyproject.toml"):
        os.utime(checkout / name, (installed + 10, installed + 10))
        _, _, asked = run_make(make, checkout)
        assert "pip install -q -e ." in words(asked), name
        os.utime(checkout / name, (installed - 10, installed - 10))
        os.utime(checkout / ".venv/.installed", (installed, installed))


def test_tests_and_lint_need_more(make: str, checkout: Path) -> None:
    status, out, asked = run_make(make, checkout, "test")
    assert status == 0, out
    assert words(asked)[-2:] == [
        "pip install -q -e .[test]",
        "pytest -n auto tests",
    ]
    status, out, asked = run_make(make, checkout, "lint")
    assert status == 0, out
    assert words(asked)[-4:] == [
        "pip install -q -e .[test,lint]",
        "ruff check .",
        "ruff format .",
        "mypy",
    ]


@pytest.mark.parametrize("failing", ["pip", "pytest"])
def test_failure_is_make_s(make: str, checkout: Path, failing: str) -> None:
    status, _, asked = run_make(make, checkout, failing=failing)
    assert status != 0
    assert words(asked)[-1].startswith(failing)
    # And it is tried again.
    status, _, asked = run_make(make, checkout)
    assert status == 0
    assert ("pip install -q -e ." in words(asked)) is (failing == "pip")


def test_missing_tool_is_named_before_anything_is_made(
    make: str, checkout: Path, path: Path
) -> None:
    (path / "objcopy").unlink()
    for tool in ("sh", "find", "test"):
        real = shutil.which(tool)
        assert real
        (path / tool).symlink_to(real)
    status, out, asked = run_make(make, checkout, path=str(path))
    assert status != 0
    named = [line for line in out.splitlines() if line.startswith("nvmmconf: ")]
    assert len(named) == 1
    assert "objcopy" in named[0]
    assert asked == []
    assert not (checkout / ".venv").exists()


def test_clean_keeps_results(make: str, checkout: Path) -> None:
    for name in ("reports/runs", "build", ".venv/bin", "nvmmconf/__pycache__", "cases"):
        (checkout / name).mkdir(parents=True)
    status, out, _ = run_make(make, checkout, "clean")
    assert status == 0, out
    assert (checkout / "reports/runs").is_dir()
    assert (checkout / "cases").is_dir()
    for name in ("build", ".venv", "nvmmconf/__pycache__"):
        assert not (checkout / name).exists()
