# SPDX-License-Identifier: BSD-2-Clause
"""Where each requirement is checked: how citations are read, and how many there are."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from nvmmconf.cli import main
from nvmmconf.requirements import coverage, requirements
from nvmmconf.requirements.citations import GOLDEN_FOLDER, c_citations, python_citations

ROOT = Path(__file__).resolve().parents[2]


def test_python_marks_docstrings_and_comments_count(tmp_path: Path) -> None:
    source = tmp_path / "test_one.py"
    source.write_text(
        '"""A-CB-1 up here does not."""\n'
        "# nor K-HLT-2 here\n"
        '@requirement("K-HLT-1", "A-EXIT-6")\n'
        "def test_one() -> None:\n"
        '    """L-IO-1: said."""\n'
        '    name = "L-IO-2"  # L-IO-3 and again L-IO-3\n'
        "def helper() -> None:\n"
        '    """L-IO-4 no."""\n'
    )
    assert [c.id for c in python_citations(source, "one")] == [
        "K-HLT-1",
        "A-EXIT-6",
        "L-IO-1",
        "L-IO-3",
    ]


def test_c_comments_inside_of_tests_count(tmp_path: Path) -> None:
    source = tmp_path / "one.c"
    source.write_text(
        "/* K-HLT-1 no */\n"
        "TEST(first)\n{\n\tcall();\t/* K-HLT-2, K-HLT-3 */\n\tif (x) {\n\t}\n}\n"
        "static void\nhelper(void)\n{\n\t/* K-IO-1 no */\n}\n"
        "ABORTS(second /* K-IO-2 */, call(1, 2))\n"
    )
    assert [(c.id, c.where) for c in c_citations(source, "one.c")] == [
        ("K-HLT-2", "one.c::first"),
        ("K-HLT-3", "one.c::first"),
        ("K-IO-2", "one.c::second"),
    ]


def checkout(root: Path, cited: str) -> Path:
    (root / "cases").mkdir()
    (root / "tests").mkdir()
    (root / "cases" / "test_case.py").write_text(
        f'@requirement("{cited}")\ndef test_case(vm): ...\n'
    )
    return root


def test_an_unknown_id_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = checkout(tmp_path, "K-HLT-99")
    assert coverage(root).errors == ("cases/test_case.py::test_case: no requirement K-HLT-99",)
    assert main(["requirements", "--root", str(root)]) == 1
    assert "K-HLT-99" in capsys.readouterr().err


def test_a_reason_for_what_is_checked_is_an_error(tmp_path: Path) -> None:
    (error,) = coverage(checkout(tmp_path, "K-DEV-1")).errors
    assert error == "reasons.csv: K-DEV-1 is checked by cases/test_case.py::test_case"


def test_measured_cases_count_only_where_a_test_replays_them(tmp_path: Path) -> None:
    root = checkout(tmp_path, "K-HLT-1")
    golden = root / GOLDEN_FOLDER
    golden.mkdir(parents=True)
    with gzip.open(golden / "assist-io.jsonl.gz", "wt") as file:
        for cls in ("single", "df"):
            file.write(json.dumps({"cls": cls}) + "\n")
    assert "L-IO-12" not in coverage(root).citations
    (golden.parent / "test_golden_io.py").write_text('FILES = ["assist-io"]\n')
    assert "L-IO-12" not in coverage(root).citations  # a list, and no test
    (golden.parent / "test_golden_io.py").write_text('FILES = ["assist-io"]\ndef test_all(): ...\n')
    found = coverage(root)
    assert "L-IO-12" in found.citations
    assert "L-IO-4" not in found.citations
    assert "golden.csv: L-IO-4: no nonstr in assist-io" in found.errors


def test_no_checkout_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["requirements", "--root", str(tmp_path)]) == 1
    assert "no checkout" in capsys.readouterr().err


def test_the_command_lists_every_requirement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["requirements", "--root", str(ROOT)]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines}
    assert set(requirements()) <= listed
    assert sum(line.startswith(("accelerator:", "kernel:", "libnvmm:")) for line in lines) == 3


def test_a_listed_script_shows_nothing(tmp_path: Path) -> None:
    root = checkout(tmp_path, "K-HLT-1")
    golden = root / GOLDEN_FOLDER
    golden.mkdir(parents=True)
    with gzip.open(golden / "kernel-svm.jsonl.gz", "wt") as file:
        for script in ("misc.dr.real16", "misc.hwbp.real16", "misc.hwbp.long64", "io.imm.real16"):
            file.write(json.dumps({"script": script}) + "\n")
    (golden.parent / "test_golden_kernel.py").write_text(
        'FILES = ["kernel-svm"]\ndef test_all(): ...\n'
    )

    def listed(*scripts: str) -> Path:
        rows = [{"file": "kernel-svm", "script": script, "step": 1} for script in scripts]
        lines = [json.dumps(row) for row in ({"reasons": {}}, *rows)]
        (golden / "kernel-listed.jsonl").write_text("\n".join(lines))
        copy = tmp_path / f"copy{len(scripts)}"
        shutil.copytree(root, copy)
        return copy

    assert "K-SET-24" in coverage(listed("misc.dr.real16")).citations
    assert "K-SET-24" in coverage(listed("misc.dr.real16", "misc.hwbp.real16")).citations
    gone = listed("misc.dr.real16", "misc.hwbp.real16", "misc.hwbp.long64")
    assert "K-SET-24" not in coverage(gone).citations
    assert "K-IO-1" in coverage(gone).citations


def test_nine_in_ten_are_checked_and_the_rest_has_a_reason() -> None:
    found = coverage(ROOT)
    assert found.errors == ()
    assert found.gaps("K-") == ()
    assert found.gaps("L-") == ()
    ids = [id_ for id_ in requirements() if id_[0] in "KL"]
    assert sum(id_ in found.citations for id_ in ids) >= 0.9 * len(ids)
