# SPDX-License-Identifier: BSD-2-Clause
"""Without its quirks a real profile is "ideal" but for the rows of profile_rows.csv.

Scenarios: those of every quirk and every seeded fault, and rows.c for what those do not touch.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from . import test_faults, test_quirks
from .profile_rows import PROFILES, Row, differences, read
from .transcript import Field, parse

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent.parent.parent / "shared" / "spec" / "nvmm-kernel.md"
Client = Callable[..., Path]
# A host that has an answer to everything, so that hiding it shows.
ANSWERS = {
    0x0: (0x20, 0x68747541, 0x444D4163, 0x69746E65),
    0x4: (0x63, 0xB, 0xC, 0xD),
    0x7: (2, *[0xFFFFFFFF] * 3),
    0xD: (7, 0x240, 0x340, 0),
    0x80000000: (0x80000020, 0, 0, 0),
    0x80000008: (0x3030, 0xFFFF, 0xFFFF, 0xFFFF),
}
LEAVES = (*range(0x18), 0x40000001, 0x40000010, *range(0x80000000, 0x80000021))


def host() -> str:
    lines = ["mxcsr_mask ffff", "misc_enable 850089", "arch_capabilities fff"]
    for leaf in LEAVES:
        default = (0xA0A00000 + (leaf & 0xFF), 0xB0B0FFFF, 0xC0CFFFFF, 0xFFFFFFFF)
        values = " ".join(f"{value:x}" for value in ANSWERS.get(leaf, default))
        lines.append(f"cpuid {leaf:x} 0 {values}")
    return "\n".join(lines) + "\n"


def scenarios() -> dict[str, str]:
    """Program by scenario."""
    own = re.findall(r"^TEST\((\w+)\)", (HERE / "rows.c").read_text(), re.MULTILINE)
    parts = (
        {name: program for name, (program, _) in test_quirks.scenarios().items()},
        test_faults.scenarios(),
        {name.replace("_", "-"): "rows.c" for name in own},
    )
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names)), "two scenarios have one name"
    return {name: program for part in parts for name, program in part.items()}


@functools.cache
def play(program: Path, name: str, profile: str, host_file: Path) -> tuple[Field, ...]:
    """What a scenario shows when no quirk is on."""
    env = {
        **os.environ,
        "NVMM_SOFT_PROFILE": profile,
        "NVMM_SOFT_QUIRK": ",".join(f"-{quirk}" for quirk in test_quirks.quirks()),
        "NVMM_SOFT_FAULT": "",
        "NVMM_SOFT_CHAOS": "",
        "NVMM_SOFT_HOST": str(host_file),
    }
    done = subprocess.run(
        [program, name.replace("-", "_")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name} on {profile}: {done.returncode} {done.stderr}"
    return tuple(parse(done.stdout))


@pytest.fixture
def host_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "rows-host"
    if not path.exists():
        path.write_text(host())
    return path


def rows_of(scenario: str, profile: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if profile in row.profiles and row.scenario.fullmatch(scenario)]


plain = pytest.mark.parametrize("client", ["plain"], indirect=True)


@plain
@pytest.mark.parametrize("profile", PROFILES)
def test_profile_is_ideal_but_for_quirks_and_rows(
    client: Client, profile: str, host_file: Path
) -> None:
    rows, _ = read()
    wrong = {}
    for name, source in scenarios().items():
        program = client(source)
        found = differences(
            play(program, name, "ideal", host_file),
            play(program, name, profile, host_file),
            rows_of(name, profile, rows),
        )
        if found:
            wrong[name] = found
    assert not wrong, "\n".join(f"{name}: {'; '.join(found)}" for name, found in wrong.items())


@plain
@pytest.mark.parametrize("profile", PROFILES)
def test_no_row_can_be_left_out(client: Client, profile: str, host_file: Path) -> None:
    """Each row, on each profile that it claims, hides a difference that nothing else hides."""
    rows, _ = read()
    needed: set[int] = set()
    for name, source in scenarios().items():
        program = client(source)
        there = play(program, name, "ideal", host_file)
        here = play(program, name, profile, host_file)
        mine = rows_of(name, profile, rows)
        if there != here:
            needed |= {
                id(row)
                for row in mine
                if differences(there, here, [other for other in mine if other is not row])
            }
    idle = [row for row in rows if profile in row.profiles and id(row) not in needed]
    assert not idle, "\n".join(f"{row.name}: {row.field.pattern}" for row in idle)


@plain
def test_every_profile_has_a_row(client: Client) -> None:
    rows, _ = read()
    assert {profile for row in rows for profile in row.profiles} == set(PROFILES)


def test_a_row_that_ends_a_comparison_names_its_scenarios() -> None:
    assert all(row.scenario.pattern != ".*" for row in read()[0] if row.mask is None)


def test_what_cannot_be_seen_has_a_reason() -> None:
    _, unseen = read()
    assert all(row.note for row in unseen)
    quirks = set(test_quirks.quirks())
    for row in unseen:
        for names in re.findall(r"quirks? ([\w, -]+)", row.note):
            assert {name.strip() for name in names.split(",")} <= quirks


def table(text: str, number: str) -> set[str]:
    """The first cells of a section's table, heading and rule left out."""
    section = text[text.index(f"### {number} ") :]
    section = section[: section.index("\n### ", 5)]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return {f"{number} {line.split('|')[1].strip()}" for line in lines[1:]}


@pytest.mark.skipif(not SPEC.is_file(), reason="the specification is not beside the checkout")
def test_the_table_has_the_rows_of_the_specification() -> None:
    text = SPEC.read_text()
    want = table(text, "14.2") | table(text, "14.3")
    rows, unseen = read()
    have = {row.name for row in rows} | {row.name for row in unseen}
    assert want <= have, want - have
    library = SPEC.with_name("libnvmm.md").read_text()
    for name in have - want:
        where, number = (library, name.split()[1]) if name.startswith("libnvmm ") else (text, name)
        assert re.search(rf"^#+ {re.escape(number.split()[0])}[. ]", where, re.M), name
