# SPDX-License-Identifier: BSD-2-Clause
"""Hypothesis strategies for records, from the dataclasses' own annotations."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from nvmmconf.results import FORMAT, Planned, RunHeader, Verdict

# Everything that Python calls text, lone surrogates and NUL included.
any_text = st.text(st.characters(), max_size=12)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    if kind is str:
        return any_text
    if kind is int:
        return st.integers(-(2**65), 2**65)
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if kind is Verdict:
        return st.sampled_from(Verdict)
    if kind is type(None):
        return st.none()
    if dataclasses.is_dataclass(kind):
        return record(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return st.lists(of_type(arguments[0]), max_size=3).map(tuple)
    if origin is not None and "Mapping" in str(origin):
        return st.dictionaries(any_text, any_text, max_size=3)
    if origin is not UnionType:
        raise TypeError(f"no strategy for {kind}")
    return st.one_of([of_type(argument) for argument in arguments])


def record(kind: Any, **fixed: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    fields = {
        field.name: fixed.get(field.name, of_type(hints[field.name]))
        for field in dataclasses.fields(kind)
    }
    return st.builds(kind, **fields)


headers = record(RunHeader, format=st.just(FORMAT))
plans = st.lists(record(Planned), max_size=5, unique_by=lambda planned: planned.case)
