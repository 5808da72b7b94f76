# SPDX-License-Identifier: BSD-2-Clause
"""The report as a set of files: links, ids, what a page may ask for, what gets removed."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from nvmmconf.report import ReportError, write_report
from nvmmconf.report.site import Site
from nvmmconf.results import Run

from .pages import Element, parse
from .samples import all_pass, sample_run

OLDER = "20261121T101500Z-0001"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Element]:
    out = tmp_path_factory.mktemp("with a space") / "html"
    runs = [sample_run(), sample_run(OLDER, all_pass, faults=("hlt-rip-not-advanced",))]
    index = write_report(runs, out)
    assert index == out / "index.html"
    return {path: parse(path) for path in out.rglob("*.html")}


def test_there_are_pages_for_each_run_and_for_each_result_that_has_evidence(
    site: dict[Path, Element],
) -> None:
    of_a_run = len(["index", "matrix", "changes", "requirements", "slowest"]) + 3
    with_evidence = 3 + 1 + 1 + 1  # fail, hang, crash, error
    assert len(site) == len(["index", "history"]) + 2 * of_a_run + with_evidence


def test_every_link_leads_to_a_file_and_an_id(site: dict[Path, Element]) -> None:
    ids = {
        path: {e.attributes["id"] for e in p.all() if "id" in e.attributes}
        for path, p in site.items()
    }
    seen = 0
    for path, page in site.items():
        for element in page.all():
            for name in ("href", "src"):
                if name not in element.attributes:
                    continue
                target = urlsplit(element.attributes[name])
                assert not target.scheme, path
                assert not target.netloc, path
                assert not target.query, path
                file = (path.parent / unquote(target.path)).resolve() if target.path else path
                assert file in site, f"{path}: {element.attributes[name]}"
                assert not target.fragment or target.fragment in ids[file]
                seen += 1
    assert seen > 400


def test_every_reference_between_elements_resolves_and_ids_are_unique(
    site: dict[Path, Element],
) -> None:
    for path, page in site.items():
        ids = [e.attributes["id"] for e in page.all() if "id" in e.attributes]
        assert len(ids) == len(set(ids)), path
        for element in page.all():
            for name in ("aria-labelledby", "aria-describedby", "for", "data-copy"):
                for word in element.attributes.get(name, "").split():
                    assert word in ids, f"{path}: {name}={word}"


def test_every_page_can_be_reached_from_the_index(site: dict[Path, Element]) -> None:
    (start,) = [path for path in site if path.parts[-2:] == ("html", "index.html")]
    reached, todo = {start}, [start]
    while todo:
        path = todo.pop()
        for link in site[path].all("a"):
            target = urlsplit(link.attributes["href"]).path
            file = (path.parent / unquote(target)).resolve() if target else path
            if file not in reached:
                reached.add(file)
                todo.append(file)
    assert reached == set(site)


def test_a_page_asks_the_network_for_nothing(site: dict[Path, Element]) -> None:
    for path, page in site.items():
        text = path.read_text()
        assert not re.search(
            r"https?://|//[a-z]|@import|url\(|srcset|@font-face", text.replace("// ", "")
        ), path
        for tag in ("link", "img", "iframe", "object", "embed", "base", "audio", "video", "form"):
            for element in page.all(tag):
                assert tag == "form"
                assert "action" not in element.attributes
        assert all("src" not in script.attributes for script in page.all("script"))


def test_a_page_runs_only_what_its_policy_names(site: dict[Path, Element]) -> None:
    for page in site.values():
        (policy,) = [
            meta.attributes["content"]
            for meta in page.all("meta")
            if meta.attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            digest = hashlib.sha256(page.one(tag).text.encode()).digest()
            assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
        for element in page.all():
            assert "style" not in element.attributes
            assert not any(name.startswith("on") for name in element.attributes)


def test_without_javascript_everything_is_there_and_nothing_is_dead(
    site: dict[Path, Element],
) -> None:
    hidden = {
        element.tag
        for page in site.values()
        for element in page.all()
        if "hidden" in element.attributes
    }
    # What only the script can serve is what only the script unhides.
    assert hidden == {"form", "button"}
    for page in site.values():
        for tag in ("input", "output"):
            assert all(e in page.one("form").all(tag) for e in page.all(tag))


def test_what_assistive_technology_needs_is_there(site: dict[Path, Element]) -> None:
    for path, page in site.items():
        assert page.one("html").attributes["lang"] == "en"
        assert page.one("head").one("title").words, path
        assert len(page.all("h1")) == len(page.all("main")) == 1
        levels = [int(e.tag[1]) for e in page.all() if re.fullmatch(r"h[1-6]", e.tag)]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), path
        for head in page.all("th"):
            assert head.attributes.get("scope") in {"col", "row", "rowgroup"}
        for table in page.all("table"):
            assert table.all("th")
        for nav in page.all("nav"):
            assert nav.attributes["aria-label"]
        # What scrolls can be focused and has a name.
        for box in page.all("div", class_="scroll"):
            assert box.attributes["tabindex"] == "0"
            assert box.attributes["role"] == "region"
        for table in page.all("table"):
            assert any(table in box.all("table") for box in page.all("div", class_="scroll"))


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_same_runs_give_the_same_bytes_and_touch_nothing(tmp_path: Path) -> None:
    runs: list[Run] = [sample_run(), sample_run(OLDER)]
    write_report(runs, tmp_path / "a")
    write_report(runs, tmp_path / "b")
    before = {}
    for name in files(tmp_path / "a") - {".nvmmconf-report.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        before[name] = (tmp_path / "a" / name).stat()
    write_report(runs, tmp_path / "a")
    for name, stat in before.items():
        after = (tmp_path / "a" / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_a_page_that_is_gone_comes_back(tmp_path: Path) -> None:
    write_report([sample_run()], tmp_path)
    before = files(tmp_path)
    gone = next(name for name in sorted(before) if "hlt-halts" in name)
    content = (tmp_path / gone).read_bytes()
    (tmp_path / gone).unlink()
    write_report([sample_run()], tmp_path)
    assert (tmp_path / gone).read_bytes() == content
    assert files(tmp_path) == before


def test_a_run_that_changed_is_written_again(tmp_path: Path) -> None:
    write_report([sample_run(), sample_run(OLDER)], tmp_path / "a")
    write_report([sample_run(), sample_run(OLDER, all_pass)], tmp_path / "a")
    write_report([sample_run(), sample_run(OLDER, all_pass)], tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_stale_pages_go_and_other_files_stay(tmp_path: Path) -> None:
    write_report([sample_run(), sample_run(OLDER)], tmp_path)
    mine = tmp_path / "runs" / OLDER / "notes.html"
    mine.write_text("mine")
    (tmp_path / "CNAME").write_text("mine")
    write_report([sample_run()], tmp_path)
    left = files(tmp_path)
    assert {name for name in left if OLDER in name} == {f"runs/{OLDER}/notes.html"}
    assert "CNAME" in left
    mine.unlink()
    write_report([sample_run(), sample_run(OLDER)], tmp_path)
    write_report([], tmp_path)
    assert files(tmp_path) == {"index.html", "history.html", "CNAME", ".nvmmconf-report.json"}
    assert not (tmp_path / "runs").exists()


def test_an_index_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ReportError, match="not ours"):
        write_report([sample_run()], tmp_path)
    assert files(tmp_path) == {"index.html"}
    assert (tmp_path / "index.html").read_text() == "mine"


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"files": 3, "marks": {}}', '{"files": [3, "../x.html"]}']
)
def test_a_spoilt_manifest_removes_nothing(tmp_path: Path, manifest: str) -> None:
    outside = tmp_path / "x.html"
    outside.write_text("mine")
    out = tmp_path / "out"
    write_report([sample_run()], out)
    (out / ".nvmmconf-report.json").write_text(manifest)
    write_report([], out)
    assert outside.read_text() == "mine"


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "runs").symlink_to(outside)
    with pytest.raises(ReportError, match="leads out"):
        write_report([sample_run()], out)
    assert not any(path.is_file() for path in outside.rglob("*"))


def test_a_report_that_did_not_finish_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    site = Site(tmp_path, ["index.html", "runs/x/index.html"])
    site.put("runs/x/index.html", "half")
    write_report([], tmp_path)
    assert files(tmp_path) == {"index.html", "history.html", ".nvmmconf-report.json"}


@pytest.mark.parametrize(
    "run_id", ["../../evil", "/etc", "", ".", "a b", "x" * 400, "\0", "run\udc80"]
)
def test_a_hostile_run_id_stays_inside(tmp_path: Path, run_id: str) -> None:
    run = sample_run(choose=all_pass)
    run = dataclasses.replace(run, header=dataclasses.replace(run.header, run_id=run_id))
    out = tmp_path / "deep" / "out"
    write_report([run], out)
    assert files(tmp_path) == {f"deep/out/{name}" for name in files(out)}
    (folder,) = (out / "runs").iterdir()
    assert re.fullmatch(r"[a-z0-9-]{1,80}", folder.name)


def test_a_run_that_is_there_twice_is_shown_once(tmp_path: Path) -> None:
    write_report([sample_run(), sample_run()], tmp_path)
    assert len(parse(tmp_path / "index.html").one("table", class_="runs").all("tr")) == 2
