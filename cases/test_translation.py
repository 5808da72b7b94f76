# SPDX-License-Identifier: BSD-2-Clause
"""Address translation by libnvmm: nvmm_gva_to_gpa() in each paging mode, nvmm_gpa_to_hva().

libnvmm(3) "nvmm_gva_to_gpa", "nvmm_gpa_to_hva"; SDM 3A chapter 5: paging modes (5.1.1),
32-bit (5.3), PAE (5.4), 4-level (5.5), rights (5.6).  Nothing runs here: the tables are
in guest memory, CR0, CR3, CR4 and EFER are set, and libnvmm is asked.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from nvmmconf.suite import (
    PAGE_SIZE,
    Cr,
    ExitReason,
    Gpr,
    HostMemory,
    Level,
    Machine,
    Mode,
    Msr,
    Prot,
    Segment,
    StateFlag,
    Vcpu,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    requirement,
)

PE, PG, WP = 1, 1 << 31, 1 << 16
PSE, PAE = 0x10, 0x20
PSE36 = 1 << 17
"""Of leaf 1's EDX."""
LME, LMA, NXE = 0x100, 0x400, 0x800
P, W, U, A, D, PS = 1, 2, 4, 0x20, 0x40, 0x80
NX = 1 << 63
RWX = P | W | U
ALL = Prot.READ | Prot.WRITE | Prot.EXEC | Prot.USER
ROOT = 0x3000
"""CR3.  The table of the next level is 0x1000 further each."""


@dataclass(frozen=True)
class Paging:
    """A paging mode: CR4, EFER, the size of entries, and the lowest index bit of each level."""

    cr4: int
    efer: int
    width: int
    shifts: tuple[int, ...]
    top_bits: int
    """Bits of the index of the first level."""
    upper: int = 0
    """Added to linear addresses for their upper half."""


MODES = {
    "two_level": Paging(PSE, 0, 4, (22, 12), 10),
    "pae": Paging(PAE, NXE, 8, (30, 21, 12), 2),
    "four_level": Paging(PAE, LME | LMA | NXE, 8, (39, 30, 21, 12), 9),
}
PAGES = [
    ("two_level", 12), ("two_level", 22), ("pae", 12), ("pae", 21),
    ("four_level", 12), ("four_level", 21), ("four_level", 30),
]  # fmt: skip
"""Paging mode and page size, as a power of two."""


@dataclass
class Tables:
    """One page in `mode`: its linear address, and the entries that lead to it."""

    memory: HostMemory
    vcpu: Vcpu
    mode: str
    size: int
    """Of the page, as a power of two."""
    places: list[int] = field(default_factory=list)
    """GPAs of the entries, the first level's first."""
    linear: int = 0

    @property
    def paging(self) -> Paging:
        """The mode."""
        return MODES[self.mode]

    def build(self, frame: int, *, root: int = ROOT, high: bool = True) -> None:
        """Map a page at `frame` with all rights, by the last entries or (not `high`) the second."""
        self.places, self.linear = [], 0
        levels = [shift for shift in self.paging.shifts if shift >= self.size]
        for number, shift in enumerate(levels):
            bits = self.paging.top_bits if number == 0 else 9 if self.paging.width == 8 else 10
            index = (1 << bits) - 1 if high else 1
            self.linear |= index << shift
            table = root if number == 0 else ROOT + number * PAGE_SIZE
            self.places.append(table + index * self.paging.width)
            last = shift == self.size
            target = frame if last else ROOT + (number + 1) * PAGE_SIZE
            rights = P if self.mode == "pae" and number == 0 else RWX
            self.put(number, target | rights | (PS if last and shift > 12 else 0))
        if self.mode == "four_level" and high:
            self.linear |= 0xFFFF << 48
        self.control(cr3=root)

    def control(self, **changes: int) -> None:
        """Set the control registers: this mode's, but for `changes` (cr0, cr3, cr4, efer)."""
        values = {"cr0": PG | PE | WP, "cr4": self.paging.cr4, "efer": self.paging.efer} | changes
        state = self.vcpu.state
        state.crs[Cr.CR0] = values["cr0"]
        state.crs[Cr.CR4] = values["cr4"]
        if "cr3" in values:
            state.crs[Cr.CR3] = values["cr3"]
        state.msrs[Msr.EFER] = values["efer"]
        self.vcpu.setstate(StateFlag.CRS | StateFlag.MSRS)

    def entry(self, level: int) -> int:
        """The entry of `level`; the last one is -1."""
        place = self.places[level]
        return int.from_bytes(self.memory.data[place : place + self.paging.width], "little")

    def put(self, level: int, value: int) -> None:
        """Replace the entry of `level`."""
        place = self.places[level]
        self.memory.data[place : place + self.paging.width] = value.to_bytes(
            self.paging.width, "little"
        )


@pytest.fixture
def memory(machine: Machine) -> Iterator[HostMemory]:
    """64 KiB of guest memory from GPA 0."""
    with HostMemory(0x10000) as one:
        machine.hva_map(one)
        machine.gpa_map(one.hva, 0, one.size, Prot.READ | Prot.WRITE | Prot.EXEC)
        yield one


def _tables(memory: HostMemory, vcpu: Vcpu, mode: str, size: int, frame: int = 0) -> Tables:
    vcpu.getstate(StateFlag.CRS | StateFlag.MSRS)
    tables = Tables(memory, vcpu, mode, size)
    tables.build(frame or 0x1 << 30)
    return tables


def _features(memory: HostMemory, vcpu: Vcpu) -> int:
    """Leaf 1's EDX, as the guest sees it."""
    memory.data[0x8000:0x8003] = b"\x0f\xa2\xf4"  # cpuid; hlt
    vcpu.getstate(StateFlag.SEGS | StateFlag.GPRS)
    vcpu.state.segs[Segment.CS].selector = 0
    vcpu.state.segs[Segment.CS].base = 0
    vcpu.state.gprs[Gpr.RIP] = 0x8000
    vcpu.state.gprs[Gpr.RAX] = 1
    vcpu.setstate(StateFlag.SEGS | StateFlag.GPRS)
    while (reason := vcpu.run().reason) in (ExitReason.NONE, ExitReason.STOPPED):
        pass
    assert reason is ExitReason.HALTED
    vcpu.getstate(StateFlag.GPRS)
    return int(vcpu.state.gprs[Gpr.RDX])


# ---- where it leads -----------------------------------------------------------------


@requirement("L-WALK-2", "L-WALK-1", "L-WALK-15")
@pytest.mark.parametrize("cr4", [0, PSE, PAE], ids=["none", "pse", "pae"])
@pytest.mark.parametrize("efer", [0, LME], ids=["none", "lme"])
@pytest.mark.parametrize("gva", [0, 0x12345, 0xFFFFF000, 0xFFFFFFFF])
def test_without_paging_addresses_are_physical(
    machine: Machine, vcpu: Vcpu, gva: int, efer: int, cr4: int
) -> None:
    """With CR0.PG clear the address is the physical one, with all rights, whatever CR4 says."""
    vcpu.getstate(StateFlag.CRS | StateFlag.MSRS)
    for cr, value in ((Cr.CR0, PE), (Cr.CR3, 0x7000), (Cr.CR4, cr4)):
        vcpu.state.crs[cr] = value
    vcpu.state.msrs[Msr.EFER] = efer
    vcpu.setstate(StateFlag.CRS | StateFlag.MSRS)
    assert vcpu.gva_to_gpa(gva) == (gva, ALL)


@requirement("L-WALK-1", "L-WALK-5", "L-WALK-10", "L-WALK-3")
@pytest.mark.parametrize("half", ["low", "high"])
@pytest.mark.parametrize("offset", [0, 0x234, -1])
@pytest.mark.parametrize(("mode", "size"), PAGES)
def test_translation(
    memory: HostMemory, vcpu: Vcpu, mode: str, size: int, offset: int, half: str
) -> None:
    """The tables lead to the page, and the offset within it is added, all bits of it."""
    tables = _tables(memory, vcpu, mode, size)
    frame = 0x4000_0000
    tables.build(frame, high=half == "high")
    offset %= 1 << size
    assert vcpu.gva_to_gpa(tables.linear + offset) == (frame + offset, ALL)


@requirement("L-WALK-10")
@pytest.mark.parametrize(("mode", "size"), [one for one in PAGES if one[1] > 12])
@pytest.mark.parametrize("bit", [12, 13, 20])
def test_offset_in_a_large_page(
    memory: HostMemory, vcpu: Vcpu, bit: int, mode: str, size: int
) -> None:
    """Of an address in a large page, bits 12 and up are offset, too."""
    tables = _tables(memory, vcpu, mode, size)
    offset = 1 << bit | 0x321
    assert vcpu.gva_to_gpa(tables.linear + offset)[0] == 0x4000_0000 + offset


FRAMES = [
    ("pae", 12, 1 << 32), ("pae", 12, 0xF_FFFF_F000), ("four_level", 12, 1 << 32),
    ("four_level", 12, 0xF_FFFF_F000), ("four_level", 21, 0xF_FFE0_0000),
    ("four_level", 30, 0xF_C000_0000), ("four_level", 21, 1 << 46), ("four_level", 12, 1 << 46),
]  # fmt: skip


@requirement("L-WALK-5", "L-WALK-10", "L-WALK-13")
@pytest.mark.parametrize(("mode", "size", "frame"), FRAMES)
def test_frames_above_4_gib(
    memory: HostMemory, vcpu: Vcpu, mode: str, size: int, frame: int
) -> None:
    """A page may be above 4 GiB."""
    tables = _tables(memory, vcpu, mode, size, frame)
    assert vcpu.gva_to_gpa(tables.linear + 0x123) == (frame + 0x123, ALL)


@requirement("L-WALK-12")
@pytest.mark.parametrize("frame", [1 << 32, 0xF_FFE0_0000, 1 << 46])
def test_large_pae_page_above_4_gib(memory: HostMemory, vcpu: Vcpu, frame: int) -> None:
    """A 2 MiB page of PAE paging may be above 4 GiB."""
    tables = _tables(memory, vcpu, "pae", 21, frame)
    assert vcpu.gva_to_gpa(tables.linear + 0x123) == (frame + 0x123, ALL)


@requirement("L-WALK-10", "L-WALK-5")
@pytest.mark.parametrize("frame", [1 << 32, 1 << 35, 0x3F_FFC0_0000])
def test_four_mib_page_above_4_gib(memory: HostMemory, vcpu: Vcpu, frame: int) -> None:
    """Where CPUID offers PSE-36, bits 20:13 of a 4 MiB page's entry are bits 39:32 of its frame
    (SDM 3A 5.3)."""
    if not _features(memory, vcpu) & PSE36:
        check(True, "CPUID does not offer PSE-36")
        return
    tables = _tables(memory, vcpu, "two_level", 22, frame & 0xFFFFFFFF | frame >> 32 << 13)
    assert vcpu.gva_to_gpa(tables.linear + 0x123) == (frame + 0x123, ALL)


@requirement("L-WALK-13")
@pytest.mark.parametrize("bit", [48, 51])
@pytest.mark.parametrize("size", [21, 30])
def test_large_page_above_bit_47(memory: HostMemory, vcpu: Vcpu, size: int, bit: int) -> None:
    """The frame of a large page of 4-level paging reaches to bit 51, as that of a small one."""
    tables = _tables(memory, vcpu, "four_level", size, 1 << bit)
    assert vcpu.gva_to_gpa(tables.linear)[0] == 1 << bit


@requirement("L-WALK-13", "L-WALK-10")
@pytest.mark.parametrize("bit", [48, 51])
def test_small_page_above_bit_47(memory: HostMemory, vcpu: Vcpu, bit: int) -> None:
    """The frame of a 4 KiB page of 4-level paging reaches to bit 51."""
    tables = _tables(memory, vcpu, "four_level", 12, 1 << bit)
    assert vcpu.gva_to_gpa(tables.linear)[0] == 1 << bit


@requirement("L-WALK-14", "L-WALK-5")
@pytest.mark.parametrize("root", [0x3020, 0x3040, 0x3FE0])
def test_pae_table_at_a_multiple_of_32(memory: HostMemory, vcpu: Vcpu, root: int) -> None:
    """The first table of PAE paging is at CR3 bits 31:5."""
    tables = _tables(memory, vcpu, "pae", 12)
    memory.data[ROOT : ROOT + PAGE_SIZE] = bytes(PAGE_SIZE)
    tables.build(0x5000_0000, root=root)
    assert vcpu.gva_to_gpa(tables.linear)[0] == 0x5000_0000


@requirement("L-WALK-14")
@pytest.mark.parametrize("mode", MODES)
def test_flags_in_cr3_are_no_address(memory: HostMemory, vcpu: Vcpu, mode: str) -> None:
    """PWT and PCD of CR3 are no part of the table's address."""
    tables = _tables(memory, vcpu, mode, 12)
    tables.control(cr3=ROOT | 0x18)
    assert vcpu.gva_to_gpa(tables.linear)[0] == 0x4000_0000


@requirement("L-WALK-10", "L-WALK-5")
@pytest.mark.parametrize("bit", [5, 6, 9, 11, 52, 58])
@pytest.mark.parametrize(("mode", "size"), PAGES)
def test_other_bits_of_an_entry_are_no_address(
    memory: HostMemory, vcpu: Vcpu, mode: str, size: int, bit: int
) -> None:
    """A, D, G and the bits that software may use change neither address nor rights."""
    tables = _tables(memory, vcpu, mode, size)
    if bit >= 52 and mode != "four_level":
        bit = {52: 9, 58: 11}[bit]  # what software may use here
    tables.put(-1, tables.entry(-1) | 1 << bit)
    assert vcpu.gva_to_gpa(tables.linear + 5) == (0x4000_0005, ALL)


@requirement("L-WALK-9")
@pytest.mark.parametrize("mode", MODES)
def test_pat_bit_of_a_small_page(memory: HostMemory, vcpu: Vcpu, mode: str) -> None:
    """Bit 7 of a 4 KiB page's entry is the PAT index, and no matter of translation."""
    tables = _tables(memory, vcpu, mode, 12)
    tables.put(-1, tables.entry(-1) | 0x80)
    assert vcpu.gva_to_gpa(tables.linear + 5) == (0x4000_0005, ALL)


@requirement("L-WALK-10")
@pytest.mark.parametrize(("mode", "size"), [one for one in PAGES if one[1] > 12])
def test_pat_bit_of_a_large_page(memory: HostMemory, vcpu: Vcpu, mode: str, size: int) -> None:
    """Bit 12 of a large page's entry is the PAT index, and no address."""
    tables = _tables(memory, vcpu, mode, size)
    tables.put(-1, tables.entry(-1) | 0x1000)
    assert vcpu.gva_to_gpa(tables.linear + 5) == (0x4000_0005, ALL)


# ---- what decides the mode ----------------------------------------------------------


@requirement("L-WALK-5", "L-WALK-15")
def test_lme_alone_is_not_long_mode(memory: HostMemory, vcpu: Vcpu) -> None:
    """With EFER.LME and without LMA, PAE paging has three levels."""
    tables = _tables(memory, vcpu, "pae", 12)
    tables.control(efer=LME | NXE)
    assert vcpu.gva_to_gpa(tables.linear)[0] == 0x4000_0000


@requirement("L-WALK-5", "L-WALK-4")
def test_long_mode_without_pae_has_no_translation(memory: HostMemory, vcpu: Vcpu) -> None:
    """EFER.LMA without CR4.PAE, which no processor has, is EFAULT."""
    tables = _tables(memory, vcpu, "four_level", 12)
    tables.control(cr4=PSE)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)


@requirement("L-WALK-5", "L-WALK-11")
@pytest.mark.parametrize(("mode", "size"), [("pae", 21), ("four_level", 21), ("four_level", 30)])
def test_large_pages_need_no_pse_with_pae(
    memory: HostMemory, vcpu: Vcpu, mode: str, size: int
) -> None:
    """With CR4.PAE there are large pages whatever CR4.PSE says."""
    tables = _tables(memory, vcpu, mode, size)
    for cr4 in (PAE, PAE | PSE):
        tables.control(cr4=cr4)
        check.equal(vcpu.gva_to_gpa(tables.linear)[0], 0x4000_0000, f"with CR4 {cr4:#x}")


@requirement("L-WALK-11")
def test_ps_without_pse_is_ignored(memory: HostMemory, vcpu: Vcpu) -> None:
    """In 32-bit paging with CR4.PSE clear, PS of a PDE has no meaning (SDM 3A 5.3)."""
    tables = _tables(memory, vcpu, "two_level", 12)
    tables.put(0, tables.entry(0) | PS)
    tables.control(cr4=0)
    assert vcpu.gva_to_gpa(tables.linear)[0] == 0x4000_0000


# ---- what is not there --------------------------------------------------------------

LEVELS = [
    (mode, size, level)
    for mode, size in PAGES
    for level in range(sum(shift >= size for shift in MODES[mode].shifts))
]


@requirement("L-WALK-4")
@pytest.mark.parametrize(("mode", "size", "level"), LEVELS)
def test_not_present(memory: HostMemory, vcpu: Vcpu, mode: str, size: int, level: int) -> None:
    """An entry that is not present, at any level, is EFAULT."""
    tables = _tables(memory, vcpu, mode, size)
    tables.put(level, tables.entry(level) & ~P)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)


@requirement("L-WALK-7", "L-WALK-4")
@pytest.mark.parametrize("mode", MODES)
def test_table_outside_memory(memory: HostMemory, vcpu: Vcpu, mode: str) -> None:
    """A table where no memory is mapped is EFAULT."""
    tables = _tables(memory, vcpu, mode, 12)
    tables.control(cr3=0x80_0000)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)
    tables.control(cr3=ROOT)
    tables.put(-2, tables.entry(-2) | 0x80_0000)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)


@requirement("L-WALK-8")
@pytest.mark.parametrize("gva", [1 << 47, 0xFFFF_7FFF_FFFF_F000, 0x8000_0000_0000_0000, 0x1 << 48])
def test_no_canonical_address(memory: HostMemory, vcpu: Vcpu, gva: int) -> None:
    """In 4-level paging an address whose bits 63:47 are not all equal is EFAULT."""
    tables = _tables(memory, vcpu, "four_level", 12)
    for place in range(ROOT, ROOT + 4 * PAGE_SIZE, 8):  # everything is mapped
        level = (place - ROOT) // PAGE_SIZE
        target = 0x4000_0000 if level == 3 else ROOT + (level + 1) * PAGE_SIZE
        memory.data[place : place + 8] = (target | RWX).to_bytes(8, "little")
    check.equal(vcpu.gva_to_gpa(tables.linear)[0], 0x4000_0000, "a canonical one")
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(gva)


@requirement("L-WALK-4", "L-WALK-5")
def test_no_page_of_512_gib(memory: HostMemory, vcpu: Vcpu) -> None:
    """PS in the first level of 4-level paging is reserved: EFAULT."""
    tables = _tables(memory, vcpu, "four_level", 12)
    tables.put(0, tables.entry(0) | PS)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)


@requirement("L-WALK-6", "L-WALK-4")
@pytest.mark.parametrize(
    ("mode", "size", "bit"),
    [("pae", 21, 13), ("pae", 21, 20), ("four_level", 21, 13), ("four_level", 30, 29)],
)
def test_reserved_bits_of_a_large_page(
    memory: HostMemory, vcpu: Vcpu, mode: str, size: int, bit: int
) -> None:
    """Bits between the PAT and the frame of a large page are reserved: no translation."""
    tables = _tables(memory, vcpu, mode, size)
    tables.put(-1, tables.entry(-1) | 1 << bit)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)


@requirement("L-WALK-6", "L-WALK-4")
@pytest.mark.parametrize("mode", ["pae", "four_level"])
def test_nx_is_reserved_without_nxe(memory: HostMemory, vcpu: Vcpu, mode: str) -> None:
    """With EFER.NXE clear, bit 63 of an entry is reserved: no translation."""
    tables = _tables(memory, vcpu, mode, 12)
    tables.put(-1, tables.entry(-1) | NX)
    tables.control(efer=MODES[mode].efer & ~NXE)
    with expect_errno(errno.EFAULT):
        vcpu.gva_to_gpa(tables.linear)


# ---- rights -------------------------------------------------------------------------

RIGHTS = [
    (mode, size, level, right)
    for mode, size, level in LEVELS
    for right in ("write", "user", "exec")
    if not (mode == "two_level" and right == "exec") and not (mode == "pae" and level == 0)
]


@requirement("L-WALK-6", "L-WALK-1")
@pytest.mark.parametrize(("mode", "size", "level", "right"), RIGHTS)
def test_a_level_takes_a_right(
    memory: HostMemory, vcpu: Vcpu, mode: str, size: int, level: int, right: str
) -> None:
    """R/W, U/S or NX at any level takes WRITE, USER or EXEC, and nothing else."""
    tables = _tables(memory, vcpu, mode, size)
    entry = tables.entry(level)
    changed = {"write": entry & ~W, "user": entry & ~U, "exec": entry | NX}[right]
    tables.put(level, changed)
    taken = {"write": Prot.WRITE, "user": Prot.USER, "exec": Prot.EXEC}[right]
    assert vcpu.gva_to_gpa(tables.linear) == (0x4000_0000, ALL & ~taken)


@requirement("L-WALK-6")
@pytest.mark.parametrize(("mode", "size"), PAGES)
def test_a_page_can_be_read(memory: HostMemory, vcpu: Vcpu, mode: str, size: int) -> None:
    """A page without any other right can be read."""
    tables = _tables(memory, vcpu, mode, size)
    nx = 0 if mode == "two_level" else NX
    tables.put(-1, tables.entry(-1) & ~(W | U) | nx)
    rights = vcpu.gva_to_gpa(tables.linear)[1]
    assert rights == (Prot.READ if nx else Prot.READ | Prot.EXEC)


@requirement("L-WALK-6")
@pytest.mark.parametrize(("mode", "size"), PAGES)
def test_asking_changes_no_table(memory: HostMemory, vcpu: Vcpu, mode: str, size: int) -> None:
    """nvmm_gva_to_gpa() is no access: it sets no A or D."""
    tables = _tables(memory, vcpu, mode, size)
    before = bytes(memory.data)
    vcpu.gva_to_gpa(tables.linear)
    assert bytes(memory.data) == before


@requirement("L-WALK-14", level=Level.INFO)
@pytest.mark.parametrize("mode", ["two_level", "pae"])
def test_bits_above_31_are_ignored(memory: HostMemory, vcpu: Vcpu, mode: str) -> None:
    """Outside long mode bits of the address above 31 are ignored."""
    tables = _tables(memory, vcpu, mode, 12)
    assert vcpu.gva_to_gpa(tables.linear | 7 << 32)[0] == 0x4000_0000


# ---- of a guest that has run --------------------------------------------------------


@requirement("L-WALK-1", "L-WALK-5")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_translation_of_a_guest_that_ran(vm: VirtualMachine) -> None:
    """After an exit, the guest's own paging is used, without having asked for its state."""
    guest = vm.prepare_code("    hlt")
    guest.next_exit()
    assert guest.vcpu.gva_to_gpa(0x1234)[0] == 0x1234


@requirement("L-WALK-4", "L-WALK-5")
@modes(Mode.COMPAT32, Mode.LONG64)
def test_guest_has_1_gib(vm: VirtualMachine) -> None:
    """After an exit, what the guest has not mapped is EFAULT."""
    guest = vm.prepare_code("    hlt")
    guest.next_exit()
    with expect_errno(errno.EFAULT):
        guest.vcpu.gva_to_gpa(0x4000_0000)


# ---- nvmm_gpa_to_hva ----------------------------------------------------------------

AREAS = {
    "rwx": Prot.READ | Prot.WRITE | Prot.EXEC,
    "rx": Prot.READ | Prot.EXEC,
    "rw": Prot.READ | Prot.WRITE,
    "r": Prot.READ,
}


@requirement("L-GPA-8", "L-GPA-5")
@pytest.mark.parametrize("offset", [0, 1, 0xFFF, 0x1000, 0x1FFF])
@pytest.mark.parametrize("rights", AREAS)
def test_gpa_to_hva(machine: Machine, rights: str, offset: int) -> None:
    """A GPA in an area gives the host's address of that very byte, and the area's rights."""
    with HostMemory(2 * PAGE_SIZE) as pages:
        machine.hva_map(pages)
        machine.gpa_map(pages.hva, 0x80_0000, pages.size, AREAS[rights])
        found = machine.gpa_to_hva(0x80_0000 + offset)
        assert found == (pages.hva + offset, AREAS[rights])


@requirement("L-GPA-8")
@pytest.mark.parametrize("gpa", [0, 0x7F_FFFF, 0x80_2000, 1 << 40])
def test_gpa_without_memory(machine: Machine, gpa: int) -> None:
    """A GPA in no area is ENOENT."""
    with HostMemory(2 * PAGE_SIZE) as pages:
        machine.hva_map(pages)
        machine.gpa_map(pages.hva, 0x80_0000, pages.size, AREAS["rwx"])
        with expect_errno(errno.ENOENT):
            machine.gpa_to_hva(gpa)


@requirement("L-GPA-8", "L-GPA-2")
def test_one_host_page_at_two_places(machine: Machine) -> None:
    """Memory may be mapped at several GPAs, and each leads to it."""
    with HostMemory(PAGE_SIZE) as pages:
        machine.hva_map(pages)
        for gpa in (0x80_1000, 0x80_0000, 0x80_2000):  # side by side
            machine.gpa_map(pages.hva, gpa, pages.size, AREAS["rwx"])
        for gpa in (0x80_0000, 0x80_1000, 0x80_2000):
            check.equal(machine.gpa_to_hva(gpa + 5)[0], pages.hva + 5, f"GPA {gpa:#x}")


@requirement("L-GPA-8", "L-GPA-6")
def test_gpa_is_gone_after_unmap(machine: Machine) -> None:
    """After nvmm_gpa_unmap() the GPA is ENOENT."""
    with HostMemory(PAGE_SIZE) as pages:
        machine.hva_map(pages)
        machine.gpa_map(pages.hva, 0x80_0000, pages.size, AREAS["rwx"])
        machine.gpa_unmap(pages.hva, 0x80_0000, pages.size)
        with expect_errno(errno.ENOENT):
            machine.gpa_to_hva(0x80_0000)
