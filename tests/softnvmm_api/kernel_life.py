# SPDX-License-Identifier: BSD-2-Clause
"""The measured sequence about ids, errnos and mappings ("life") as commands for kernel.c.

Its lines name their arguments in words; here are the numbers.  Machines 0 and 1 exist after
the first steps, and machine 0 has vCPU 0; what another owner or the root owner did is done by
the one owner that a process has.
"""

from __future__ import annotations

from collections.abc import Iterator

from .kernel_guest import Step, number
from .kernel_script import configuration

NONE = (1 << 64) - 1  # kernel.c: hva 0
TOP = 0x2000000000  # max_ram
# The process's memory: 64 KiB mapped first, 64 KiB beside it.
FIRST, SECOND, FREE = 0x100000, 0x110000, 0x180000

BY_ARGS = {
    ("machine_destroy", "unused id 99"): "destroy 63",
    ("machine_destroy", "id 128"): "destroy 80",
    ("machine_destroy", "already destroyed id"): "destroy 62",
    ("machine_destroy", "with live vCPUs"): "destroy 0",
    ("vcpu_create", "vcpu 0 by the root owner on another's machine"): "vcreate 0 0",
    ("vcpu_create", "vcpu 0 exists"): "vcreate 0 0",
    ("vcpu_create", "id == max_vcpus"): "vcreate 0 {max:x}",
    ("vcpu_create", "id == max_vcpus-1"): "vcreate 0 {last:x}",
    ("vcpu_create", "unused machine"): "vcreate 63 0",
    ("vcpu_create", "re-create 0"): "vcreate 0 0",
    ("vcpu_create", "on destroyed machine"): "vcreate 0 1",
    ("vcpu_destroy", "0"): "vdestroy 0 0",
    ("vcpu_destroy", "0 again"): "vdestroy 0 0",
    ("vcpu_run", "destroyed vcpu"): "vrun 0 0",
    ("vcpu_run", "id == max_vcpus"): "vrun 0 {max:x}",
    ("ctl_mach_info", None): "info 0 0 20 0",
    ("ctl_mach_info", "size 8"): "info 0 0 8 0",
    ("ctl", "op 1"): "info 0 1 20 0",
    ("ctl_mach_info", "bad pointer (stub copyin)"): "info 0 0 20 1",
    ("ctl_mach_info", "unused machine"): "info 63 0 20 0",
    ("machine_configure", "op 200"): "mconfigure 0 c8",
    ("machine_configure", "op 0"): "mconfigure 0 0",
    ("vcpu_configure", "op 199 on unused machine"): "configure 63 0 c7 0",
    ("vcpu_configure", "op 200 on unused machine"): "configure 63 0 c8 0",
    ("vcpu_configure", "op 200 on unused vcpu"): "configure 0 5 c8 0",
    ("vcpu_configure", "op 200 bad pointer (stub copyin)"): "configure 0 0 c8 1",
    ("vcpu_configure", "TPR op 201"): "configure 0 0 c9 0",
    ("hva_map", "hva unaligned"): f"hmap 0 {FIRST + 1:x} 1000",
    ("hva_map", "size unaligned"): f"hmap 0 {FIRST:x} 1001",
    ("hva_map", "hva 0"): f"hmap 0 {NONE:x} 1000",
    ("hva_map", "first mapping 64K"): f"hmap 0 {FIRST:x} 10000",
    ("hva_map", "adjacent"): f"hmap 0 {SECOND:x} 10000",
    ("hva_map", "overlap tail"): f"hmap 0 {SECOND + 0xF000:x} 2000",
    ("hva_map", "overlap head"): f"hmap 0 {FIRST - 0x1000:x} 2000",
    ("hva_map", "superset"): f"hmap 0 {FIRST - 0x1000:x} 22000",
    ("hva_map", "same again"): f"hmap 0 {FIRST:x} 10000",
    ("hva_map", "nested"): f"hmap 0 {FIRST + 0x1000:x} 1000",
    ("hva_map", "size 0"): f"hmap 0 {FREE:x} 0",
    ("hva_map", "wraps"): f"hmap 0 {FREE:x} fffffffffffff000",
    ("hva_unmap", "size mismatch"): f"hunmap 0 {FIRST:x} 8000",
    ("gpa_map", "prot 8"): f"gmap 0 {FIRST:x} 0 1000 8",
    ("gpa_map", "prot 0"): f"gmap 0 {FIRST:x} 40000 1000 0",
    ("gpa_map", "gpa unaligned"): f"gmap 0 {FIRST:x} 1 1000 7",
    ("gpa_map", "size unaligned"): f"gmap 0 {FIRST:x} 0 1001 7",
    ("gpa_map", "hva unaligned"): f"gmap 0 {FIRST + 1:x} 0 1000 7",
    ("gpa_map", "hva 0"): f"gmap 0 {NONE:x} 0 1000 7",
    ("gpa_map", "size 0"): f"gmap 0 {FIRST:x} 0 0 7",
    ("gpa_map", "gpa == max_ram"): f"gmap 0 {FIRST:x} {{top:x}} 1000 7",
    ("gpa_map", "ends at max_ram"): f"gmap 0 {FIRST:x} {{page:x}} 1000 7",
    ("gpa_map", "beyond max_ram"): f"gmap 0 {FIRST:x} {{page:x}} 2000 7",
    ("gpa_map", "wraps"): f"gmap 0 {FIRST:x} 1000 fffffffffffff000 7",
    ("gpa_map", "hva not mapped"): f"gmap 0 {FREE:x} 0 1000 7",
    ("gpa_map", "hva spans two mappings"): f"gmap 0 {SECOND - 0x1000:x} 0 2000 7",
    ("gpa_map", "ok"): f"gmap 0 {FIRST:x} 0 4000 7",
    ("gpa_map", "overlaps existing gpa"): f"gmap 0 {SECOND:x} 1000 1000 7",
    ("gpa_map", "alias of one hva"): f"gmap 0 {FIRST:x} 10000 1000 7",
    ("gpa_unmap", "unaligned gpa"): f"gunmap 0 {FIRST:x} 1 1000",
    ("gpa_unmap", "unaligned size"): f"gunmap 0 {FIRST:x} 0 1001",
    ("gpa_unmap", "size 0"): f"gunmap 0 {FIRST:x} 0 0",
    ("gpa_unmap", "gpa == max_ram"): f"gunmap 0 {FIRST:x} {{top:x}} 1000",
    ("gpa_unmap", "ends at max_ram"): f"gunmap 0 {FIRST:x} {{page:x}} 1000",
    ("gpa_unmap", "ends one page below max_ram"): f"gunmap 0 {FIRST:x} {{below:x}} 1000",
    ("gpa_unmap", "nothing mapped"): f"gunmap 0 {FIRST:x} 700000 1000",
    ("gpa_unmap", "part of a mapping"): f"gunmap 0 {FIRST + 0x1000:x} 1000 1000",
}


def line_of(step: Step, max_vcpus: int, max_ram: int) -> list[str]:
    op, args = step["op"], step.get("args")
    if op == "machine_create" and args == "until failure":
        return ["life destroy 1", *["life create"] * 129]
    if op == "machine_create" and "note" in step and "closed" in step["note"]:
        return [*(f"life destroy {i:x}" for i in range(128)), "life create"]
    if op == "machine_create":
        return ["life create"]
    if op == "machine_destroy" and args is None:
        return [f"life destroy {step['machid']:x}"]
    if op == "getstate":
        drop = ["cache 0"] if step["state_cached_before"] == "0x0" else []
        return ["life use 0", "select 0", *drop, f"get {number(step['flags']):x}"]
    if op == "comm_after_vcpu_create":
        return ["life use 0", "select 0", "get 0"]
    if op == "configure_cpuid":
        # The measured program filled 32 entries before the one that it shows failing.
        full = (
            ["life cpuid 0 0 1 0 " + f"{0x100 + i:x}" + " 0" * 8 for i in range(32)]
            if step["ret"] == "ENOBUFS"
            else []
        )
        return [*full, "life cpuid 0 0 " + configuration(step)]
    if op == "vcpu_configure" and args is None:
        return [f"life configure 0 0 {step['cfg_op']:x} 0"]
    if op == "hva_map" and args == "fill slots":
        return [f"life hmap 0 {FREE + 0x1000 * i:x} 1000" for i in range(33)]
    if op == "host_memory_after_machine_destroy":
        return [f"life read {FIRST:x}"]
    if op == "capability":
        return ["life capability"]
    if (op, args) not in BY_ARGS:
        return []
    line = "life " + BY_ARGS[op, args].format(
        max=max_vcpus,
        last=max_vcpus - 1,
        top=max_ram,
        page=max_ram - 0x1000,
        below=max_ram - 0x2000,
    )
    return [line, f"life read {int(line.split()[3], 16):x}"] if "first_word" in step else [line]


def life_commands(steps: list[Step]) -> Iterator[str]:
    capability = steps[0]
    ram = number(capability["max_ram"])
    for step in steps:
        yield f"step {step['step']:x}"
        yield from line_of(step, capability["max_vcpus"], ram)
    yield "life destroy 0"
