# SPDX-License-Identifier: BSD-2-Clause
"""Several vCPUs of one machine, a thread each: SDM 3A chapter 8 (memory order, locked operations,
start-up by INIT and SIPI), chapter 10 (interrupts between processors); libnvmm(3)
nvmm_vcpu_create, nvmm_vcpu_run: each vCPU has a state of its own, memory is everybody's."""

from __future__ import annotations

import struct
import threading
import time

import pytest
from raw_bench import PASSING, START, Exit, RawGuest, enter

from nvmmconf.suite import (
    PAGE_SIZE,
    ExitReason,
    Gpr,
    HostMemory,
    Libnvmm,
    MemoryExit,
    Mode,
    Msr,
    PreparedGuest,
    Prot,
    Segment,
    StateFlag,
    Stop,
    Vcpu,
    VirtualMachine,
    check,
    modes,
    requirement,
)

both = modes(Mode.PROT32, Mode.LONG64)

WORK = 0x40000
"""Where the guests of this file keep what they share; zero at first."""
IDT = 0x48000
STACKS = 0x50000
"""Top of the first vCPU's stack; 0x1000 between two."""


def words(guest: PreparedGuest, gpa: int, count: int) -> tuple[int, ...]:
    """Doublewords of the guest's memory."""
    return struct.unpack(f"<{count}I", guest.memory(gpa, 4 * count))


def prepare(vm: VirtualMachine, source: str, count: int, **gates: str) -> PreparedGuest:
    """`count` vCPUs: the first at `start`, the others at `other`; number in EBP, own stacks.

    `gates` are handlers: `v41="handler"`.
    """
    guest = vm.prepare_code(source, vcpus=count)
    for vector, label in gates.items():
        offset, selector = guest.symbol(label), 8
        gate = struct.pack("<HHBBH", offset & 0xFFFF, selector, 0, 0x8E, offset >> 16)
        size = 8 if vm.mode is Mode.PROT32 else 16
        guest.write(IDT + size * int(vector[1:], 16), gate.ljust(size, b"\0"))
    for index in range(count):
        if index:
            guest.start(index, "other")
        registers = guest.cpus[index]
        registers.gpr[Gpr.RBP] = index
        registers.gpr[Gpr.RSP] = STACKS + 0x1000 * index
        registers.seg[Segment.IDT].base = IDT
        registers.seg[Segment.IDT].limit = 0xFFF
    return guest


END = """
    lock inc dword ptr [0x40000]
wait_for_all:
    pause
    cmp     dword ptr [0x40000], {count}
    jb      wait_for_all
"""
"""The first waits until so many have counted themselves in WORK."""
DONE = """
    lock inc dword ptr [0x40000]
stand:
    cli
    hlt
    jmp     stand
"""
"""The others count themselves, and halt for good."""


# ---- INIT and SIPI ----


@requirement("A-LOOP-1", "A-VCPU-8", "K-VCPU-3")
@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_every_processor_starts_once(vm: VirtualMachine, count: int) -> None:
    """INIT, SIPI, SIPI starts each of the other processors, and starts it once (BH-95)."""
    run = vm.boot("smp", vcpus=count, cpus=count)
    check.equal(run.status, 1, "status")
    at = run.guest.image.linear("cpus_begun")
    check.equal(words(run.guest, at, 1), (count,), "processors that came")
    check.equal(words(run.guest, run.guest.image.linear("cpus_up"), 1), (count,), "and are through")


@requirement("A-LOOP-1", "A-VCPU-8")
@both
def test_processors_wait_for_a_sipi(vm: VirtualMachine) -> None:
    """A processor that nobody has started executes nothing: neither a fixed interrupt nor an NMI
    starts it."""
    guest = vm.prepare_code(
        """
    MAP_APIC
    APIC_WRITE 0xF0, 0x1FF
    APIC_SEND 0xC0041           # fixed, to the others
    APIC_SEND 0xC0400           # NMI, to the others
    DONE
""",
        vcpus=3,
    )
    before = [dict(cpu.gpr) for cpu in guest.cpus[1:]]
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal({one.vcpu for one in run.all_exits()}, {0}, "vCPUs that had exits")
    check.equal([cpu.gpr for cpu in run.cpus[1:]], before, "registers of the others")


# Real mode at the page of the SIPI: counts itself in [0x40000], notes CS and EDX, halts.
AP = """
    .section .rodata
    .code16
ap:
    mov     ax, 0x4000
    mov     ds, ax
    mov     dword ptr ds:[4], edx
    mov     word ptr ds:[8], cs
    lock inc dword ptr ds:[0]
    cli
    hlt
    .set    ap_size, . - ap
    .text
"""


@requirement("A-LOOP-1")
@both
@pytest.mark.parametrize("page", [0x01, 0x2F, 0x70, 0x9F])
def test_sipi_names_the_page(vm: VirtualMachine, page: int) -> None:
    """SIPI with vector V has the processor begin at V000:0000 in real mode."""
    guest = vm.prepare_code(
        f"""
    MAP_APIC
    cld
    mov     esi, offset ap
    mov     edi, {page << 12:#x}
    mov     ecx, offset ap_size
    rep movsb
    APIC_SEND 0xC4500
    APIC_SEND {0xC4600 | page:#x}
wait:
    pause
    cmp     dword ptr [0x40000], 1
    jb      wait
    DONE
"""
        + AP,
        vcpus=2,
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(words(guest, WORK + 8, 1)[0] & 0xFFFF, page << 8, "CS")
    check.equal(run.cpus[1].seg[Segment.CS].base, page << 12, "base of CS")


@requirement("A-LOOP-1")
@both
def test_sipi_to_a_running_processor_is_lost(vm: VirtualMachine) -> None:
    """A processor that runs takes no SIPI: further ones start it nowhere (BH-95)."""
    guest = prepare(
        vm,
        """
    MAP_APIC
waiting:
    pause
    cmp     dword ptr [0x40000], 1
    jb      waiting
    APIC_SEND 0xC4601
    APIC_SEND 0xC4602
    mov     dword ptr [0x40004], 1
end:
    pause
    cmp     dword ptr [0x40000], 2
    jb      end
    DONE
other:
    lock inc dword ptr [0x40000]
go_on:
    pause
    cmp     dword ptr [0x40004], 1
    jb      go_on
"""
        + DONE,
        2,
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check(run.cpus[1].seg[Segment.CS].selector == 8, "the second stayed where it was")


@requirement("A-LOOP-1", "A-SYNC-2")
@both
def test_init_stops_a_running_processor(vm: VirtualMachine) -> None:
    """INIT takes a running processor from whatever it does; it comes back by SIPI, in real mode."""
    guest = prepare(
        vm,
        """
    MAP_APIC
    cld
    mov     esi, offset ap
    mov     edi, 0x3000
    mov     ecx, offset ap_size
    rep movsb
waiting:
    pause
    cmp     dword ptr [0x40010], 0
    je      waiting
    APIC_SEND 0xC4500
    APIC_SEND 0xC4603
end:
    pause
    cmp     dword ptr [0x40000], 1
    jb      end
    DONE
other:
    inc     dword ptr [0x40010]
    jmp     other
"""
        + AP,
        2,
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(words(guest, WORK + 8, 1)[0] & 0xFFFF, 0x300, "CS")


# ---- who it is ----


@requirement("K-CPUID-2", "K-CPUID-10", "K-VCPU-3")
@both
@pytest.mark.parametrize("count", [2, 4])
def test_cpuid_agrees_with_the_local_apic(vm: VirtualMachine, count: int) -> None:
    """The APIC id that CPUID tells in leaf 1, and where there is one in leaf 0xB, is that of the
    vCPU's own local APIC, each its own."""
    own = """
    mov     eax, 1
    cpuid
    shr     ebx, 24
    mov     [0x40100 + {{ bp }} * 8], ebx
    mov     eax, 0xB
    xor     ecx, ecx
    cpuid
    mov     [0x40200 + {{ bp }} * 8], edx
    mov     [0x40280 + {{ bp }} * 8], ecx
"""
    guest = prepare(
        vm,
        f"start_0:\n{own}{END.format(count=count)}    DONE\nother:\n{own}{DONE}",
        count,
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(words(guest, WORK + 0x100, 2 * count)[::2], tuple(range(count)), "leaf 1")
    kinds = words(guest, WORK + 0x280, 2 * count)[::2]
    if any(kind >> 8 for kind in kinds):
        check.equal(words(guest, WORK + 0x200, 2 * count)[::2], tuple(range(count)), "leaf 0xB")


@requirement("A-VCPU-8", "K-VCPU-3")
@both
def test_registers_are_each_ones_own(vm: VirtualMachine) -> None:
    """Registers of one vCPU, XMM, debug and control registers and MSRs, are not another's."""
    own = """
    mov     eax, ebp
    shl     eax, 12
    or      eax, 0x5000005
    mov     ebx, eax
    mov     cr2, {{ ax }}
    mov     dr1, {{ ax }}
    movd    xmm3, eax
    mov     ecx, 0x174          # SYSENTER_CS
    xor     edx, edx
    wrmsr
    lock inc dword ptr [0x40000]
"""
    meet = """
    pause
    cmp     dword ptr [0x40000], 3
    jb      {0}_wait
"""
    back = """
    mov     {{ si }}, cr2
    mov     {{ di }}, dr1
    mov     ecx, 0x174
    rdmsr
    mov     edx, eax
    movd    eax, xmm3
    lock inc dword ptr [0x40004]
"""
    source = f"first:\n{own}first_wait:{meet.format('first')}{back}"
    source += "all:\n    pause\n    cmp dword ptr [0x40004], 3\n    jb all\n    EXIT 0\n"
    source += f"other:\n{own}other_wait:{meet.format('other')}{back}stand:\n    cli\n    hlt\n"
    guest = prepare(vm, source, 3)
    run = guest.run()
    check.equal(run.status, 1, "status")
    for index, cpu in enumerate(run.cpus):
        mine = 0x5000005 | index << 12
        for name in (Gpr.RBX, Gpr.RSI, Gpr.RDI) + ((Gpr.RDX, Gpr.RAX) if index else ()):
            check.equal(cpu.gpr[name], mine, f"{name.name} of vCPU {index}")


@requirement("K-TSC-1")
@both
def test_tsc_is_each_ones_own(vm: VirtualMachine) -> None:
    """WRMSR of the TSC on one vCPU changes the TSC of no other one."""
    guest = prepare(
        vm,
        """
first:
    pause
    cmp     dword ptr [0x40000], 1
    jb      first
    rdtsc
    mov     [0x40008], edx
    DONE
other:
    xor     eax, eax
    mov     edx, 0x10000000     # far from what any host has counted
    mov     ecx, 0x10
    wrmsr
    rdtsc
    mov     [0x4000C], edx
"""
        + DONE,
        2,
    )
    run = guest.run()
    first, second = words(guest, WORK + 8, 2)
    check.equal(run.status, 1, "status")
    check(first < 0x10000000, "the first one's TSC is not the second one's")
    check(second >= 0x10000000, "the second one's TSC is what it wrote, or later")


# ---- memory is everybody's ----

ADDERS = {
    "lock_inc": "    lock inc dword ptr [{at}]\n",
    "lock_add": "    lock add dword ptr [{at}], 1\n",
    "lock_xadd": "    mov eax, 1\n    lock xadd [{at}], eax\n",
    "cmpxchg": (
        "    mov eax, [{at}]\nagain_{who}:\n    lea ebx, [{{{{ ax }}}} + 1]\n"
        "    lock cmpxchg [{at}], ebx\n    jne again_{who}\n"
    ),
    "xchg_lock": (
        "take_{who}:\n    mov eax, 1\n    xchg [0x40020], eax\n"
        "    test eax, eax\n    jnz take_{who}\n"
        "    inc dword ptr [{at}]\n    mov dword ptr [0x40020], 0\n"
    ),
    "bts_lock": (
        "take_{who}:\n    pause\n    lock bts dword ptr [0x40020], 5\n    jc take_{who}\n"
        "    inc dword ptr [{at}]\n    lock btr dword ptr [0x40020], 5\n"
    ),
}


@requirement("A-MEM-2", "K-RUN-13")
@both
@pytest.mark.parametrize("adder", sorted(ADDERS))
@pytest.mark.parametrize("count", [2, 4])
def test_locked_operations_lose_nothing(vm: VirtualMachine, adder: str, count: int) -> None:
    """What several vCPUs add to a counter in memory by locked operations adds up (SDM 3A 8.1)."""
    _adds_up(vm, ADDERS[adder], count, 0x40040)


@requirement("A-MEM-2", "K-RUN-13")
@both
@pytest.mark.parametrize("at", [0x4103D, 0x41FFE])
@pytest.mark.parametrize("adder", ["lock_inc", "lock_xadd"])
def test_split_locks_lose_nothing(vm: VirtualMachine, adder: str, at: int) -> None:
    """A locked operation is one also across cache lines and pages (SDM 3A 8.1.2.2)."""
    _adds_up(vm, ADDERS[adder], 2, at)


def _adds_up(vm: VirtualMachine, adder: str, count: int, at: int) -> None:
    def loop(who: str) -> str:
        body = adder.format(at=hex(at), who=who)
        meet = f"    lock inc dword ptr [0x40004]\nmeet_{who}:\n    pause\n"
        meet += f"    cmp dword ptr [0x40004], {count}\n    jb meet_{who}\n"
        return f"{meet}    mov ecx, 500\nloop_{who}:\n{body}    dec ecx\n    jnz loop_{who}\n"

    source = f"{loop('first')}{END.format(count=count)}    DONE\nother:\n{loop('other')}{DONE}"
    guest = prepare(vm, source, count)
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(words(guest, at, 1), (500 * count,), "sum")


@requirement("A-MEM-2", "K-RUN-13")
@both
def test_stores_are_seen_in_order(vm: VirtualMachine) -> None:
    """Who sees a vCPU's later store sees its earlier ones too (SDM 3A 8.2.2)."""
    guest = prepare(
        vm,
        """
    mov     ecx, 1
first:
    mov     eax, [0x40044]      # the flag, then the data
    mov     ebx, [0x40040]
    cmp     ebx, eax
    jb      wrong
    mov     [0x40048], eax      # seen
    cmp     eax, 300
    jb      first
    DONE
wrong:
    EXIT    1
other:
    xor     eax, eax
next:
    inc     eax
    mov     [0x40040], eax
    mov     [0x40044], eax
    cmp     eax, 300
    jb      next
"""
        + DONE,
        2,
    )
    assert guest.run().status == 1


@requirement("A-MEM-2", "K-RUN-13")
@both
def test_mutual_exclusion_by_mfence(vm: VirtualMachine) -> None:
    """With MFENCE between a vCPU's store and its load, not both of two vCPUs can miss the other's
    store (SDM 3A 8.2.5): Dekker's lock."""

    def side(who: str, mine: int, others: int) -> str:
        return f"""
    mov     ecx, 100
next_{who}:
    mov     dword ptr [{mine:#x}], 1
    mfence
    cmp     dword ptr [{others:#x}], 0
    je      in_{who}
    mov     dword ptr [{mine:#x}], 0
    pause
    jmp     next_{who}
in_{who}:
    inc     dword ptr [0x40080]
    mov     dword ptr [{mine:#x}], 0
    dec     ecx
    jnz     next_{who}
"""

    source = side("first", 0x40040, 0x400C0) + END.format(count=2) + "    DONE\n"
    source += f"other:\n{side('other', 0x400C0, 0x40040)}{DONE}"
    guest = prepare(vm, source, 2)
    check.equal(guest.run().status, 1, "status")
    check.equal(words(guest, 0x40080, 1), (200,), "entries, none of them lost")


@requirement("A-MEM-2", "K-RUN-13")
@both
def test_code_written_by_another_vcpu_is_executed(vm: VirtualMachine) -> None:
    """A vCPU executes what another one wrote there, once it has serialised (SDM 3A 8.1.3)."""
    guest = prepare(
        vm,
        """
    mov     byte ptr [0x45000], 0xB8    # mov eax, 0x1234567; ret
    mov     dword ptr [0x45001], 0x1234567
    mov     byte ptr [0x45005], 0xC3
    mov     dword ptr [0x40010], 1
"""
        + END.format(count=2)
        + """
    DONE
other:
    pause
    cmp     dword ptr [0x40010], 1
    jb      other
    xor     eax, eax
    cpuid
    mov     ebx, 0x45000
    call    {{ bx }}
"""
        + DONE,
        2,
    )
    guest.write(0x45000, b"\x0f\x0b")
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(run.cpus[1].gpr[Gpr.RAX], 0x1234567, "EAX of the second")


# ---- interrupts between them ----

APIC_ON = "    APIC_WRITE 0xF0, 0x1FF\n"
IRET = "    {{ 'iretq' if bits == 64 else 'iretd' }}\n"


@requirement("A-PRE-8", "A-EVT-1")
@both
@pytest.mark.parametrize("halted", [True, False])
@pytest.mark.parametrize("command", [0x41, 0xC0041, 0x841], ids=["physical", "others", "logical"])
def test_interrupt_of_another_vcpu(vm: VirtualMachine, command: int, halted: bool) -> None:
    """A fixed interrupt that one vCPU sends comes to the one it is for, halted or running, as often
    as it is sent and taken."""
    body = "    sti\n    hlt\n" if halted else "    sti\n    pause\n"
    guest = prepare(
        vm,
        f"""
    MAP_APIC
{APIC_ON}
    mov     dword ptr [0x40010], 1
ready:
    pause
    cmp     dword ptr [0x40014], 1
    jb      ready
    mov     ebx, 1
next:
    APIC_WRITE 0x310, 1 << 24
    APIC_SEND {command:#x}
taken:
    pause
    cmp     [0x40018], ebx
    jb      taken
    inc     ebx
    cmp     ebx, 5
    jbe     next
    DONE
other:
    pause
    cmp     dword ptr [0x40010], 1
    jb      other
{APIC_ON}
    APIC_WRITE 0xD0, 1 << 24    # logical destination
    mov     dword ptr [0x40014], 1
idle:
{body}
    jmp     idle
handler:
    push    {{{{ ax }}}}
    mov     [0x4001C], ebp
    APIC_WRITE 0xB0, 0          # EOI
    lock inc dword ptr [0x40018]
    pop     {{{{ ax }}}}
{IRET}
""",
        2,
        v41="handler",
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(words(guest, 0x40018, 2), (5, 1), "interrupts taken, and by whom")


@requirement("A-PRE-8", "A-EVT-1")
@both
@pytest.mark.parametrize("halted", [True, False])
def test_nmi_of_another_vcpu(vm: VirtualMachine, halted: bool) -> None:
    """An NMI that one vCPU sends comes to the other one, IF or not, and wakes it where it has
    halted."""
    body = "    cli\n    hlt\n" if halted else "    cli\n    pause\n"
    guest = prepare(
        vm,
        f"""
    MAP_APIC
ready:
    pause
    cmp     dword ptr [0x40014], 1
    jb      ready
    mov     ebx, 1
next:
    APIC_SEND 0xC4400
taken:
    pause
    cmp     [0x40018], ebx
    jb      taken
    inc     ebx
    cmp     ebx, 4
    jbe     next
    DONE
other:
    push    {{{{ ax }}}}            # the pages of a delivery: not for the first time
    mov     eax, [0x48010]
    mov     eax, [gdt + 8]
    mov     dword ptr [0x40014], 1
idle:
{body}
    jmp     idle
handler:
    mov     [0x4001C], ebp
    lock inc dword ptr [0x40018]
{IRET}
""",
        2,
        v02="handler",
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check.equal(words(guest, 0x40018, 2), (4, 1), "NMIs taken, and by whom")


@requirement("A-PRE-8", "A-EVT-1")
@both
def test_broadcast_comes_to_all_others(vm: VirtualMachine) -> None:
    """An interrupt to all but the sender comes once to each of the others, not to the sender."""
    guest = prepare(
        vm,
        f"""
    MAP_APIC
{APIC_ON}
    mov     dword ptr [0x40010], 1
ready:
    pause
    cmp     dword ptr [0x40014], 3
    jb      ready
    sti
    APIC_SEND 0xC0051
taken:
    pause
    cmp     dword ptr [0x40018], 3
    jb      taken
    cli
    DONE
other:
    pause
    cmp     dword ptr [0x40010], 1
    jb      other
{APIC_ON}
    lock inc dword ptr [0x40014]
idle:
    sti
    hlt
    jmp     idle
handler:
    push    {{{{ ax }}}}
    APIC_WRITE 0xB0, 0
    inc     dword ptr [0x40040 + {{{{ bp }}}} * 4]
    lock inc dword ptr [0x40018]
    pop     {{{{ ax }}}}
{IRET}
""",
        4,
        v51="handler",
    )
    check.equal(guest.run().status, 1, "status")
    check.equal(words(guest, 0x40040, 4), (0, 1, 1, 1), "interrupts of each")


@requirement("A-PRE-8", "A-EXIT-6", "K-HLT-5")
@both
def test_halted_vcpus_wake_each_other(vm: VirtualMachine) -> None:
    """Two vCPUs that halt until the other one interrupts them take turns; no wake-up is lost."""
    guest = prepare(
        vm,
        f"""
    MAP_APIC
{APIC_ON}
    mov     dword ptr [0x40010], 1
ready:
    pause
    cmp     dword ptr [0x40014], 1
    jb      ready
    APIC_SEND 0xC0041
idle:
    sti
    hlt
    cli
    cmp     dword ptr [0x40018], 20
    jb      idle
    DONE
other:
    pause
    cmp     dword ptr [0x40010], 1
    jb      other
{APIC_ON}
    mov     dword ptr [0x40014], 1
other_idle:
    sti
    hlt
    jmp     other_idle
handler:
    push    {{{{ ax }}}}
    APIC_WRITE 0xB0, 0
    lock inc dword ptr [0x40018]
    cmp     dword ptr [0x40018], 20
    ja      enough
    APIC_SEND 0xC0041           # to the other
enough:
    pop     {{{{ ax }}}}
{IRET}
""",
        2,
        v41="handler",
    )
    run = guest.run()
    check.equal(run.status, 1, "status")
    check(words(guest, 0x40018, 1)[0] in (20, 21), "interrupts taken")


# ---- one's end, and the others ----


@requirement("A-EXIT-6", "K-HLT-1")
@both
def test_others_run_while_one_halts(vm: VirtualMachine) -> None:
    """HLT halts the vCPU that executes it and no other."""
    source = (
        "    hlt\n    EXIT 3\nother:\n    mov ecx, 2000\nloop_it:\n    loop loop_it\n    DONE\n"
    )
    run = prepare(vm, source, 2).run()
    check.equal(run.status, 1, "status")
    halts = [one.vcpu for one in run.all_exits() if one.exit.reason is ExitReason.HALTED]
    check(halts in ([0], []), "only the first halted, and once at the most")


@requirement("A-EXIT-6", "K-HLT-1")
@both
def test_all_halted_is_the_end(vm: VirtualMachine) -> None:
    """Where every vCPU has halted with interrupts off, nothing goes on; run on, each goes on."""
    guest = prepare(
        vm, "    cli\n    hlt\n    inc ebx\n    hlt\nother:\n    hlt\n    inc ecx\n    hlt\n", 3
    )
    run = guest.run()
    check.equal(run.reason, Stop.HALTED, "end")
    check.equal([cpu.gpr[Gpr.RBX] + cpu.gpr[Gpr.RCX] for cpu in run.cpus], [0, 0, 0], "counted")
    again = run.resume()
    check.equal(again.reason, Stop.HALTED, "end of the second run")
    check.equal([cpu.gpr[Gpr.RBX] for cpu in again.cpus], [1, 0, 0], "EBX")
    check.equal([cpu.gpr[Gpr.RCX] for cpu in again.cpus], [0, 1, 1], "ECX")


@requirement("A-EXIT-7", "A-EXIT-6")
@both
def test_one_triple_fault_resets_the_machine(vm: VirtualMachine) -> None:
    """A triple fault of one vCPU ends the run of all of them."""
    guest = prepare(vm, "spin:\n    pause\n    jmp spin\nother:\n    ud2\n", 2)
    guest.cpus[1].seg[Segment.IDT].limit = 0
    run = guest.run()
    check.equal(run.reason, Stop.RESET, "end")
    check.equal(
        {e.vcpu for e in run.all_exits() if e.exit.reason is ExitReason.SHUTDOWN}, {1}, "by"
    )


@requirement("L-RUN-1", "K-RUN-13")
@both
@pytest.mark.parametrize("count", [2, 3])
def test_each_has_its_own_exits(vm: VirtualMachine, count: int) -> None:
    """Exits, and the registers that they bring, are those of the vCPU that was run."""
    body = "    mov ecx, 8\nagain_{0}:\n    mov eax, ecx\n    shl eax, 8\n    or eax, ebp\n"
    body += "    out 0x70, ax\n    dec ecx\n    jnz again_{0}\n"
    first = body.format("first") + END.format(count=count) + "    DONE\n"
    source = f"{first}other:\n{body.format('other')}{DONE}"
    guest = _with_port(vm, source, count)
    run = guest.run()
    check.equal(run.status, 1, "status")
    for index in range(count):
        mine = [one.value >> 8 for one in run.ports if one.value & 0xFF == index]
        check.equal(mine, list(range(8, 0, -1)), f"values of vCPU {index}")


def _with_port(vm: VirtualMachine, source: str, count: int) -> PreparedGuest:
    guest = vm.prepare_code(source, vcpus=count, ports={0x70: 0})
    for index in range(1, count):
        guest.start(index, "other")
        guest.cpus[index].gpr[Gpr.RBP] = index
    return guest


@requirement("A-CB-2")
@both
def test_local_apic_is_each_ones_own(vm: VirtualMachine) -> None:
    """The page at 0xFEE00000 is another one for each vCPU."""
    guest = prepare(
        vm,
        """
    MAP_APIC
    mov     dword ptr [0x40010], 1
    APIC_WRITE 0x380, 0x1111
    APIC_READ 0x20
    mov     [0x40020], eax
    APIC_WRITE 0x80, 0x20
"""
        + END.format(count=2)
        + """
    APIC_READ 0x80
    mov     [0x40028], eax
    DONE
other:
    pause
    cmp     dword ptr [0x40010], 1
    jb      other
    APIC_READ 0x20
    mov     [0x40024], eax
    APIC_WRITE 0x80, 0x70
    APIC_READ 0x80
    mov     [0x4002C], eax
"""
        + DONE,
        2,
    )
    check.equal(guest.run().status, 1, "status")
    check.equal(words(guest, 0x40020, 4), (0, 1 << 24, 0x20, 0x70), "ids, then TPRs")


# ---- libnvmm's calls, several vCPUs in the guest ----


@requirement("K-VCPU-7", "L-ST-2")
def test_getstate_waits_for_the_run(library: Libnvmm) -> None:
    """getstate of a vCPU that runs on another thread tells the state after that run, never one that
    the guest has left behind."""
    code = bytes.fromhex("6641 66890e0003 ebf7")  # back: inc ecx; mov [0x300],ecx; jmp back
    with RawGuest(library, code) as guest:
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                guest.vcpu.run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        told = []
        try:
            for _ in range(20):
                while not (seen := _dword(guest.memory, 0x300)):
                    time.sleep(0)
                told.append((guest.gpr(Gpr.RCX), seen))
        finally:
            over.set()
            thread.join()
        check.equal([one for one in told if one[0] < one[1]], [], "ECX before what was in memory")


def _dword(memory: HostMemory, at: int) -> int:
    return int.from_bytes(memory.data[at : at + 4], "little")


@requirement("K-MEM-24", "K-MEM-23")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_mapping_change_is_seen_by_all(library: Libnvmm, count: int) -> None:
    """gpa_unmap while vCPUs use the memory: the next access of each is a MEMORY exit; what is
    mapped there then is seen by all (BH-89)."""
    # back: mov al,[0x1800]; inc word [bx]; cmp al,0x77; jne back; hlt
    code = bytes.fromhex("a00018 ff07 3c77 75f7 f4")
    rights = Prot.READ | Prot.WRITE | Prot.EXEC
    with (
        RawGuest(library, code) as guest,
        HostMemory(PAGE_SIZE) as one,
        HostMemory(PAGE_SIZE) as two,
    ):
        for memory in (one, two):
            guest.machine.hva_map(memory)
        two.data[0x800] = 0x77
        guest.machine.gpa_map(one.hva, PAGE_SIZE, PAGE_SIZE, rights)
        vcpus = [guest.vcpu, *(guest.machine.create_vcpu(n) for n in range(1, count))]
        for index, vcpu in enumerate(vcpus):
            RawGuest.aim(vcpu, START)
            vcpu.state.gprs[Gpr.RBX] = 0x200 + 4 * index
            vcpu.setstate(StateFlag.GPRS)
        exits: dict[int, Exit] = {}
        over = threading.Event()

        def run(vcpu: Vcpu) -> None:
            while not over.is_set():
                taken = vcpu.run()
                if taken.reason not in PASSING:
                    exits[vcpu.cpuid] = taken
                    return

        threads = [threading.Thread(target=run, args=(vcpu,), daemon=True) for vcpu in vcpus]
        for thread in threads:
            thread.start()
        try:
            while not all(_dword(guest.memory, 0x200 + 4 * n) for n in range(count)):
                time.sleep(0)
            guest.machine.gpa_unmap(one.hva, PAGE_SIZE, PAGE_SIZE)
            before = [_dword(guest.memory, 0x200 + 4 * n) for n in range(count)]
            while any(thread.is_alive() for thread in threads):
                time.sleep(0)
                done = [_dword(guest.memory, 0x200 + 4 * n) for n in range(count)]
                if any(now - then & 0xFFFF > 30000 for now, then in zip(done, before, strict=True)):
                    break  # it has not noticed
        finally:
            over.set()
            for thread in threads:
                thread.join()
        check.equal(len(exits), count, "vCPUs that had an exit")
        for index, taken in exits.items():
            check(isinstance(taken, MemoryExit), f"vCPU {index}: {taken.reason_name}")
            if isinstance(taken, MemoryExit):
                check.equal(taken.gpa & ~0xFFF, PAGE_SIZE, f"page of vCPU {index}")
        guest.machine.gpa_map(two.hva, PAGE_SIZE, PAGE_SIZE, rights)
        check.equal([enter(vcpu).reason for vcpu in vcpus], [ExitReason.HALTED] * count, "then")


@requirement("K-VCPU-3", "K-RST-1")
@pytest.mark.parametrize("order", ["0-1", "1-0", "3-100", "127-7-0"])
def test_states_are_apart(library: Libnvmm, order: str) -> None:
    """What is set in one vCPU is in no other one, whatever their ids and order."""
    with RawGuest(library, bytes.fromhex("40 f4")) as guest:
        ids = [int(one) for one in order.split("-")]
        vcpus = {0: guest.vcpu}
        for index in ids:
            vcpus.setdefault(index, guest.machine.create_vcpu(index) if index else guest.vcpu)
        for index in ids:
            RawGuest.aim(vcpus[index], START)
            state = vcpus[index].state
            state.gprs[Gpr.RAX] = 0x100 + index
            vcpus[index].getstate(StateFlag.MSRS | StateFlag.DRS)
            state.msrs[Msr.STAR] = 0x5000 + index
            state.drs[2] = 0x6000 + index
            vcpus[index].setstate(StateFlag.GPRS | StateFlag.MSRS | StateFlag.DRS)
        for index in ids:
            check.equal(enter(vcpus[index]).reason, ExitReason.HALTED, f"exit of {index}")
        for index in ids:
            vcpus[index].getstate(StateFlag.ALL)
            state = vcpus[index].state
            found = (state.gprs[Gpr.RAX], state.msrs[Msr.STAR], state.drs[2])
            check.equal(found, (0x101 + index, 0x5000 + index, 0x6000 + index), f"vCPU {index}")


@requirement("K-RUN-13", "L-VCPU-1")
@pytest.mark.parametrize("count", [2, 4])
def test_one_thread_may_run_them_in_turn(library: Libnvmm, count: int) -> None:
    """Several vCPUs that one thread runs in turn go on, each where it was."""
    with RawGuest(library, bytes.fromhex("40 f4 ebfc")) as guest:  # back: inc ax; hlt; jmp back
        vcpus = [guest.vcpu, *(guest.machine.create_vcpu(n) for n in range(1, count))]
        for vcpu in vcpus:
            RawGuest.aim(vcpu, START)
        for turn in range(1, 4):
            for vcpu in vcpus:
                check.equal(enter(vcpu).reason, ExitReason.HALTED, f"vCPU {vcpu.cpuid}")
                vcpu.getstate(StateFlag.GPRS)
                check.equal(vcpu.state.gprs[Gpr.RAX], turn, f"AX of vCPU {vcpu.cpuid}")


@requirement("K-VCPU-4", "K-VCPU-5")
def test_destroying_one_leaves_the_others(library: Libnvmm) -> None:
    """A vCPU that is destroyed takes nothing from the others; made again, it is another one."""
    with RawGuest(library, bytes.fromhex("40 f4 ebfc")) as guest:
        other = guest.machine.create_vcpu(1)
        RawGuest.aim(other, START)
        check.equal(enter(other).reason, ExitReason.HALTED, "exit of the second")
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit of the first")
        other.destroy()
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit after that")
        check.equal(guest.rax(), 2, "AX")
        again = guest.machine.create_vcpu(1)
        again.getstate(StateFlag.GPRS)
        check.equal(again.state.gprs[Gpr.RIP], 0xFFF0, "RIP of the new one")
