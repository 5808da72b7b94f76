/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * hva_map, hva_unmap, gpa_map, gpa_unmap, gpa_to_hva (spec libnvmm 4.7,
 * kernel 3).
 */
#include "vm.h"

#define RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)
#define MAX_RAM	UINT64_C(0x2000000000)

static struct nvmm_machine mach;
static uint8_t *mem;			/* 64 spare pages */
#define HVA(page)	((uintptr_t)mem + (page) * PAGE)

static void
open_machine(void)
{
	CHECK(nvmm_init() == 0);
	CHECK(nvmm_machine_create(&mach) == 0);
	mem = spare(64 * PAGE);
}

TEST(hva_map_checks)
{
	open_machine();
	FAILS(EINVAL, nvmm_hva_map(&mach, HVA(0) + 1, PAGE));	/* K-MEM-1 */
	FAILS(EINVAL, nvmm_hva_map(&mach, HVA(0), PAGE + 1));
	FAILS(EINVAL, nvmm_hva_map(&mach, 0, PAGE));		/* K-MEM-2 */
	SAME(0, nvmm_hva_map(&mach, HVA(8), 8 * PAGE));
	FAILS(EEXIST, nvmm_hva_map(&mach, HVA(7), 2 * PAGE));	/* K-MEM-3, L-HVA-2 */
	FAILS(EEXIST, nvmm_hva_map(&mach, HVA(15), 2 * PAGE));
	FAILS(EEXIST, nvmm_hva_map(&mach, HVA(7), 10 * PAGE));
	SAME(0, nvmm_hva_map(&mach, HVA(7), PAGE));		/* K-MEM-4 */
	SAME(0, nvmm_hva_map(&mach, HVA(16), PAGE));
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(hva_map_zeroes)
{
	open_machine();
	memset(mem, 0xAA, 2 * PAGE);
	SAME(0, nvmm_hva_map(&mach, HVA(0), PAGE));		/* L-HVA-1, K-MEM-7 */
	SAME(0, mem[0]);
	SAME(0, mem[PAGE - 1]);
	SAME(0xAA, mem[PAGE]);
	mem[0] = 1;
	SAME(0, nvmm_hva_map(&mach, HVA(0), PAGE));		/* K-MEM-5 */
	SAME(0, mem[0]);
	mem[0] = 2;
	CHECK(nvmm_machine_destroy(&mach) == 0);
	SAME(2, mem[0]);					/* K-MACH-7 */
}

TEST(hva_slots)
{
	size_t i;

	open_machine();
	for (i = 0; i < 32; i++)
		SAME(0, nvmm_hva_map(&mach, HVA(i), PAGE));
	FAILS(ENOBUFS, nvmm_hva_map(&mach, HVA(40), PAGE));	/* K-MEM-6 */
	FAILS(ENOENT, nvmm_hva_unmap(&mach, HVA(3), 2 * PAGE));	/* K-MEM-8 */
	FAILS(ENOENT, nvmm_hva_unmap(&mach, HVA(40), PAGE));
	SAME(0, nvmm_hva_unmap(&mach, HVA(3), PAGE));
	FAILS(ENOENT, nvmm_hva_unmap(&mach, HVA(3), PAGE));
	SAME(0, nvmm_hva_map(&mach, HVA(40), PAGE));
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(gpa_map_overlap)
{
	open_machine();
	CHECK(nvmm_hva_map(&mach, HVA(0), 64 * PAGE) == 0);
	SAME(0, nvmm_gpa_map(&mach, HVA(0), 0x10000, 4 * PAGE, RWX));
	FAILS(EINVAL, nvmm_gpa_map(&mach, HVA(8), 0x10000, PAGE, RWX));	/* L-GPA-2 */
	FAILS(EINVAL, nvmm_gpa_map(&mach, HVA(8), 0xF000, 2 * PAGE, RWX));
	FAILS(EINVAL, nvmm_gpa_map(&mach, HVA(8), 0x13000, 2 * PAGE, RWX));
	FAILS(EINVAL, nvmm_gpa_map(&mach, HVA(8), 0xF000, 8 * PAGE, RWX));
	SAME(0, nvmm_gpa_map(&mach, HVA(8), 0x14000, PAGE, RWX));
	SAME(0, nvmm_gpa_map(&mach, HVA(8), 0xF000, PAGE, RWX));	/* same hva */
	SAME(0, nvmm_gpa_map(&mach, HVA(0), MAX_RAM - PAGE, PAGE, RWX));	/* K-MEM-14 */
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(gpa_unmap_exact)
{
	open_machine();
	CHECK(nvmm_hva_map(&mach, HVA(0), 64 * PAGE) == 0);
	CHECK(nvmm_gpa_map(&mach, HVA(0), 0x10000, 4 * PAGE, RWX) == 0);
	errno = EXDEV;			/* L-GPA-6: left as it was */
	SAME(-1, nvmm_gpa_unmap(&mach, HVA(0), 0x10000, PAGE));
	SAME(EXDEV, errno);
	SAME(-1, nvmm_gpa_unmap(&mach, HVA(1), 0x10000, 4 * PAGE));
	SAME(0, nvmm_gpa_unmap(&mach, HVA(0), 0x10000, 4 * PAGE));
	SAME(-1, nvmm_gpa_unmap(&mach, HVA(0), 0x10000, 4 * PAGE));
	SAME(0, nvmm_gpa_map(&mach, HVA(0), 0x11000, PAGE, RWX));
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(gpa_to_hva)
{
	uintptr_t hva = 0;
	nvmm_prot_t prot = 0;

	open_machine();
	CHECK(nvmm_hva_map(&mach, HVA(0), 64 * PAGE) == 0);
	CHECK(nvmm_gpa_map(&mach, HVA(2), 0x10000, 4 * PAGE,
	    PROT_READ | PROT_EXEC) == 0);
	SAME(0, nvmm_gpa_to_hva(&mach, 0x11234, &hva, &prot));
	SAME(HVA(3) + 0x234, hva);				/* L-GPA-8 */
	SAME(NVMM_PROT_READ | NVMM_PROT_EXEC, prot);		/* L-GPA-5 */
	SAME(0, nvmm_gpa_to_hva(&mach, 0x13FFF, &hva, &prot));
	FAILS(ENOENT, nvmm_gpa_to_hva(&mach, 0x14000, &hva, &prot));
	FAILS(ENOENT, nvmm_gpa_to_hva(&mach, 0xFFFF, &hva, &prot));
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

/* Each of these the kernel refuses and the library answers with abort()
 * (L-GPA-4, L-GPA-7): the test wants SIGABRT. */
#define ABORTS(name, call)						\
	TEST(aborts_##name)						\
	{								\
		open_machine();						\
		CHECK(nvmm_hva_map(&mach, HVA(0), 4 * PAGE) == 0);	\
		CHECK(nvmm_hva_map(&mach, HVA(4), 4 * PAGE) == 0);	\
		call;							\
	}
ABORTS(gpa_unaligned /* L-GPA-4 K-MEM-12 */, nvmm_gpa_map(&mach, HVA(0), 1, PAGE, RWX))
ABORTS(hva_unaligned, nvmm_gpa_map(&mach, HVA(0) + 8, 0, PAGE, RWX))
ABORTS(size_unaligned, nvmm_gpa_map(&mach, HVA(0), 0, 100, RWX))
ABORTS(size_zero /* K-MEM-13 */, nvmm_gpa_map(&mach, HVA(0), 0, 0, RWX))
ABORTS(prot_bit /* K-MEM-11 */, nvmm_gpa_map(&mach, HVA(0), 0, PAGE, 8))
ABORTS(above_max_ram, nvmm_gpa_map(&mach, HVA(0), MAX_RAM, PAGE, RWX))
ABORTS(over_max_ram /* K-MEM-14 */, nvmm_gpa_map(&mach, HVA(0), MAX_RAM - PAGE, 2 * PAGE, RWX))
ABORTS(hva_not_mapped /* K-MEM-15 */, nvmm_gpa_map(&mach, HVA(9), 0, PAGE, RWX))
ABORTS(hva_in_two, nvmm_gpa_map(&mach, HVA(3), 0, 2 * PAGE, RWX))
ABORTS(unmap_at_top /* L-GPA-7 K-MEM-19 */, CHECK(nvmm_gpa_map(&mach, HVA(0), MAX_RAM - PAGE, PAGE, RWX) == 0);
    nvmm_gpa_unmap(&mach, HVA(0), MAX_RAM - PAGE, PAGE))

/* ---- what the guest sees ----------------------------------------------------- */

/* mov al,[0x8000]; out 0x80,al; jmp again */
#define LOAD_LOOP	"\xA0\x00\x80\xE6\x80\xEB\xF9"

TEST(guest_and_host_share)
{
	struct vm vm;

	VM_OPEN(&vm, "\xC6\x06\x00\x80\x77\xF4");	/* mov byte [0x8000],0x77 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0x77, vm.ram[0x8000]);			/* K-MEM-22 */
	vm_close(&vm);
}

TEST(guest_keeps_unmapped_hva)
{
	struct vm vm;

	VM_OPEN(&vm, LOAD_LOOP);
	vm.ram[0x8000] = 0x5C;
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(0, nvmm_hva_unmap(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE));
	set_gpr(&vm, NVMM_X64_GPR_RAX, 0);
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));		/* L-HVA-3 */
	SAME(0x5C, gpr(&vm, NVMM_X64_GPR_RAX) & 0xFF);
	vm.ram = spare(RAM_SIZE);			/* for vm_close */
	vm_close(&vm);
}

TEST(unmap_takes_effect)
{
	struct vm vm;

	VM_OPEN(&vm, LOAD_LOOP);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(0, nvmm_gpa_unmap(&vm.mach, (uintptr_t)vm.ram, 0, RAM_SIZE));
	SAME(0, nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, 0, 0x8000, RWX));
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));		/* K-MEM-23 */
	SAME(0x8000, vm.vcpu.exit->u.mem.gpa);
	SAME(NVMM_PROT_READ, vm.vcpu.exit->u.mem.prot);
	vm_close(&vm);
}

TEST(aliases)
{
	struct vm vm;

	VM_OPEN(&vm, "\xA0\x00\x80\xA2\x00\x00\xF4");	/* al=[0x8000]; [0]=al */
	/* DS at 256 KiB, where the same page is mapped once more. */
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram + 0x2000, RAM_SIZE,
	    PAGE, RWX) == 0);
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram + 0x2000,
	    RAM_SIZE + 0x8000, PAGE, PROT_READ) == 0);
	get_state(&vm, NVMM_X64_STATE_SEGS)->segs[NVMM_X64_SEG_DS].base =
	    RAM_SIZE;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	vm.ram[0x2000] = 0x42;
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-MEM-17 */
	SAME(0x42, gpr(&vm, NVMM_X64_GPR_RAX));
	vm_close(&vm);
}
