# SPDX-License-Identifier: BSD-2-Clause
"""The list of mutants is sound: each can be put in, and its rows and tests exist.

Whether they are killed is `make mutants`' to say.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.softnvmm_api import test_api, test_golden, test_golden_kernel
from tests.softnvmm_api.profile_rows import PROFILES

from .copies import AccelCopy, BrokenError, Verdict
from .mutants import ACCEL, ROOT, Mutant, Part, node, read
from .processes import Processes, StoppedError

MUTANTS = read()
OF = {part: [mutant for mutant in MUTANTS if mutant.part is part] for part in Part}
# Parts of the two specifications that the hypervisor is made from; what only a device file or a
# program can show is not softnvmm's.
SECTIONS = {
    *("K-CAP", "K-MACH", "K-VCPU", "K-COMM", "K-MEM", "K-RST", "K-SET", "K-CONF", "K-CPUID"),
    *("K-INJ", "K-RUN", "K-MEMX", "K-IO", "K-HLT", "K-SHUT", "K-MSR", "K-INV", "K-CPX", "K-INK"),
    *("K-INT", "K-NMI", "K-TPR", "K-TSC"),
    *("L-INIT", "L-MACH", "L-VCPU", "L-ST", "L-EVT", "L-STOP", "L-RUN", "L-HVA", "L-GPA"),
    *("L-WALK", "L-GM", "L-IO", "L-MEM", "L-DEC", "L-DAT", "L-REP", "L-CTL"),
}


def requirements() -> set[str]:
    table = ROOT / "nvmmconf" / "requirements" / "requirements.csv"
    with table.open(newline="") as file:
        return {row["id"] for row in csv.DictReader(file)}


def names_of_the_accelerator() -> set[str]:
    """Every test that a mutant of the accelerator may name."""
    return {
        f"{file.stem.removeprefix('test_accel_')} {name}"
        for file in (ROOT / ACCEL).glob("test_accel_*.py")
        for name in re.findall(r"^def test_(\w+)", file.read_text(), re.MULTILINE)
    }


def names_of_the_hypervisor() -> set[str]:
    """Every test that a mutant of softnvmm's hypervisor may name."""
    found = {
        f"{program} {name}"
        for program in ("life", "memory", "comm", "contract", "mapping", "run", "v1", "threads")
        for name in test_api.names(f"{program}.c")
    }
    files = [(profile, *file) for profile in test_golden.REAL for file in test_golden.FILES]
    cmps = [(p, *test_golden.CMPS) for p in test_golden.REAL if p.startswith("v2")]
    found |= {f"golden {'-'.join(words)}" for words in files + cmps}
    found |= {f"ideal {name}-{kind}" for name, kind in [*test_golden.FILES, test_golden.CMPS]}
    found |= {f"kernel {name}-{profile}" for name, profile in test_golden_kernel.FILES}
    return found | {f"{group} {profile}" for group in ("rows", "needed") for profile in PROFILES}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.where)
def test_a_mutant_can_be_put_in(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    changed = mutant.apply(text)
    assert changed != text
    if mutant.part is Part.ACCEL:
        compile(changed, mutant.file, "exec")
        assert mutant.what


def test_a_mutant_names_requirements_and_tests() -> None:
    known = requirements()
    there = {Part.SOFTNVMM: names_of_the_hypervisor(), Part.ACCEL: names_of_the_accelerator()}
    for mutant in MUTANTS:
        assert mutant.rows, mutant.where
        assert set(mutant.rows) <= known, mutant.where
        assert mutant.tests, mutant.where
        assert set(mutant.tests) <= there[mutant.part], mutant.where


def test_a_group_of_tests_that_is_not_there_is_an_error() -> None:
    assert all(mutant.nodes() for mutant in MUTANTS)
    with pytest.raises(ValueError, match="no group"):
        node("runs hlt", "here")


def test_every_row_of_the_accelerator_has_a_mutant() -> None:
    rows = {row for mutant in OF[Part.ACCEL] for row in mutant.rows}
    assert rows == {row for row in requirements() if row.startswith("A-")}
    assert len(rows) == 85


def test_every_section_of_the_hypervisor_has_mutants() -> None:
    rows = {row for mutant in OF[Part.SOFTNVMM] for row in mutant.rows}
    assert len(rows) >= 60
    assert {re.sub(r"-\w+$", "", row) for row in rows} == SECTIONS


def test_no_mutant_is_there_twice() -> None:
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


def test_an_old_text_that_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 times"):
        MUTANTS[0].apply("")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> AccelCopy:
    return AccelCopy(tmp_path_factory.mktemp("copy"), Processes())


NAME = next(mutant for mutant in OF[Part.ACCEL] if mutant.tests == ("startup a_init_6_name",))


def test_a_mutant_is_what_the_copys_tests_import(copy: AccelCopy) -> None:
    """Were the installed package imported, it would survive; put back, it does."""
    source = copy.root / NAME.path
    before = source.read_text()
    end = copy.try_out(NAME)
    assert end.verdict is Verdict.KILLED
    assert end.by == "test_accel_startup.py::test_a_init_6_name"
    assert source.read_text() == before
    assert copy.ask(NAME.nodes()).verdict is Verdict.SURVIVED


def test_a_mutant_that_cannot_be_imported_is_killed(copy: AccelCopy) -> None:
    end = copy.try_out(dataclasses.replace(NAME, new='raise RuntimeError("import")\n    name = ""'))
    assert (end.verdict, end.by) == (Verdict.KILLED, "at import")


def test_a_mutant_that_changes_nothing_survives(copy: AccelCopy) -> None:
    end = copy.try_out(dataclasses.replace(NAME, new=f"{NAME.old}  # the same"))
    assert end.verdict is Verdict.SURVIVED


def test_a_mutant_that_is_no_python_is_an_error(copy: AccelCopy) -> None:
    with pytest.raises(BrokenError, match="no Python"):
        copy.try_out(dataclasses.replace(NAME, new="name = ("))


PARENT = """
import subprocess, sys
code = "pipe = open(sys.argv[1], 'w'); pipe.write('x'); pipe.flush()\\nwhile True: pass"
subprocess.run([sys.executable, "-c", "import sys; " + code, sys.argv[1]])
"""


def test_nothing_is_left_of_what_is_stopped(tmp_path: Path) -> None:
    """Neither the program nor what it has started, which holds the pipe's other end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    processes = Processes()
    command = [sys.executable, "-c", PARENT, str(fifo)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(processes.run, command, tmp_path, os.environ, None)
        with fifo.open("rb", buffering=0) as pipe:
            assert pipe.read(1) == b"x"
            processes.stop()
            assert pipe.read() == b""
    assert running.result().returncode == -signal.SIGKILL
    with pytest.raises(StoppedError):
        processes.run([sys.executable, "-c", "pass"], tmp_path, os.environ, None)


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        Processes().run([sys.executable, "-c", "while True: pass"], tmp_path, os.environ, 0.1)
