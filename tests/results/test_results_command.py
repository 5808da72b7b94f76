# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf results` and `nvmmconf compare`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report.samples import all_pass, of_everything, sample_run

from nvmmconf.cli import main
from nvmmconf.results import Run, Verdict, load_run, save_run

OLDER = "20261121T101500Z-0001"
NEWER = sample_run().header.run_id


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Two runs: all passes, then something of everything."""
    for run in (sample_run(OLDER, all_pass), sample_run()):
        save_run(run, tmp_path / "reports/runs" / run.header.run_id)
    return tmp_path / "reports"


Said = tuple[int, str, str]


@pytest.fixture
def nvmmconf(reports: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run the command: status, output, error output."""

    def run(*words: object) -> Said:
        status = main([*map(str, words), "--reports", str(reports)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out, said.err

    return run


def bad_cases() -> set[str]:
    return {f"{one.planned.case}" for one in sample_run().results if not one.ended.verdict.is_good}


def test_compare_names_exactly_the_regressions_and_exits_with_1(nvmmconf) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = nvmmconf("compare", "previous", "latest")
    assert status == 1
    told = {line.split()[1] for line in out.splitlines() if line.startswith("regression")}
    assert told == bad_cases()
    assert out.splitlines()[-1] == (
        f"{OLDER} -> {NEWER}: 7 regression, 1 otherwise and 10 results as before"
    )


def test_compare_without_a_regression_exits_with_0(nvmmconf) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = nvmmconf("compare", NEWER, OLDER)
    assert status == 0
    assert sum(line.startswith("fixed") for line in out.splitlines()) == 7
    assert nvmmconf("results", "compare", OLDER, OLDER)[0] == 0


def test_compare_takes_files_and_says_what_cannot_be_read(nvmmconf, reports: Path) -> None:  # type: ignore[no-untyped-def]
    file = reports / "runs" / OLDER / "run.jsonl"
    assert nvmmconf("compare", file, "latest")[0] == 1
    for word in ("no-such-run", "2026", __file__):
        status, out, err = nvmmconf("compare", word, "latest")
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert word in err


def test_list_has_a_line_a_run(nvmmconf) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = nvmmconf("results", "list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (status, [row[0] for row in rows]) == (0, [NEWER, OLDER])
    assert rows[1][-1] == "18 pass"
    assert rows[0][2] == "v1-svm,v2-svm"


def test_show_tells_what_is_not_as_required_beside_earlier_runs(nvmmconf) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = nvmmconf("results", "show")
    assert status == 0
    shown = [line for line in out.splitlines() if f"regression since {OLDER}" in line]
    assert len(shown) + sum("not as expected" in line for line in out.splitlines()) == 7
    assert {line.split()[0] for line in shown} <= bad_cases()


def test_import_twice_is_one_run(nvmmconf, reports: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = sample_run("20261120T000000Z-feed")
    file = save_run(run, tmp_path / "from afar")
    for words in ("imported", "is here already"):
        status, out, _ = nvmmconf("results", "import", file)
        assert (status, out) == (0, f"run {run.header.run_id} {words}: 18 results\n")
    assert load_run(reports / "runs" / run.header.run_id) == run
    assert len(nvmmconf("results", "list")[1].splitlines()) == 3


def test_import_of_another_run_of_the_same_id_is_refused(
    nvmmconf,
    reports: Path,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    before = (reports / "runs" / NEWER / "run.jsonl").read_bytes()
    file = save_run(sample_run(choose=all_pass), tmp_path / "other")
    status, _, err = nvmmconf("results", "import", file)
    assert status == 1
    assert f"there is another run {NEWER} already" in err
    assert (reports / "runs" / NEWER / "run.jsonl").read_bytes() == before


def spoilt(run: Run, folder: Path, how: str) -> Path:
    path = save_run(run, folder)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    header = json.loads(lines[0])
    match how:
        case "half":
            data = data[:-100]
        case "no ends":
            data = b"".join(lines[:19])
        case "format":
            data = json.dumps(header | {"format": 99}).encode() + b"\n"
        case "id":
            data = json.dumps(header | {"run_id": "../../evil"}).encode() + b"\n"
        case "foreign":
            data = b'{"some": "thing"}\n'
        case "empty":
            data = b""
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", ["half", "no ends", "format", "id", "foreign", "empty"])
def test_import_of_what_is_no_whole_run_keeps_nothing(
    nvmmconf,
    reports: Path,
    tmp_path: Path,
    how: str,  # type: ignore[no-untyped-def]
) -> None:
    before = nvmmconf("results", "list")[1]
    files = set(tmp_path.rglob("*"))
    path = spoilt(sample_run("20261120T000000Z-feed"), tmp_path / "other", how)
    status, out, err = nvmmconf("results", "import", path)
    assert (status, out) == (1, "")
    assert str(path) in err
    assert len(err.splitlines()) == 1
    assert nvmmconf("results", "list")[1] == before
    assert set(tmp_path.rglob("*")) - files == {path, path.parent}


def test_export_and_import_give_the_run_back(nvmmconf, reports: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "out.jsonl"
    assert nvmmconf("results", "export", NEWER[:-2], "-o", file)[0] == 0
    assert load_run(file) == sample_run()


def test_export_of_the_other_forms(nvmmconf, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "out.xml"
    assert nvmmconf("results", "export", "--format", "junit", "-o", file)[0] == 0
    assert len(list(ElementTree.parse(file).iter("testcase"))) == 18
    assert nvmmconf("results", "export", "--format", "tap", "-o", file)[0] == 0
    assert file.read_text().startswith("TAP version 14\n1..18\n")


def test_prune_keeps_verdicts_unless_told_to_forget(nvmmconf, reports: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = nvmmconf("results", "prune", "--keep", "1")
    assert (status, out) == (0, f"removed the records of {OLDER}\n")
    assert [path.name for path in (reports / "runs").iterdir()] == [NEWER]
    assert nvmmconf("compare", "previous", "latest")[0] == 1
    status, _, err = nvmmconf("results", "export", OLDER)
    assert status == 1
    assert "were pruned" in err
    assert nvmmconf("results", "prune", "--keep", "1", "--forget")[0] == 0
    assert len(nvmmconf("results", "list")[1].splitlines()) == 1


def test_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "list", "--reports", str(tmp_path / "none")]) == 1
    assert "run the cases" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_samples_have_what_is_counted_here() -> None:
    verdicts = [of_everything(one.planned.case.rpartition("@")[0], one.planned.target)
                for one in sample_run().results]  # fmt: skip
    assert sum(not verdict.is_good for verdict in verdicts) == 7
    assert verdicts.count(Verdict.UNSUPPORTED) == 1
