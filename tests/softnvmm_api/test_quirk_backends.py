# SPDX-License-Identifier: BSD-2-Clause
"""A quirk works on the backends that it is of, and on no other.

Three backends: the one of no vendor ("ideal"), AMD's and Intel's, the latter two as NetBSD 10 has
them with every other quirk off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .test_quirks import HOST, play, quirks, scenarios

Client = Callable[..., Path]
BACKENDS = {"neutral": "ideal", "svm": "v2-svm", "vmx": "v2-vmx"}
ANY = frozenset(BACKENDS)
NOT_VMX = frozenset({"neutral", "svm"})
VMX = frozenset({"vmx"})
# Kernel specification 5, 10.1, 11, 12, 14.1: what only one of the drivers does itself, or leaves
# to its hardware; the backend of no vendor takes AMD's way there.
NOT_ANY = {
    "cr0-nw-without-cd": VMX,
    "cr0-pg-off-keeps-long-entry": VMX,
    "cr8-64-bits": VMX,
    "first-entry-failed-for-good": VMX,
    "nmi-page-in-kills": VMX,
    "pae-pdptes-not-loaded": VMX,
    "task-switch-invalid": VMX,
    "efer-mask-only": NOT_VMX,
    "int-n-runs-twice": NOT_VMX,
    "nmi-ready-before-iret": NOT_VMX,
}
# What has to be there for a quirk to have anything to spoil.
NEEDS = {"nmi-page-in-kills": "page-filled-in-by-exit"}


@pytest.mark.parametrize("client", ["plain"], indirect=True)
@pytest.mark.parametrize("quirk", sorted(quirks()))
def test_quirk_works_on_its_backends_only(client: Client, quirk: str, tmp_path: Path) -> None:
    source, _ = scenarios()[quirk]
    program, host = client(source), tmp_path / "host"
    host.write_text(HOST)
    others = [f"-{name}" for name in quirks()] + ([NEEDS[quirk]] if quirk in NEEDS else [])
    works = set()
    for backend, profile in BACKENDS.items():
        without = play(program, quirk, profile, ",".join(others), host)
        assert play(program, quirk, profile, ",".join(others), host) == without
        if play(program, quirk, profile, ",".join([*others, quirk]), host) != without:
            works.add(backend)
    assert works == NOT_ANY.get(quirk, ANY)


def test_the_table_names_quirks() -> None:
    assert set(NOT_ANY) | set(NEEDS) | set(NEEDS.values()) <= set(quirks())
