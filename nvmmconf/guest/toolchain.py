# SPDX-License-Identifier: BSD-2-Clause
"""The assembler, the linker and objcopy: where they are, and running them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import GuestError

_TIMEOUT = 120.0  # seconds; only a hung tool takes this long


@dataclass(frozen=True)
class Toolchain:
    """Full paths of the three tools."""

    assembler: str
    linker: str
    objcopy: str

    @classmethod
    def find(cls, environment: Mapping[str, str] | None = None) -> Toolchain:
        """The tools that NVMMCONF_AS, NVMMCONF_LD and NVMMCONF_OBJCOPY name, or else
        `as`, `ld` and `objcopy` in PATH.

        Raises GuestError with the package to install where one is missing.
        """
        known = os.environ if environment is None else environment
        return cls(
            assembler=_find("as", "NVMMCONF_AS", known),
            linker=_find("ld", "NVMMCONF_LD", known),
            objcopy=_find("objcopy", "NVMMCONF_OBJCOPY", known),
        )

    def versions(self) -> str:
        """What the tools say about themselves, a line each; GuestError if one cannot."""
        lines = []
        for tool in (self.assembler, self.linker, self.objcopy):
            done = run_tool([tool, "--version"], Path.cwd())
            if done.returncode != 0:
                raise GuestError(
                    f"{tool}: '--version' fails: is it from GNU binutils?", done.output
                )
            lines.append(done.output.partition("\n")[0])
        return "\n".join(lines)


@dataclass(frozen=True)
class Finished:
    """How a tool ended, and all that it printed."""

    returncode: int
    output: str


def _find(name: str, variable: str, environment: Mapping[str, str]) -> str:
    wanted = environment.get(variable) or name
    found = shutil.which(wanted, path=environment.get("PATH", os.defpath))
    if found is None:
        said = f"{variable}={wanted}" if variable in environment else f"'{name}'"
        raise GuestError(
            f"{said} not found, needed to build guests: install binutils "
            f"(Debian: apt install binutils; NetBSD: the 'comp' set), or point {variable} at one"
        )
    return str(Path(found).absolute())


def run_tool(command: Sequence[str], folder: Path) -> Finished:
    """Run `command` in `folder`, its messages in English.

    Raises GuestError where it cannot be started or does not end.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise GuestError(f"{command[0]}: cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise GuestError(f"{command[0]}: did not end within {_TIMEOUT:.0f} s") from None
    return Finished(done.returncode, done.stdout)
