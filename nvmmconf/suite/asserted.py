# SPDX-License-Identifier: BSD-2-Clause
"""Whether a case reached an assertion: one that did not has no verdict.

An `assert` that nothing can jump over is seen in the source.  Where all of
them stand in a loop, under a condition or in another function of the file, the
case is run with a line tracer.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_ASSERTING = ("raises", "fail", "expect_errno", "warns")
"""Calls that are assertions, by their last name; `pytest.raises`."""


@functools.lru_cache(maxsize=256)
def _module(path: str) -> ast.Module:
    try:
        return ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


@functools.lru_cache(maxsize=256)
def _assert_lines(path: str) -> frozenset[int]:
    return frozenset(
        node.lineno
        for node in ast.walk(_module(path))
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and _asserts(node))
    )


def _asserts(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _ASSERTING


@functools.lru_cache(maxsize=4096)
def always_asserts(code: CodeType) -> bool:
    """True where the function cannot end well without having passed an assertion."""
    for node in ast.walk(_module(code.co_filename)):
        if not isinstance(node, ast.FunctionDef) or node.name != code.co_name:
            continue
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        if first == code.co_firstlineno:
            return _block_asserts(node.body)
    return False


def _block_asserts(body: list[ast.stmt]) -> bool:
    for statement in body:
        if isinstance(statement, ast.Assert):
            return True
        if isinstance(statement, ast.With):
            calls = [one.context_expr for one in statement.items]
            if any(isinstance(call, ast.Call) and _asserts(call) for call in calls):
                return True
            if _block_asserts(statement.body):
                return True
        if any(isinstance(inner, ast.Return) for inner in ast.walk(statement)):
            return False
    return False


class Reached:
    """How many assertions were reached under `watching`."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def watching(function: Callable[..., object] | None) -> Iterator[Reached]:
    """Within this context, count the assertions that `function` and its file reach."""
    reached = Reached()
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None or always_asserts(code) or sys.gettrace() is not None:
        reached.count = 1  # it has one, or a debugger is at work
        yield reached
        return
    path, lines = code.co_filename, _assert_lines(code.co_filename)

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_lineno in lines:
            reached.count += 1
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename == path else None

    sys.settrace(call)
    try:
        yield reached
    finally:
        sys.settrace(None)
