# SPDX-License-Identifier: BSD-2-Clause
"""What is read off a case before it runs: its guests, its modes, its title, its id."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from pathlib import PurePath

import pytest

from nvmmconf.guest import GuestLibrary, Mode
from nvmmconf.results import Planned
from nvmmconf.suite.marker import cited

BOOT = "boot"
"""`vm.boot("name")` in a case's body names the guest."""


def guests_named(function: Callable[..., object], fixture: str = "vm") -> tuple[str, ...]:
    """Return the guests that a case boots, read from its source: `vm.boot("hlt")`.

    Raises ValueError where it names none, or one by anything but a literal: the
    modes that a case runs in are those of its guests, known before it runs.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        raise ValueError(
            "its source cannot be read: write it as a plain function in cases/"
        ) from None
    names: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if node.func.attr != BOOT or not isinstance(owner, ast.Name) or owner.id != fixture:
            continue
        argument = node.args[0] if node.args else None
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise ValueError(f'its line {node.lineno}: write the name there, vm.boot("hlt")')
        names.append(argument.value)
    if not names:
        raise ValueError('it boots no guest: write vm.boot("name")')
    return tuple(dict.fromkeys(names))


def common_modes(guests: GuestLibrary, names: Iterable[str]) -> tuple[Mode, ...]:
    """Return the modes that every one of the guests supports, in the order of `Mode`.

    Raises GuestError for an unknown guest, ValueError where no mode is left.
    """
    supported = [set(guests.modes(name)) for name in names]
    modes = tuple(mode for mode in Mode if all(mode in one for one in supported))
    if not modes:
        raise ValueError(f"guests {', '.join(names)} have no mode in common")
    return modes


def case_stem(item: pytest.Item) -> str:
    """Return what the ids of a case begin with: `area/name`, `area/Class.name`."""
    chain = item.listchain()
    classes = [one.name.removeprefix("Test") for one in chain if isinstance(one, pytest.Class)]
    return f"{_area(item)}/{'.'.join([*classes, _name(item)])}"


def _area(item: pytest.Item) -> str:
    return PurePath(item.path).stem.removeprefix("test_")


def _name(item: pytest.Item) -> str:
    name: str = getattr(item, "originalname", None) or item.name
    return name.removeprefix("test_")


def planned(item: pytest.Item, target: str) -> Planned:
    """Return the plan of a collected case.

    Its id is `area/name[params]@target`: the file without `test_`, the
    function without it, its parameters without the target.
    """
    stem = case_stem(item)
    callspec = getattr(item, "callspec", None)
    # Only the first: mode and target lead, what follows is the case's own.
    params = callspec.id.replace(f"@{target}", "", 1) if callspec is not None else ""
    bracket = f"[{params}]" if params else ""
    return Planned(
        case=f"{stem}{bracket}@{target}",
        target=target,
        area=_area(item),
        title=_title(item, _name(item)),
        requirements=tuple(row.id for row in cited(item)),
        nodeid=item.nodeid,
    )


def _title(item: pytest.Item, name: str) -> str:
    text = inspect.getdoc(getattr(item, "obj", None)) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph or name.replace("_", " ").capitalize()
