# SPDX-License-Identifier: BSD-2-Clause
"""What is read off a case before it runs: its guests, its modes, its title, its id."""

from __future__ import annotations

import ast
import enum
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

import pytest

from nvmmconf.guest import GuestLibrary, Mode
from nvmmconf.results import Planned
from nvmmconf.suite.expectations import Expectations
from nvmmconf.suite.marker import cited, level_of

NOTHING = Expectations()

BOOT = ("boot", "prepare")
"""`vm.boot("name")` in a case's body names the guest."""


def guests_named(function: Callable[..., object], fixture: str = "vm") -> tuple[str, ...]:
    """Return the guests that a case boots, read from its source: `vm.boot("hlt")`.

    Raises ValueError where it names one by anything but a literal: the modes
    that a case runs in are those of its guests, known before it runs.
    """
    names: list[str] = []
    for node in _calls(function, fixture):
        argument = node.args[0] if node.args else None
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise ValueError(
                f'its line {node.lineno}: write the name there, vm.boot("hlt"), or use @modes'
            )
        names.append(argument.value)
    return tuple(dict.fromkeys(names))


def _calls(function: Callable[..., object], fixture: str) -> Iterator[ast.Call]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        raise ValueError(
            "its source cannot be read: write it as a plain function in cases/"
        ) from None
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if node.func.attr in BOOT and isinstance(owner, ast.Name) and owner.id == fixture:
            yield node


def case_modes(
    guests: GuestLibrary, function: Callable[..., object], named: tuple[Mode, ...] | None
) -> tuple[Mode, ...]:
    """Return the modes that a case runs in: those of its guests, of those `named` by @modes.

    Raises GuestError for an unknown guest, ValueError where no mode is left or
    nothing says which.
    """
    if named is None:
        names = guests_named(function)
        if not names:
            raise ValueError('nothing says its modes: write vm.boot("name"), or use @modes')
        return common_modes(guests, names)
    try:
        names = guests_named(function)
    except ValueError:
        return named
    if not names:
        return named
    common = common_modes(guests, names)
    left = tuple(mode for mode in named if mode in common)
    if not left:
        raise ValueError(f"guests {', '.join(names)} have none of the modes that it names")
    return left


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


def planned(item: pytest.Item, target: str, expected: Expectations = NOTHING) -> Planned:
    """Return the plan of a collected case; `expected` is what is known of the target.

    Its id is `area/name[params]@target`: the file without `test_`, the
    function without it, its parameters without the target.
    """
    stem = case_stem(item)
    callspec = getattr(item, "callspec", None)
    # Only the first: mode and target lead, what follows is the case's own.
    params = callspec.id.replace(f"@{target}", "", 1) if callspec is not None else ""
    params = params.removeprefix("-")  # a case without a mode
    bracket = f"[{params}]" if params else ""
    return Planned(
        case=f"{stem}{bracket}@{target}",
        target=target,
        area=_area(item),
        title=_title(item, _name(item)),
        requirements=tuple(row.id for row in cited(item)),
        nodeid=item.nodeid,
        level=level_of(item).value,
        known=expected.known(f"{stem}{bracket}"),
    )


def parameter_id(value: object) -> str | None:
    """A parameter's part of an id where pytest's own would not be stable or readable."""
    match value:
        case bool():
            return None
        case enum.Enum() if value.name is not None:  # a Flag without bits has none
            return value.name.lower()
        case int() if abs(value) >= 0x100:
            return f"{value:#x}"
        case bytes():
            return value.hex()
    return None


def _title(item: pytest.Item, name: str) -> str:
    text = inspect.getdoc(getattr(item, "obj", None)) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph or name.replace("_", " ").capitalize()
