# SPDX-License-Identifier: BSD-2-Clause
"""The processor against QEMU's interpreter: small system programs, and every guest.

Both must say the same and end with the same status.  Where QEMU is known to do
something else than the manuals say, system/deviations.toml has the line that it
prints, ours, and the reason; a deviation that no longer shows is an error too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_program import (
    FOLDER,
    HALTED,
    Ended,
    build,
    in_qemu,
    in_softnvmm,
    programs,
    qemu_is_missing,
)

from nvmmconf.abi import Libnvmm, LibraryChoice, bundled_path, open_library
from nvmmconf.guest import GuestLibrary

REPOSITORY = Path(__file__).resolve().parents[2]
GUESTS = GuestLibrary(REPOSITORY / "guests", Path())
# Those with parameters are for whoever knows what to give.
PLAIN = [name for name in GUESTS.names() if not GUESTS.source(name).parameters]
IMAGES = [(name, mode) for name in PLAIN for mode in GUESTS.modes(name)]
DEVIATIONS = tomllib.loads((FOLDER / "deviations.toml").read_text())["deviation"]


@pytest.fixture(autouse=True)
def _both(monkeypatch: pytest.MonkeyPatch) -> None:
    if (why := qemu_is_missing()) is not None:
        pytest.skip(why)
    monkeypatch.setenv("NVMM_SOFT_PROFILE", "ideal")
    monkeypatch.delenv("NVMM_SOFT_FAULT", raising=False)


@pytest.fixture(scope="session")
def libnvmm() -> Libnvmm:
    return open_library(LibraryChoice(str(bundled_path()), "a test"))


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> GuestLibrary:
    return GuestLibrary(REPOSITORY / "guests", tmp_path_factory.mktemp("guest cache"))


def known(program: str) -> Iterator[tuple[str, str]]:
    """What QEMU prints otherwise, and ours."""
    for entry in DEVIATIONS:
        if entry["program"] == program:
            yield entry["qemu"], entry["ours"]


def corrected(program: str, ended: Ended) -> Ended:
    """What QEMU would have printed if it did as the manuals say."""
    lines = ended.console.splitlines(keepends=True)
    for theirs, ours in known(program):
        at = [i for i, line in enumerate(lines) if line.rstrip("\n") == theirs]
        assert at, f"QEMU does not deviate in this way any more: {theirs!r}"
        lines[at[0]] = ours + "\n"
    return Ended("".join(lines), ended.status)


@pytest.mark.parametrize("name", programs())
def test_program(name: str, libnvmm: Libnvmm, tmp_path: Path) -> None:
    image = build(name, tmp_path)
    theirs, ours = in_qemu(image, tmp_path), in_softnvmm(image, libnvmm)
    assert ours.console, "the program printed nothing"
    assert ours == corrected(name, theirs)


@pytest.mark.parametrize(
    ("name", "mode"), IMAGES, ids=[f"{name}-{mode.value}" for name, mode in IMAGES]
)
def test_guest(name, mode, guests: GuestLibrary, libnvmm: Libnvmm, tmp_path: Path) -> None:
    image = guests.image(name, mode).elf
    ours = in_softnvmm(image, libnvmm)
    if ours.status == HALTED:
        pytest.skip("halts until somebody else wakes it: QEMU would not end")
    assert ours == in_qemu(image, tmp_path)


def test_deviations_are_of_programs_and_have_reasons() -> None:
    assert {entry["program"] for entry in DEVIATIONS} <= set(programs())
    assert all(entry["because"].strip() for entry in DEVIATIONS)
