# SPDX-License-Identifier: BSD-2-Clause
"""The list of mutants is sound: each can be put in, and its rows and tests exist.

Whether they are killed is `make mutants`' to say.
"""

from __future__ import annotations

import csv
import re

import pytest

from tests.softnvmm_api import test_api, test_golden, test_golden_kernel
from tests.softnvmm_api.profile_rows import PROFILES

from .mutants import ROOT, SOFT, Mutant, node, read

MUTANTS = read()
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


def every_test() -> set[str]:
    """Every test that a mutant may name."""
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
    text = (ROOT / SOFT / mutant.file).read_text()
    assert mutant.apply(text) != text


def test_a_mutant_names_requirements_and_tests() -> None:
    known, there = requirements(), every_test()
    for mutant in MUTANTS:
        assert mutant.rows, mutant.where
        assert set(mutant.rows) <= known, mutant.where
        assert mutant.tests, mutant.where
        assert set(mutant.tests) <= there, mutant.where


def test_a_group_of_tests_that_is_not_there_is_an_error() -> None:
    assert all(mutant.nodes() for mutant in MUTANTS)
    with pytest.raises(ValueError, match="no group"):
        node("runs hlt", "here")


def test_every_section_has_mutants() -> None:
    rows = {row for mutant in MUTANTS for row in mutant.rows}
    assert len(rows) >= 60
    assert {re.sub(r"-\w+$", "", row) for row in rows} == SECTIONS


def test_no_mutant_is_there_twice() -> None:
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


def test_an_old_text_that_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 times"):
        MUTANTS[0].apply("")
