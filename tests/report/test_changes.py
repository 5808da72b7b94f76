# SPDX-License-Identifier: BSD-2-Clause
"""Runs beside earlier ones on the pages, the other pages of a run, and the kill matrix."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvmmconf.report import Store, write_report, write_site
from nvmmconf.report.chart import charts
from nvmmconf.results import Requirement, ResultsError, Run, Verdict
from nvmmconf.results.history import History, PastRun
from nvmmconf.results.kills import FaultRow, KilledBy, KillTable

from .pages import Element, parse
from .samples import REQUIREMENTS, all_pass, of_everything, sample_run

FIRST, SECOND, THIRD = (f"2026112{day}T101500Z-0001" for day in (0, 1, 2))
WORSE = {
    "hlt/halts[real16]",
    "hlt/halts[long64]",
    "hlt/resumes[real16]",
    "pio/rep-outs[long64]",
    "shutdown/triple[real16]",
}


def sentences(page: Element) -> list[str]:
    return [item.words for item in page.one("ul", class_="changed").all("li")]


def names(table: Element) -> set[str]:
    return {row.one("th").words for row in table.one("tbody").all("tr")}


def test_the_overview_names_exactly_what_got_worse(tmp_path: Path) -> None:
    index = write_report([sample_run(SECOND), sample_run(FIRST, all_pass)], tmp_path)
    worse, other = sentences(parse(index))
    count, _, named = worse.partition(" cases have got worse: ")
    assert (count, set(named.rstrip(".").split(", "))) == ("5", WORSE)
    assert other == "1 case has another verdict."
    changes = parse(tmp_path / f"runs/{SECOND}/changes.html")
    assert names(changes.all("table", class_="changes")[0]) == WORSE
    back = sentences(parse(tmp_path / f"runs/{FIRST}/index.html"))
    assert back == ["There is no earlier run of these targets to compare with."]


def test_a_fix_is_named_and_a_repetition_is_not(tmp_path: Path) -> None:
    runs = [sample_run(THIRD, all_pass), sample_run(SECOND), sample_run(FIRST)]
    fixed, *_ = sentences(parse(write_report(runs, tmp_path)))
    assert fixed.startswith("5 cases are as required again: ")
    assert sentences(parse(tmp_path / f"runs/{SECOND}/index.html")) == [
        "Every verdict is what it was."
    ]


def test_new_and_gone(tmp_path: Path) -> None:
    whole = sample_run(FIRST, all_pass)
    part = Run(sample_run(SECOND, all_pass).header, whole.results[2:])
    assert sentences(parse(write_report([part, whole], tmp_path / "a"))) == ["1 case is gone."]
    newer = sample_run(SECOND, all_pass)
    older = Run(whole.header, whole.results[:-4])
    assert sentences(parse(write_report([newer, older], tmp_path / "b"))) == ["2 cases are new."]


def test_an_area_that_did_not_run_is_not_gone(tmp_path: Path) -> None:
    whole = sample_run(FIRST, all_pass)
    hlt = [one for one in whole.results if one.planned.area == "hlt"]
    part = Run(sample_run(SECOND, all_pass).header, tuple(hlt))
    index = write_report([part, whole], tmp_path)
    assert sentences(parse(index)) == ["Every verdict is what it was."]


def test_a_run_with_seeded_faults_is_nobody_s_past(tmp_path: Path) -> None:
    faulty = sample_run(SECOND, faults=("f",))
    runs = [sample_run(THIRD, all_pass), faulty, sample_run(FIRST, all_pass)]
    assert sentences(parse(write_report(runs, tmp_path))) == ["Every verdict is what it was."]
    worse, _ = sentences(parse(tmp_path / f"runs/{SECOND}/index.html"))
    assert worse.startswith("5 cases have got worse")


def test_a_section_tells_how_a_verdict_stands(tmp_path: Path) -> None:
    write_report([sample_run(SECOND), sample_run(FIRST, all_pass)], tmp_path)
    (path,) = (tmp_path / "runs" / SECOND).glob("area-hlt-*.html")
    page = parse(path)
    section = next(one for one in page.all("section", class_="case")
                   if one.one("h2").words == "hlt/resumes[real16]")  # fmt: skip
    (row,) = section.one("table", class_="lines").one("tbody").all("tr")
    assert row.all("td")[0].words == "hang"
    assert "stopped after 2 s" in row.all("td")[1].words
    assert row.all("td")[2].words == f"regression since {FIRST}"
    assert "pass on v2-svm." in section.words
    assert REQUIREMENTS[0].text in section.words
    assert REQUIREMENTS[0].source in section.words
    assert "pytest 'cases/test_hlt.py::test_resumes[real16-v1-svm]'" in section.one("pre").words


def test_each_case_has_a_section_under_its_anchor(tmp_path: Path) -> None:
    write_report([sample_run()], tmp_path)
    folder = tmp_path / "runs" / sample_run().header.run_id
    matrix = parse(folder / "matrix.html")
    for row in (row for table in matrix.all("table", class_="cases") for row in table.all("tr")):
        if "id" in row.attributes:
            name = row.one("a", class_="name")
            page, _, anchor = name.attributes["href"].partition("#")
            assert anchor == row.attributes["id"]
            section = parse(folder / page).one("section", id=anchor)
            assert section.one("h2").words == name.words


def test_requirements_with_their_results_and_those_without(tmp_path: Path) -> None:
    run = sample_run()
    other = Requirement("K-OTHER-1", "Nobody proves this.", "other", "somewhere")
    with History(None) as history:
        history.add(run)
        write_site(Store(history, lambda past: run, requirements=(*REQUIREMENTS, other)), tmp_path)
    page = parse(tmp_path / "runs" / run.header.run_id / "requirements.html")
    # One is cited that no table has.
    assert page.one("p", class_="lead").words == "The cases of this run cite 4 requirements of 5."
    rows = {
        row.one("th").words: row
        for table in page.all("table", class_="requirements")
        for row in table.one("tbody").all("tr")
    }
    assert set(rows) == {"K-HLT-1", "A-EXIT-6", "K-IO-2", "K-SHUT-9", "K-OTHER-1"}
    assert rows["A-EXIT-6"].all("td")[2].words == "3 fail 1 pass"
    assert "Nobody proves this." in page.one("details", id="uncited").words


def test_the_slowest_come_first(tmp_path: Path) -> None:
    write_report([sample_run()], tmp_path)
    page = parse(tmp_path / "runs" / sample_run().header.run_id / "slowest.html")
    rows = page.one("table", class_="slowest").one("tbody").all("tr")
    assert [rows[0].words.split()[0], rows[0].all("td")[-1].words] == [
        "hlt/resumes[real16]v1-svmhang2.01",
        "2.01 s",
    ]
    values = [float(row.all("td")[-1].attributes["data-value"]) for row in rows]
    assert values == sorted(values, reverse=True)


KILLS = KillTable(
    "2026-11-22T10:15:00+00:00", False, ("ideal",), 9, ("hlt", "pio"),
    (
        FaultRow("hlt-rip", "HLT leaves RIP.", 3, 0.5, (KilledBy("hlt/halts@ideal", "hlt", "no"),)),
        FaultRow("io-twice", "OUT happens twice.", 9, 1.0, ()),
    ),
)  # fmt: skip


def test_the_kill_matrix_tells_who_noticed_and_what_survived(tmp_path: Path) -> None:
    run = sample_run()
    with History(None) as history:
        history.add(run)
        write_site(Store(history, lambda past: run, kills=KILLS), tmp_path)
    page = parse(tmp_path / "faults.html")
    assert "1 of 2 faults were noticed by 9 cases" in page.one("p", class_="lead").words
    assert page.one("div", role="note").words == "Nothing noticed io-twice."
    rows = page.one("table", class_="kills").one("tbody").all("tr")
    assert [cell.words for cell in rows[0].all("td")] == ["1", "·", "hlt/halts@idealno"]
    assert rows[1].all("td")[-1].words == "survived"
    for path in tmp_path.rglob("*.html"):
        links = {a.attributes["href"].rpartition("/")[2] for a in parse(path).all("a")}
        assert "faults.html" in links


def test_without_faults_there_is_no_kill_matrix(tmp_path: Path) -> None:
    write_report([sample_run()], tmp_path)
    assert not (tmp_path / "faults.html").exists()
    assert "faults.html" not in (tmp_path / "index.html").read_text()


def past_runs(*runs: Run) -> tuple[PastRun, ...]:
    with History(None) as history:
        for run in runs:
            history.add(run)
        return history.runs()


def test_a_chart_has_a_bar_a_run_whose_parts_add_up(tmp_path: Path) -> None:
    runs = past_runs(sample_run(FIRST, all_pass), sample_run(SECOND),
                     sample_run(THIRD, faults=("f",)))  # fmt: skip
    one, other = charts(runs)
    assert [one.target, other.target] == ["v1-svm", "v2-svm"]
    assert [bar.run_id for bar in one.bars] == [FIRST, SECOND]
    assert one.bars[1].words == f"{SECOND}: 5 passed, 1 unsupported, 3 not as required"
    for bar in one.bars:
        assert sum(piece.height for piece in bar.pieces) == pytest.approx(96, abs=0.1)


def test_old_runs_are_not_read_again(tmp_path: Path) -> None:
    """Nor any, where nothing changed; and what is written is the same."""
    runs = {run.header.run_id: run for run in (sample_run(FIRST, all_pass), sample_run(SECOND))}
    loaded: list[str] = []

    def load(past: PastRun) -> Run:
        loaded.append(past.header.run_id)
        return runs[past.header.run_id]

    with History(None) as history:
        for run in runs.values():
            history.add(run)
        write_site(Store(history, load), tmp_path)
        assert sorted(loaded) == [FIRST, SECOND]
        loaded.clear()
        write_site(Store(history, load), tmp_path)
        assert loaded == []
        runs[THIRD] = sample_run(THIRD)
        history.add(runs[THIRD])
        write_site(Store(history, load), tmp_path)
        assert loaded == [THIRD]
    write_report([runs[THIRD], runs[SECOND], runs[FIRST]], tmp_path / "anew")
    for path in (tmp_path / "anew").rglob("*.html"):
        assert path.read_bytes() == (tmp_path / path.relative_to(tmp_path / "anew")).read_bytes()


def test_a_run_without_records_is_in_the_history_alone(tmp_path: Path) -> None:
    older, newer = sample_run(FIRST, all_pass), sample_run(SECOND)

    def load(past: PastRun) -> Run:
        if past.header.run_id == FIRST:
            raise ResultsError(tmp_path, None, "pruned")
        return newer

    with History(None) as history:
        history.add(older)
        history.add(newer)
        store = Store(history, load, has=lambda past: past.header.run_id == SECOND)
        write_site(store, tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [SECOND]
    rows = parse(tmp_path / "history.html").one("table", class_="runs").one("tbody").all("tr")
    assert [row.one("th").words for row in rows] == [SECOND, FIRST]
    assert [len(row.all("a")) for row in rows] == [1, 0]
    assert "5 cases have got worse" in sentences(parse(tmp_path / "index.html"))[0]


def test_too_many_failures_have_the_most_severe_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvmmconf.report.model.MOST_EVIDENCE", 2)
    write_report([sample_run()], tmp_path)
    folder = tmp_path / "runs" / sample_run().header.run_id
    told = [path.name for path in folder.glob("*.html") if parse(path).all("p", class_="message")]
    assert len(told) == 2
    assert all(name.startswith(("shutdown-triple", "pio-rep-outs")) for name in told)
    assert "4 results have no page of evidence" in parse(folder / "matrix.html").words
    assert of_everything("pio/rep-outs[long64]", "v2-svm") is Verdict.CRASH
