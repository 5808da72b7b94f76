/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What an assist may do for the guest, and what it leaves in the page tables: as
 * the processor would have it (SDM 3A 4.5 to 4.8; test_rights.py).
 */
#include "scene.h"

#define R(name)		NVMM_X64_GPR_##name
#define P	0x01u
#define W	0x02u
#define U	0x04u
#define A	0x20u
#define D	0x40u
#define PS	0x80u
#define WP	(1u << 16)
#define SMAP	(1u << 21)
#define AC	(1u << 18)

struct access {
	unsigned entry;			/* of the 2 MiB page */
	unsigned cpl;
	uint64_t cr0, cr4, rflags;
	bool in;			/* INS writes, OUTS reads */
	bool allowed;
};

static void
no_device(struct nvmm_io *io)
{
	if (io->in)
		io->data[0] = 0x5A;
}

static uint8_t
byte_of(const struct vm *vm, unsigned table)
{
	return vm->ram[table];
}

static void
try(const struct access *a)
{
	struct nvmm_x86_exit_io *io;
	struct vm vm;
	int ret;

	VM_OPEN(&vm, "\x6C");
	get_state(&vm, NVMM_X64_STATE_ALL);
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu, NVMM_VCPU_CONF_CALLBACKS,
	    &(struct nvmm_assist_callbacks){ no_device, scene_mem }) == 0);
	long_mode(&vm);
	vm.ram[0x12000] = (uint8_t)(P | PS | a->entry);
	vm.vcpu.state->segs[NVMM_X64_SEG_SS].attrib.dpl = a->cpl & 3;
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] |= a->cr0;
	vm.vcpu.state->crs[NVMM_X64_CR_CR4] |= a->cr4;
	vm.vcpu.state->gprs[R(RFLAGS)] = 2 | a->rflags;
	vm.vcpu.state->gprs[R(RDI)] = vm.vcpu.state->gprs[R(RSI)] = 0x20000;
	memset(vm.vcpu.exit, 0, sizeof(*vm.vcpu.exit));
	vm.vcpu.exit->reason = NVMM_VCPU_EXIT_IO;
	io = &vm.vcpu.exit->u.io;
	io->in = a->in;
	io->str = true;
	io->operand_size = 1;
	io->address_size = 8;
	io->seg = a->in ? NVMM_X64_SEG_ES : NVMM_X64_SEG_DS;
	io->npc = ENTRY + 1;
	errno = 0;
	ret = nvmm_assist_io(&vm.mach, &vm.vcpu);
	SAME(a->allowed ? 0 : -1, ret);
	SAME(a->allowed ? 0 : EFAULT, errno);
	SAME(a->allowed && a->in ? 0x5A : 0, vm.ram[0x20000]);
	/* A on the way, D in the last one of a write; nothing for a fault. */
	SAME(a->allowed ? A : 0, byte_of(&vm, 0x10000) & (A | D));
	SAME(a->allowed ? A : 0, byte_of(&vm, 0x11000) & (A | D));
	SAME(a->allowed ? A | (a->in ? D : 0) : 0, byte_of(&vm, 0x12000) & (A | D));
	vm_close(&vm);
}

TEST(rights)
{
	static const struct access cases[] = {
		/* SDM 3A 4.6.1: user-mode accesses */
		{ .entry = U | W, .cpl = 3, .in = true, .allowed = true },
		{ .entry = U | W, .cpl = 3, .allowed = true },
		{ .entry = U, .cpl = 3, .allowed = true },
		{ .entry = U, .cpl = 3, .in = true },
		{ .entry = W, .cpl = 3 },
		{ .entry = W, .cpl = 3, .in = true },
		{ .entry = U | W, .cpl = 3, .cr4 = SMAP, .in = true, .allowed = true },
		/* supervisor-mode accesses */
		{ .entry = W, .in = true, .allowed = true },
		{ .entry = 0, .allowed = true },
		{ .entry = 0, .in = true, .allowed = true },
		{ .entry = 0, .cr0 = WP, .in = true },
		{ .entry = 0, .cr0 = WP, .allowed = true },
		{ .entry = U, .cr0 = WP, .in = true },
		{ .entry = U | W, .cpl = 2, .in = true, .allowed = true },
		{ .entry = W, .cpl = 1, .in = true, .allowed = true },
		/* SMAP is of data in user pages, and AC lifts it */
		{ .entry = U | W, .cr4 = SMAP, .in = true },
		{ .entry = U | W, .cr4 = SMAP },
		{ .entry = U | W, .cr4 = SMAP, .rflags = AC, .in = true, .allowed = true },
		{ .entry = W, .cr4 = SMAP, .in = true, .allowed = true },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		try(&cases[i]);
}

static int
translate(uint64_t entry, uint64_t efer)
{
	nvmm_prot_t prot;
	gpaddr_t gpa;
	struct vm vm;
	int ret;

	VM_OPEN(&vm, "\xF4");
	get_state(&vm, NVMM_X64_STATE_ALL);
	long_mode(&vm);
	vm.vcpu.state->msrs[NVMM_X64_MSR_EFER] |= efer;
	memcpy(vm.ram + 0x12000, &entry, 8);
	ret = nvmm_gva_to_gpa(&vm.mach, &vm.vcpu, 0x123, &gpa, &prot);
	if (ret == -1)
		SAME(EFAULT, errno);
	else		/* a translation is no access */
		SAME(0, vm.ram[0x12000] & (A | D));
	vm_close(&vm);
	return ret;
}

/* SDM 3A table 4-18 (a page of 2 MiB): bits 20:13; bit 63 unless NXE. */
TEST(reserved_bits)
{
	const uint64_t nx = UINT64_C(1) << 63, nxe = 1 << 11;
	unsigned bit;

	SAME(0, translate(0x87, 0));
	SAME(0, translate(0x87 | nx, nxe));
	SAME(-1, translate(0x87 | nx, 0));
	for (bit = 13; bit <= 20; bit++)
		SAME(-1, translate(0x87 | UINT64_C(1) << bit, 0));
	SAME(0, translate(0x87 | 1 << 12, 0));		/* the PAT */
	for (bit = 52; bit <= 62; bit++)		/* ignored */
		SAME(0, translate(0x87 | UINT64_C(1) << bit, 0));
}

/* SDM 3A tables 4-8 to 4-11: PAE has reserved bits that 4-level paging ignores. */
TEST(reserved_bits_of_pae)
{
	nvmm_prot_t prot;
	gpaddr_t gpa;
	struct vm vm;
	unsigned bit;

	VM_OPEN(&vm, "\xF4");
	get_state(&vm, NVMM_X64_STATE_ALL);
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] = 0x80000011;
	vm.vcpu.state->crs[NVMM_X64_CR_CR3] = 0x10000;
	vm.vcpu.state->crs[NVMM_X64_CR_CR4] = 0x20;
	for (bit = 0; bit < 64; bit++) {
		uint64_t pdpte = 0x11001, pde = 0x87;
		bool bad = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 52;

		if ((bit >= 9 && bit < 52) || bit == 0)
			continue;
		pdpte |= UINT64_C(1) << bit;
		memcpy(vm.ram + 0x10000, &pdpte, 8);
		memcpy(vm.ram + 0x11000, &pde, 8);
		SAME(bad ? -1 : 0, nvmm_gva_to_gpa(&vm.mach, &vm.vcpu, 0x123, &gpa,
		    &prot));
		if (bit < 52)
			continue;
		pdpte = 0x11001;
		pde |= UINT64_C(1) << bit;
		memcpy(vm.ram + 0x10000, &pdpte, 8);
		memcpy(vm.ram + 0x11000, &pde, 8);
		SAME(-1, nvmm_gva_to_gpa(&vm.mach, &vm.vcpu, 0x123, &gpa, &prot));
	}
	vm_close(&vm);
}
