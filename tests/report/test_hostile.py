# SPDX-License-Identifier: BSD-2-Clause
"""Text from guests and foreign files stays text."""

from __future__ import annotations

import dataclasses
import re
import shlex
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.report import write_report
from nvmmconf.report.text import (
    breakable,
    console,
    duration,
    moment,
    rerun_command,
    shell_quoted,
    slug,
    visible,
)
from nvmmconf.results import Verdict

from .pages import Element, parse
from .samples import sample_run

HOSTILE = [
    "<script>alert(1)</script>",
    "</script></style></pre></title><img src=x onerror=alert(1)>",
    "\"'><b onmouseover='alert(1)'>",
    "<!-- ]]> &lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "a\0b\x1b[31mc\x7f\u202ed\u2028e\udc80f\ng\r\nh",
    "javascript:alert(1)",
    "'; rm -rf / #",
    "",
]


def with_text(value: Any, spoil: Callable[[str], str]) -> Any:
    """`value` with every text in it changed; keys of mappings as well."""
    if isinstance(value, str):
        return spoil(value)
    if isinstance(value, Verdict):
        return value
    if isinstance(value, tuple):
        return tuple(with_text(item, spoil) for item in value)
    if isinstance(value, dict):
        return {spoil(key): with_text(item, spoil) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value)(
            **{f.name: with_text(getattr(value, f.name), spoil) for f in dataclasses.fields(value)}
        )
    return value


def skeleton(page: Element) -> list[tuple[str, tuple[str, ...]]]:
    """Elements with the names of their attributes; without those that only style text."""
    return [
        (element.tag, tuple(element.attributes))
        for element in page.all()
        if element.tag != "wbr" and element.attributes.get("class") != "ctl"
    ]


def reached(folder: Path) -> list[Path]:
    """Every page that can be reached from the index, in the order in which links lead there."""
    found = [folder / "index.html"]
    for path in found:
        for link in parse(path).all("a"):
            name = link.attributes["href"].partition("#")[0]
            goal = (path.parent / name).resolve() if name else path
            if goal not in found:
                found.append(goal)
    return found


@pytest.mark.parametrize("evil", HOSTILE[:-1], ids=range(len(HOSTILE) - 1))
def test_hostile_text_everywhere_leaves_the_pages_as_they_are(tmp_path: Path, evil: str) -> None:
    def harmless(text: str) -> str:
        return f"{text} x"

    def hostile(text: str) -> str:
        return f"{text} {evil}"

    plain, spoilt = tmp_path / "plain", tmp_path / "spoilt"
    write_report([with_text(sample_run(faults=("f",)), harmless)], plain)
    write_report([with_text(sample_run(faults=("f",)), hostile)], spoilt)
    # File names are made from texts, so pages pair up by the order in which others lead to them.
    pairs = list(zip(reached(plain), reached(spoilt), strict=True))
    for one, other in pairs:
        assert skeleton(parse(one)) == skeleton(parse(other))
    assert len(pairs) == len(list(plain.rglob("*.html"))) == len(list(spoilt.rglob("*.html")))
    assert len(pairs) > 15
    for path in spoilt.rglob("*.html"):
        text = path.read_bytes().decode("utf-8")
        assert all(c in "\n\t" or c.isprintable() for c in text)
        assert re.fullmatch(r"[a-z0-9-]+\.html", path.name)
        assert "{{ 7 * 7 }}" in text or "7 * 7" not in evil


def test_every_text_empty(tmp_path: Path) -> None:
    index = write_report([with_text(sample_run(), lambda text: "")], tmp_path)
    for path in (index, *tmp_path.rglob("*.html")):
        parse(path)


@given(st.text(st.characters()))
def test_what_is_visible_is_printable_and_says_what_it_was(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    shown.encode("utf-8")
    if "\\" not in text:
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


@given(st.text(st.characters()))
def test_markup_of_any_text_has_no_markup_of_its_own(text: str) -> None:
    for markup in (console(text), breakable(text)):
        bare = re.sub(r'<wbr>|<span class="ctl">|</span>', "", markup)
        assert "<" not in bare
        assert ">" not in bare
        assert re.sub(r"&(amp|lt|gt|#34|#39);", "", bare).count("&") == 0


@given(st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=200))
def test_slugs_are_safe_and_apart(one: str, other: str) -> None:
    assert re.fullmatch(r"([a-z0-9]+-)*[0-9a-f]{10}", slug(one))
    assert len(slug(one)) <= 80
    assert (slug(one) == slug(other)) == (one == other)


@given(st.text(max_size=30))
def test_a_quoted_word_is_one_word_to_a_shell(word: str) -> None:
    assert shlex.split(shell_quoted(word)) == [word]
    assert shlex.split(rerun_command(word, {"FAULT": word}, ["--nvmm-lib=" + word]))[1:] == [
        "pytest", "--nvmm-lib=" + word, word,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 µs"), (2e-6, "2 µs"), (0.00123, "1.23 ms"), (0.5, "500 ms"), (2.014, "2.01 s"),
     (59.99, "60 s"), (61, "1 min 1 s"), (119.7, "2 min 0 s"), (3600, "60 min 0 s")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("iso", "words"),
    [
        ("2026-11-22T10:15:00Z", "2026-11-22 10:15:00 UTC"),
        ("2026-11-22T10:15:00.123456+00:00", "2026-11-22 10:15:00 UTC"),
        ("2026-11-22T10:15:00+02:00", "2026-11-22T10:15:00+02:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_moments(iso: str, words: str) -> None:
    assert moment(iso) == words
