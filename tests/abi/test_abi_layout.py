# SPDX-License-Identifier: BSD-2-Clause
"""Sizes, offsets, bits and constants: ours, NetBSD's own headers', the binding's, the spec's.

What is compared is what `libnvmm.cdef.h` declares, all of it, as cffi's type
objects list it; nothing is picked by hand.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from abi_probe import Compiler, Member, ProbeError, bit_objects, members

from nvmmconf.abi import ffi, lib

HEADER = Path(__file__).resolve().parents[2] / "nvmmconf" / "softnvmm" / "include" / "nvmm.h"

# binding.c's own, which no header of libnvmm has.
BINDING = {"struct libnvmm", "struct soft_diagnostic", "struct vcpu_box"}

# Declared by libnvmm's header, not by the kernel's (which is what NetBSD's system headers,
# without the library's, hold): size and offsets by spec libnvmm section 3.
POINTER = 8
FIGURES: dict[str, tuple[int, dict[str, int]]] = {
    "struct nvmm_assist_callbacks": (2 * POINTER, {"io": 0, "mem": 8}),
    "struct nvmm_io": (
        40,
        {"mach": 0, "vcpu": 8, "port": 16, "in": 18, "size": 24, "data": 32},
    ),
    "struct nvmm_mem": (
        48,
        {"mach": 0, "vcpu": 8, "gpa": 16, "write": 24, "size": 32, "data": 40},
    ),
    "struct nvmm_machine": (24, {"machid": 0, "pages": 8, "areas": 16}),
    "struct nvmm_vcpu": (
        56,
        {"cpuid": 0, "cbs": 8, "state": 24, "event": 32, "exit": 40, "stop": 48},
    ),
}
TYPEDEF_FIGURES = {"nvmm_prot_t": 8}
CONSTANT_FIGURES = {
    "NVMM_USER_VERSION": 2,
    "NVMM_PROT_READ": 1,
    "NVMM_PROT_WRITE": 2,
    "NVMM_PROT_EXEC": 4,
    "NVMM_PROT_USER": 8,
    "NVMM_PROT_ALL": 0xF,
    "NVMM_VCPU_CONF_CALLBACKS": 0,
}

TYPEDEFS, _structs, _unions = ffi.list_types()
RECORDS = sorted({*(f"struct {n}" for n in _structs), *(f"union {n}" for n in _unions)} - BINDING)
CONSTANTS = sorted(name for name in dir(lib) if name.startswith("NVMM_"))
KERNEL_RECORDS = [name for name in RECORDS if name not in FIGURES]
KERNEL_CONSTANTS = [name for name in CONSTANTS if name not in CONSTANT_FIGURES]
KERNEL_TYPEDEFS = [name for name in TYPEDEFS if name not in TYPEDEF_FIGURES]


def host(version: int) -> Compiler:
    """The host's compiler and our header."""
    name = shutil.which(os.environ.get("CC", "cc"))
    if name is None:
        pytest.skip("no C compiler")
    command = [name, "-std=c11", "-w", f"-I{HEADER.parent}", f"-DNVMM_USER_VERSION={version}"]
    return Compiler(command, ("stddef.h", "nvmm.h"), os.environ)


@pytest.fixture
def netbsd(tmp_path: Path) -> Compiler:
    """A compiler for NetBSD/amd64 with NetBSD's headers."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("no ziglang in this environment: run 'make .venv/.test'")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-netbsd", "-w"]
    # Its caches go where tests may write; there may be no home directory.
    caches = {
        "ZIG_GLOBAL_CACHE_DIR": str(tmp_path / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig"),
    }
    includes = (
        "stddef.h",
        "sys/types.h",
        "sys/param.h",
        "dev/nvmm/nvmm.h",
        "dev/nvmm/nvmm_ioctl.h",
    )
    return Compiler(command, includes, {**os.environ, **caches})


def whole(member: Member) -> bool:
    return not member.is_bits


def layout(compiler: Compiler, records: list[str], where: Path) -> dict[str, int]:
    """Size of each record; offset and size of each member that is no bit-field."""
    expressions = [f"sizeof({name})" for name in records]
    for name in records:
        for member in filter(whole, members(name)):
            expressions += member.expressions
    return compiler.numbers(expressions, where)


def bits(compiler: Compiler, records: list[str], where: Path) -> dict[Member, bytes]:
    wanted = [member for name in records for member in members(name) if member.is_bits]
    return bit_objects(compiler, wanted, where)


def test_every_structure_of_our_header_is_declared_to_the_binding() -> None:
    defined = re.findall(r"^(struct|union) (\w+) \{", HEADER.read_text(), re.MULTILINE)
    assert {f"{kind} {name}" for kind, name in defined} == set(RECORDS)


def test_every_constant_of_our_header_is_declared_to_the_binding() -> None:
    text = HEADER.read_text()
    defined = set(re.findall(r"^#define[ \t]+(NVMM_\w+)[ \t]+\S", text, re.MULTILINE))
    for body in re.findall(r"^enum \{(.*?)\};", text, re.DOTALL | re.MULTILINE):
        defined |= set(re.findall(r"NVMM_\w+", body))
    assert defined - {"NVMM_KERN_VERSION"} == set(CONSTANTS)


def test_layout_is_netbsds(netbsd: Compiler, tmp_path: Path) -> None:
    assert len(KERNEL_RECORDS) >= 20
    theirs = layout(netbsd, KERNEL_RECORDS, tmp_path)
    assert layout(host(2), KERNEL_RECORDS, tmp_path) == theirs
    assert theirs["sizeof(struct nvmm_x64_state)"] == 1008


def test_bit_fields_are_netbsds(netbsd: Compiler, tmp_path: Path) -> None:
    theirs = bits(netbsd, KERNEL_RECORDS, tmp_path)
    assert len(theirs) >= 20
    assert bits(host(2), KERNEL_RECORDS, tmp_path) == theirs


def test_constants_and_typedefs_are_netbsds(netbsd: Compiler, tmp_path: Path) -> None:
    wanted = [
        *KERNEL_CONSTANTS,
        "NVMM_KERN_VERSION",
        *(f"sizeof({name})" for name in KERNEL_TYPEDEFS),
        *(f"({name})-1" for name in KERNEL_TYPEDEFS),  # signed or not
    ]
    assert host(2).numbers(wanted, tmp_path) == netbsd.numbers(wanted, tmp_path)


def test_no_constant_of_netbsds_is_missing(netbsd: Compiler, tmp_path: Path) -> None:
    """Whatever NVMM_* NetBSD's headers define, but for the ioctls and the mmap offset."""
    import ziglang  # type: ignore[import-not-found]

    root = Path(ziglang.__file__).parent / "lib" / "libc" / "include"
    headers = list((root / "x86_64-netbsd-none" / "dev" / "nvmm").rglob("*.h"))
    assert headers
    text = "\n".join(header.read_text() for header in headers)
    text = re.sub(r"^#ifdef _KERNEL\n.*?^#endif", "", text, flags=re.DOTALL | re.MULTILINE)
    theirs = set(re.findall(r"^#define[ \t]+(NVMM_\w+)[ \t]+\S", text, re.MULTILINE))
    ours = {*CONSTANTS, "NVMM_KERN_VERSION"}
    assert {name for name in theirs - ours if not name.startswith("NVMM_IOC_")} == set()


def test_what_is_the_librarys_alone_is_in_no_netbsd_kernel_header(
    netbsd: Compiler, tmp_path: Path
) -> None:
    """The figures below replace the comparison only where there is nothing to compare with."""
    for name in FIGURES:
        with pytest.raises(ProbeError):
            netbsd.numbers([f"sizeof({name})"], tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_the_librarys_structures_are_as_the_spec_says(name: str, tmp_path: Path) -> None:
    size, offsets = FIGURES[name]
    declared = {member.path for member in members(name)}
    # "..." may hide members from the binding, never the reverse.
    assert declared <= set(offsets)
    wanted = [f"sizeof({name})", *(f"offsetof({name}, {path})" for path in offsets)]
    assert list(host(2).numbers(wanted, tmp_path).values()) == [size, *offsets.values()]


def test_the_librarys_constants_are_as_the_spec_says(tmp_path: Path) -> None:
    wanted = [*CONSTANT_FIGURES, *(f"sizeof({name})" for name in TYPEDEF_FIGURES)]
    expected = [*CONSTANT_FIGURES.values(), *TYPEDEF_FIGURES.values()]
    assert list(host(2).numbers(wanted, tmp_path).values()) == expected


def test_version_1_lacks_the_stop_word_and_nothing_else(tmp_path: Path) -> None:
    """L-VER-2: the figures of section 3 for version 1."""
    one, two = (layout(host(version), RECORDS, tmp_path) for version in (1, 2))
    different = {name: (one[name], two[name]) for name in two if one[name] != two[name]}
    # The comm page's stop word lies in what was padding.
    assert different == {"sizeof(struct nvmm_vcpu)": (48, 56)}
    assert bits(host(1), RECORDS, tmp_path) == bits(host(2), RECORDS, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["NVMM_VCPU_EXIT_STOPPED", "offsetof(struct nvmm_vcpu, stop)", "sizeof(&nvmm_vcpu_stop)"],
)
def test_version_1_has_no_stop(name: str, tmp_path: Path) -> None:
    assert host(2).numbers([name], tmp_path)
    with pytest.raises(ProbeError):
        host(1).numbers([name], tmp_path)


def test_the_comm_page_is_as_measured_on_netbsd(netbsd: Compiler, tmp_path: Path) -> None:
    """Spec section 3: offsets that only code mapping the page itself can tell."""
    expected = {
        "offsetof(struct nvmm_comm_page, state)": 32,
        "offsetof(struct nvmm_comm_page, event_commit)": 1040,
        "offsetof(struct nvmm_comm_page, event)": 1048,
        "offsetof(struct nvmm_comm_page, stop)": 1064,
    }
    for compiler in (netbsd, host(2)):
        assert compiler.numbers(list(expected), tmp_path) == expected


@pytest.mark.skipif(
    sys.platform.startswith("netbsd"), reason="the binding is compiled against the system's header"
)
def test_the_binding_agrees(tmp_path: Path) -> None:
    numbers = layout(host(2), RECORDS, tmp_path)
    constants = host(2).numbers(CONSTANTS, tmp_path)
    assert {name: getattr(lib, name) & (1 << 64) - 1 for name in CONSTANTS} == constants
    for name in RECORDS:
        assert ffi.sizeof(name) == numbers[f"sizeof({name})"], name
        for member in filter(whole, members(name)):
            path = member.path.split(".")
            offset, size = (numbers[one] for one in member.expressions)
            assert ffi.offsetof(name, *path) == offset, member
            assert ffi.sizeof(_type_at(name, path)) == size, member
    for member, data in bits(host(2), RECORDS, tmp_path).items():
        assert _with_bits(member) == data, member


def _type_at(name: str, path: list[str]) -> object:
    kind = ffi.typeof(name)
    for step in path:
        kind = dict(kind.fields)[step].type
    return kind


def _with_bits(member: Member) -> bytes:
    record = ffi.new(f"{member.owner} *")
    *parents, last = member.path.split(".")
    place = record
    for step in parents:
        place = getattr(place, step)
    width = (
        dict(ffi.typeof(place).fields)[last].bitsize
        if parents
        else dict(ffi.typeof(member.owner).fields)[last].bitsize
    )
    setattr(place, last, (1 << width) - 1)
    return bytes(ffi.buffer(record))
