# SPDX-License-Identifier: BSD-2-Clause
"""System, processor, Python and its packages, the assembler."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nvmmconf.doctor.findings import Finding, note, ok, problem
from nvmmconf.doctor.surroundings import Surroundings

OLDEST_PYTHON = (3, 11)

PACKAGES = {
    "capstone": "devel/py-capstone",
    "cattrs": "devel/py-cattrs",
    "cffi": "devel/py-cffi",
    "jinja2": "textproc/py-jinja2",
    "pyelftools": "devel/py-pyelftools",
    "pytest": "devel/py-test",
    "pytest-xdist": "devel/py-test-xdist",
    "rich": "comms/py-rich",
}
"""What the suite needs of Python, and where pkgsrc has it."""

_FIRST_RELEASE = 9
_NVMM_VERSIONS = {9: 1, 10: 2}
"""The NVMM of a NetBSD release (L-VER-1, L-VER-2)."""

_MACHINES = ("amd64", "x86_64")
_ANOTHER_SYSTEM = "NetBSD's own NVMM is tested on NetBSD/amd64 9 or newer"


def netbsd_major(release: str) -> int | None:
    """`10` of `10.1_STABLE`; None where it does not begin with a number."""
    found = re.match(r"[0-9]+", release)
    return int(found[0]) if found else None


def system(around: Surroundings) -> Finding:
    """The operating system, and the NVMM that its release has."""
    name = f"{around.system} {around.release}, {around.machine}"
    if around.machine not in _MACHINES:
        return problem(
            "system",
            f"{name}: NVMM and its guests are x86-64",
            "use a machine whose uname -m is amd64 or x86_64",
        )
    if not around.is_netbsd:
        return ok("system", f"{name}: not NetBSD; {_ANOTHER_SYSTEM}")
    major = netbsd_major(around.release)
    if major is None:
        return note("system", f"{name}: a release of NetBSD that begins with no number")
    if major < _FIRST_RELEASE:
        return note(
            "system",
            f"{name}: NVMM first came with NetBSD {_FIRST_RELEASE}",
            f"upgrade to NetBSD {_FIRST_RELEASE} or newer, or use softnvmm: --nvmm-lib bundled",
        )
    if major not in _NVMM_VERSIONS or ".99." in around.release:
        return ok("system", f"{name}: newer than NetBSD 10; the kernel tells its NVMM version")
    return ok("system", f"{name}: has NVMM version {_NVMM_VERSIONS[major]}")


def processor(around: Surroundings, *, opened: bool) -> Finding:
    """Vendor and hardware virtualisation; only NetBSD's kernel needs that.

    `opened`: the kernel's NVMM answers, so whatever is needed is there.
    """
    text = around.processor
    if text is None:
        if not around.is_netbsd:
            return ok("processor", "unknown; softnvmm needs no hardware virtualisation")
        return note("processor", "unknown: 'cpuctl identify 0' says nothing", "run it as root")
    vendor = "another vendor's"
    if re.search(r"AuthenticAMD|HygonGenuine|\bAMD\b", text):
        vendor = "AMD"
    elif re.search(r"GenuineIntel|\bIntel\b", text):
        vendor = "Intel"
    found = re.search(r"\b(svm|vmx)\b", text, re.IGNORECASE)
    feature = found[0].upper() if found else ""
    if not around.is_netbsd:
        return ok("processor", f"{vendor}; softnvmm needs no hardware virtualisation")
    if feature:
        return ok("processor", f"{vendor}, with {feature}")
    judge = note if opened else problem
    return judge(
        "processor",
        f"{vendor}; 'cpuctl identify 0' names neither SVM (AMD) nor VMX (Intel)",
        "switch virtualisation on in the firmware's setup: SVM, AMD-V or VT-x",
        "Intel: nvmm(4) needs EPT and unrestricted guests, which is Westmere or newer",
        "in a virtual machine: allow nested virtualisation on its host",
    )


def python(around: Surroundings) -> Iterator[Finding]:
    """Python and its packages."""
    version = ".".join(map(str, around.python))
    prefix = f"py{around.python[0]}{around.python[1]}"
    if around.python[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield problem(
            "python",
            f"{version}, and {wanted} is needed",
            _install(around, f"python{wanted.replace('.', '')}", "python3"),
        )
        prefix = f"py{wanted.replace('.', '')}"
    else:
        yield ok("python", version)
    missing = [name for name in PACKAGES if around.packages.get(name) is None]
    if not missing:
        yield ok("packages", ", ".join(f"{name} {around.packages[name]}" for name in PACKAGES))
        return
    places = [PACKAGES[name] for name in missing]
    names = [prefix + place.partition("/py")[2] for place in places]
    advice = [f"in the environment that make makes: pip install {' '.join(missing)}"]
    if around.is_netbsd:
        advice.insert(0, f"pkgin install {' '.join(names)} (pkgsrc: {', '.join(places)})")
    yield problem("packages", f"missing: {', '.join(missing)}", *advice)


def _install(around: Surroundings, pkgsrc: str, debian: str) -> str:
    if around.is_netbsd:
        return f"pkgin install {pkgsrc}"
    return f"install it: Debian: apt-get install {debian}"


def assembler(around: Surroundings) -> Finding:
    """What guests are built with; only what `nvmmconf.guest.toolchain` needs."""
    try:
        from nvmmconf.guest import GuestError
        from nvmmconf.guest.toolchain import Toolchain
    except ImportError as error:
        return problem("assembler", f"not looked for: {error}", "install the packages first")
    try:
        versions = Toolchain.find(around.environment).versions().splitlines()
    except GuestError as error:
        return problem("assembler", str(error).partition("\n")[0])
    return ok("assembler", "; ".join(versions))
