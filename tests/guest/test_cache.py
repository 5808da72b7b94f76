# SPDX-License-Identifier: BSD-2-Clause
"""The cache of images: each made once, and only ever seen whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nvmmconf.guest import GuestError, GuestLibrary, Mode
from nvmmconf.guest.__main__ import main

FILES = {"source.s", "image.o", "image.ld"}

BUILDER = """
import sys
from pathlib import Path
from nvmmconf.guest import GuestLibrary, Mode
library = GuestLibrary(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for name in ("hello", "hlt"):
    for mode in Mode:
        image = library.image(name, mode)
        print(image.files.folder, len(image.segments[1].data), image.entry)
"""


def wrapper(path: Path, tool: str, first: str) -> Path:
    """A tool that does `first` (sh) before the real one, save when asked for its version."""
    real = shutil.which(tool)
    assert real is not None
    path.write_text(
        f'#!/bin/sh\ncase "$1" in --version) ;; *)\n{first}\n;; esac\nexec "{real}" "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gets a line each time something is assembled."""
    log = tmp_path / "assembled"
    log.touch()
    tool = wrapper(tmp_path / "counting as", "as", f'echo once >> "{log}"')
    monkeypatch.setenv("NVMMCONF_AS", str(tool))
    return log


def count(log: Path) -> int:
    return len(log.read_text().splitlines())


def images(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.name != "locks")


def start(guests: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(guests), str(cache)],
        cwd=cache.parent,
        # The package as it is found here, installed or not.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_many_processes_at_once_assemble_each_image_once(
    guests: Path, tmp_path: Path, counted: Path
) -> None:
    cache = tmp_path / "cache"
    workers = [start(guests, cache) for _ in range(6)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outputs = {worker.communicate(timeout=120)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0] * 6
    assert len(outputs) == 1, "all see the same images"
    assert count(counted) == 2 * len(Mode)
    assert len(images(cache)) == 2 * len(Mode)
    for folder in images(cache):
        assert {path.name for path in folder.iterdir()} == FILES


def test_second_library_assembles_nothing(guests: Path, tmp_path: Path, counted: Path) -> None:
    first = GuestLibrary(guests, tmp_path / "cache").image("hlt", Mode.REAL16)
    second = GuestLibrary(guests, tmp_path / "cache").image("hlt", Mode.REAL16)
    assert first == second
    assert count(counted) == 1


@pytest.mark.parametrize("changed", ["macros.inc", "real16.S", "real16.ld", "long64.S"])
def test_changed_shared_file_rebuilds_what_it_concerns(
    guests: Path, tmp_path: Path, counted: Path, changed: str
) -> None:
    include = tmp_path / "include"
    shutil.copytree(guests / "include", include)
    cache = tmp_path / "cache"
    before = GuestLibrary(guests, cache, include=include).image("hlt", Mode.REAL16)
    comment = "/* changed */\n" if changed.endswith(".ld") else "# changed\n"
    (include / changed).write_text(comment + (include / changed).read_text())
    after = GuestLibrary(guests, cache, include=include).image("hlt", Mode.REAL16)
    rebuilt = changed != "long64.S"
    assert (after.elf != before.elf) is rebuilt
    assert count(counted) == 1 + rebuilt


def test_other_tool_rebuilds(
    guests: Path, tmp_path: Path, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = GuestLibrary(guests, tmp_path / "cache").image("hlt", Mode.REAL16)
    newer = tmp_path / "newer"
    newer.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "GNU assembler 99" && exit\n'
        f'exec "{os.environ["NVMMCONF_AS"]}" "$@"\n'
    )
    newer.chmod(0o755)
    monkeypatch.setenv("NVMMCONF_AS", str(newer))
    after = GuestLibrary(guests, tmp_path / "cache").image("hlt", Mode.REAL16)
    assert before.elf != after.elf
    assert count(counted) == 2


def test_unfinished_image_has_another_name(
    guests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    seen = tmp_path / "seen"
    tool = wrapper(tmp_path / "as", "as", f'ls "{cache}" >> "{seen}"')
    monkeypatch.setenv("NVMMCONF_AS", str(tool))
    image = GuestLibrary(guests, cache).image("hlt", Mode.REAL16)
    names = set(seen.read_text().split()) - {"locks"}
    assert names == {f"building-{image.elf.parent.name}"}
    assert images(cache) == [image.elf.parent]


def test_killed_builder_leaves_nothing_that_looks_whole(
    guests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    with monkeypatch.context() as patched:
        # The builder is the parent of the tool that it runs.
        tool = wrapper(tmp_path / "as", "as", "kill -KILL $PPID")
        patched.setenv("NVMMCONF_AS", str(tool))
        worker = start(guests, cache)
        worker.communicate("go\n", timeout=120)
    assert worker.returncode == -signal.SIGKILL
    (left,) = images(cache)
    assert left.name.startswith("building-hello.real16-")
    # The wrapped tool has the version of the real one, so this is the same image.
    image = GuestLibrary(guests, cache).image("hello", Mode.REAL16)
    assert images(cache) == [image.elf.parent]
    assert left.name == f"building-{image.elf.parent.name}"


def test_failed_build_leaves_nothing_and_is_tried_again(guests: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.S").write_text("# Text.\n# area: a\n# modes: real16\nstart: hlq\n")
    library = GuestLibrary(tmp_path, tmp_path / "cache", include=guests / "include")
    for _ in range(2):
        with pytest.raises(GuestError, match=r"odd\.S:4"):
            library.image("odd", Mode.REAL16)
    assert images(tmp_path / "cache") == []


def test_paths_with_spaces(guests: Path, tmp_path: Path) -> None:
    sources = tmp_path / "my guests"
    shutil.copytree(guests, sources)
    image = GuestLibrary(sources, tmp_path / "a  cache 'here'").image("hello", Mode.LONG64)
    assert image.elf.is_file()


def test_relative_cache(guests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = GuestLibrary(guests, Path("cache")).image("hlt", Mode.REAL16)
    monkeypatch.chdir("/")
    assert image.elf.is_file()


def test_files_are_made_when_asked_for(guests: Path, tmp_path: Path) -> None:
    image = GuestLibrary(guests, tmp_path).image("hlt", Mode.PROT32)
    folder = image.files.folder
    assert {path.name for path in folder.iterdir()} == FILES
    made = {image.elf, image.flat, image.listing, image.map}
    assert {path.name for path in made} == {"image.elf", "image.bin", "image.lst", "image.map"}
    assert {path.name for path in folder.iterdir()} == FILES | {path.name for path in made}
    assert images(tmp_path) == [folder], "and nothing is left beside it"
    before = image.elf.stat().st_mtime_ns
    assert GuestLibrary(guests, tmp_path).image("hlt", Mode.PROT32).elf.stat().st_mtime_ns == before


def test_command_makes_the_files_of_a_folder(
    guests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = GuestLibrary(guests, tmp_path).image("hlt", Mode.LONG64).files.folder
    assert main([str(folder)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == folder / "image.elf"
    assert all(path.is_file() for path in printed)
    assert len(printed) == 4
    assert main([str(tmp_path)]) == 1
    assert "no folder of an image" in capsys.readouterr().err
    assert main([]) == 2
