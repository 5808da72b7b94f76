# SPDX-License-Identifier: BSD-2-Clause
"""The style sheet, held against WCAG's arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nvmmconf.report
from nvmmconf.results import Verdict

STYLE = (Path(nvmmconf.report.__file__).parent / "templates" / "style.css").read_text()


def colours(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    if scheme == "dark":
        changed = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark))
        assert changed.keys() == found.keys()
        found.update(changed)
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXT = [
    (text, ground) for text in ("text", "muted", "link") for ground in ("page", "panel", "mark")
]
TEXT += [
    (verdict, ground)
    for verdict in ("good", "fail", "hang", "crash", "error", "missing")
    for ground in ("page", "mark")
]
TEXT += [("on-fail", "fail"), ("on-hang", "hang"), ("on-crash", "crash"), ("on-warn", "warn")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT)
def test_text_can_be_read(scheme: str, text: str, ground: str) -> None:
    named = colours(scheme)
    assert contrast(named[text], named[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["page", "panel"])
def test_focus_and_controls_can_be_seen(scheme: str, ground: str) -> None:
    named = colours(scheme)
    assert contrast(named["focus"], named[ground]) >= 3
    assert contrast(named["muted"], named[ground]) >= 3


def test_contrast_knows_its_ends() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_every_colour_is_a_name() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", rules)
    assert set(re.findall(r"var\(--([a-z-]+)\)", rules)) == set(colours("light"))


def test_every_verdict_has_a_form() -> None:
    for verdict in Verdict:
        assert f".v-{verdict.value} " in STYLE
        assert f".n-{verdict.value}" in STYLE


def test_no_text_is_smaller_than_15_pixels() -> None:
    sizes = re.findall(r"font(?:-size)?: ?([\d.]+)(rem|em|px|pt)", STYLE)
    assert sizes
    for size, unit in sizes:
        assert float(size) * {"rem": 16, "em": 16, "px": 1, "pt": 96 / 72}[unit] >= 14.6 + (
            0.4 if unit != "pt" else 0
        )
