# SPDX-License-Identifier: BSD-2-Clause
"""The machine as the doctor sees it: one value, so that another machine is other data.

The libnvmm that would be used is not in here: that is opened and asked.
"""

from __future__ import annotations

import grp
import os
import platform
import pwd
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

DEVICE = Path("/dev/nvmm")
"""What libnvmm opens (L-INIT-2)."""

_LIBRARY_FOLDERS = ("/usr/lib", "/lib", "/usr/local/lib", "/usr/pkg/lib")
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Node:
    """A file in /dev as stat(2) tells it; `readable` is for this user (access(2))."""

    mode: int
    owner: str
    group: str
    readable: bool

    @property
    def is_device(self) -> bool:
        """True for a character device."""
        return stat.S_ISCHR(self.mode)

    def in_words(self) -> str:
        """Mode, owner and group, as ls(1) writes them."""
        return f"{stat.filemode(self.mode)} {self.owner}:{self.group}"


@dataclass(frozen=True)
class Surroundings:
    """Everything outside the suite that decides whether it can run."""

    system: str
    """As `uname -s` has it, and so on."""
    release: str
    machine: str
    user: str
    groups: tuple[str, ...]
    """Of this process: those that count when a file is opened."""
    device: Node | None
    """/dev/nvmm, None where there is none."""
    modules: tuple[str, ...] | None
    """Names in the first column of modstat(8); None where there is no such command."""
    processor: str | None
    """What cpuctl(8) or the system says of the first processor; None where it says nothing."""
    libraries: tuple[str, ...]
    """Files named libnvmm.so* where the system's linker looks, links resolved."""
    python: tuple[int, int, int]
    packages: Mapping[str, str | None]
    """Python packages to their versions; None where one is missing."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the tools: PATH, NVMMCONF_AS and so on."""

    @property
    def is_netbsd(self) -> bool:
        """True where the kernel has an NVMM of its own."""
        return self.system == "NetBSD"


def look_around(packages: Sequence[str], device: Path = DEVICE) -> Surroundings:
    """Look at this machine; `packages` are the Python packages to look for.  Changes nothing."""
    uname = platform.uname()
    return Surroundings(
        system=uname.system,
        release=uname.release,
        machine=uname.machine,
        user=_user(os.geteuid()),
        groups=_groups(),
        device=_node(device),
        modules=_modules(_said("modstat")),
        processor=_said("cpuctl", "identify", "0") or _processor(),
        libraries=_libraries(),
        python=sys.version_info[:3],
        packages={name: _version(name) for name in packages},
        environment=dict(os.environ),
    )


def _said(*command: str) -> str | None:
    """What a command prints; None where there is none, or it fails."""
    # The daemons' folder is not in every user's PATH.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/sbin", "/usr/sbin"))
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"LC_ALL": "C", "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _modules(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    rows = [line.split() for line in text.splitlines()]
    return tuple(row[0] for row in rows[1:] if row)  # under a heading


def _processor() -> str | None:
    """Where there is no cpuctl(8): what the system says, in whatever form."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor() or None
    return text.partition("\n\n")[0] or None


def _node(path: Path) -> Node | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Node(found.st_mode, _user(found.st_uid), _group(found.st_gid), os.access(path, os.R_OK))


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # nobody has that number
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _groups() -> tuple[str, ...]:
    return tuple(_group(number) for number in sorted({os.getegid(), *os.getgroups()}))


def _libraries() -> tuple[str, ...]:
    found = (path for folder in _LIBRARY_FOLDERS for path in Path(folder).glob("libnvmm.so*"))
    return tuple(sorted({str(path.resolve()) for path in found if path.exists()}))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
