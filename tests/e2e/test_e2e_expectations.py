# SPDX-License-Identifier: BSD-2-Clause
"""Known deviations: what is known is not red, what is fixed or matches nothing is."""

from __future__ import annotations

import tomllib

import pytest

from nvmmconf.results import Verdict

from .html import case_page
from .project import Finished, Project

CASES = """
@modes(Mode.LONG64)
@requirement("K-HLT-1")
def test_good(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.HALTED


@modes(Mode.LONG64)
@requirement("K-HLT-1")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_bad(vm: VirtualMachine, n: int) -> None:
    assert vm.boot("hlt").status == n


@modes(Mode.LONG64)
@requirement("K-HLT-1")
def test_mistaken(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").nothing
"""

BAD = """\
# What is wrong with it.
[[known]]
case = "it/bad[*]"
reason = "It never was\\n  right."    # a word
id = "BH-12"
"""

SELECT = ("-k", "not mistaken")


@pytest.fixture(params=["-n0", "-n2"])
def option(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expect(project: Project, text: str, name: str = "v2-svm.toml") -> None:
    path = project.root / "expectations" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def run(project: Project, *arguments: str) -> Finished:
    project.cases(CASES)
    finished = project.pytest("--nvmm-profile=v1-svm", "--nvmm-profile=v2-svm", *arguments)
    finished.told_without_traceback()
    return finished


def verdict(finished: Finished, case: str) -> Verdict:
    return finished.verdicts[f"it/{case}"]


def test_known_is_not_red(project: Project, option: str) -> None:
    expect(project, BAD)
    expect(project, BAD, "v1.toml")
    finished = run(project, option, *SELECT)
    assert finished.status == 0, finished.out
    for target in ("v1-svm", "v2-svm"):
        assert verdict(finished, f"good[long64]@{target}") is Verdict.PASS
        assert verdict(finished, f"bad[long64-3]@{target}") is Verdict.KNOWN
    one = finished.result("it/bad[long64-2]@v2")
    assert one.expectation == "known (BH-12: It never was right.)"
    assert "assert None == 2" in one.ended.message
    assert "Known (BH-12: It never was right.)." in case_page(finished.reports, one.planned.case)
    assert "FAILED" not in finished.out


def test_what_is_not_listed_is_red_still(project: Project) -> None:
    expect(project, BAD)
    finished = run(project, *SELECT)
    assert finished.status == 1
    assert verdict(finished, "bad[long64-1]@v1-svm") is Verdict.FAIL
    assert finished.result("it/bad[long64-1]@v1").expectation == "not as expected"
    assert verdict(finished, "bad[long64-1]@v2-svm") is Verdict.KNOWN


def test_mistake_of_the_suite_is_never_known(project: Project) -> None:
    expect(project, BAD + '[[known]]\ncase = "it/mistaken*"\nreason = "x"\n')
    finished = run(project, "-k", "v2-svm")
    assert finished.status == 1
    assert verdict(finished, "mistaken[long64]@v2-svm") is Verdict.ERROR


def test_unexpected_pass_is_red(project: Project, option: str) -> None:
    expect(project, BAD.replace("bad[*]", "*[*]"))
    finished = run(project, option, "-k", "v2-svm and not mistaken")
    assert finished.status == 1
    one = finished.result("it/good[long64]@v2")
    assert one.ended.verdict is Verdict.FIXED
    assert one.ended.message.startswith("it passes: remove its entry")
    assert one.expectation == "unexpected pass (BH-12: It never was right.)"
    failed = [line for line in finished.out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert "test_good" in failed[0]


def test_entry_that_matches_nothing_is_red(project: Project, option: str) -> None:
    expect(project, BAD + '[[known]]\ncase = "it/gone"\nreason = "x"\n')
    finished = run(project, option, "-k", "v2-svm and not mistaken")
    assert finished.status == 1
    told = "expectations: expectations/v2-svm.toml: no case matches 'it/gone'"
    assert finished.out.count(told) == 1
    # It cannot be told from one case alone.
    one = "cases/test_it.py::test_good[long64@v2-svm]"
    assert run(project, one).status == 0


def test_range_of_versions(project: Project) -> None:
    expect(project, BAD + 'versions = "1"\n')
    assert verdict(run(project, *SELECT), "bad[long64-1]@v2-svm") is Verdict.FAIL


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[known]\n", "expectations/v2-svm.toml: "),
        ('[[known]]\ncase = "a"\n', "entry 1: it has no reason"),
        ('[[known]]\nreason = "a"\n', "entry 1: it has no case"),
        ('[[known]]\ncase = "a"\nreason = "b"\nwhy = "c"\n', "entry 1: unknown ['why']"),
        ('[[known]]\ncase = "a"\nreason = 3\n', "entry 1: reason is no text: 3"),
        ('[[known]]\ncase = "a"\nreason = "b"\nid = "12"\n', "id '12' is none of"),
        ('[[known]]\ncase = "a"\nreason = "b"\nversions = ">1"\n', "versions '>1' is not like"),
        ("[other]\n", "nothing but [[known]]"),
    ],
)
def test_file_that_is_wrong(project: Project, text: str, why: str) -> None:
    expect(project, text)
    finished = run(project)
    assert finished.status == 4
    assert why in finished.err


def read(project: Project, name: str = "v2-svm.toml") -> list[dict[str, str]]:
    content = tomllib.loads((project.root / "expectations" / name).read_text())
    return list(content.get("known", []))


def test_next_baseline_from_nothing(project: Project) -> None:
    finished = run(project, "--nvmm-write-expectations", *SELECT)
    assert f"written: {project.root / 'expectations/v2-svm.toml'}" in finished.out
    rows = read(project)
    assert [row["case"] for row in rows] == [f"it/bad[long64-{n}]" for n in (1, 2, 3)]
    assert rows[0]["reason"].startswith("to be explained: assert None == 1")
    again = run(project, "--nvmm-write-expectations", *SELECT)
    assert again.status == 0
    assert "written:" not in again.out


def test_next_baseline_keeps_what_people_wrote(project: Project) -> None:
    expect(
        project,
        BAD.replace("[*]", "[long64-1]") + '\n[[known]]\ncase = "it/good*"\nreason = "Why."\n',
    )
    run(project, "--nvmm-write-expectations", *SELECT)
    text = (project.root / "expectations/v2-svm.toml").read_text()
    assert text.startswith(BAD.replace("[*]", "[long64-1]"))
    assert '# reason = "Why."' in text
    assert [row["case"] for row in read(project)] == [f"it/bad[long64-{n}]" for n in (1, 2, 3)]
    assert run(project, *SELECT).status == 0


def test_pattern_of_which_some_pass_is_narrowed(project: Project) -> None:
    expect(project, BAD.replace("bad[*]", "*"))
    run(project, "--nvmm-write-expectations", *SELECT)
    rows = read(project)
    assert [row["case"] for row in rows] == [f"it/bad[long64-{n}]" for n in (1, 2, 3)]
    assert {(row["reason"], row["id"]) for row in rows} == {("It never was\n  right.", "BH-12")}
