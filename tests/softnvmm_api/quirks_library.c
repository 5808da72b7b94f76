/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A scenario for each quirk of the library's half: page walks and assists on
 * states and exits made up for it.
 */
#include "scene.h"

#define R(name)		NVMM_X64_GPR_##name

/* ---- walks ----------------------------------------------------------------------- */

static void
walk(struct vm *vm, gvaddr_t gva)
{
	nvmm_prot_t prot = 0;
	gpaddr_t gpa = 0;

	see_call("walk", nvmm_gva_to_gpa(&vm->mach, &vm->vcpu, gva, &gpa,
	    &prot));
	see("gpa", gpa);
	vm_close(vm);
}

TEST(walk_pat_bit_refused)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	long_mode(&vm);
	memcpy(vm.ram + 0x12000, &(uint64_t){ 0x13007 }, 8);
	memcpy(vm.ram + 0x13000, &(uint64_t){ 0x5087 }, 8);
	walk(&vm, 0x123);
}

/* Down to a byte that INS writes, which only has the processor's own checks where
 * the assist makes them. */
static void
ins_to(uint64_t entry, unsigned cpl, uint64_t cr0, uint64_t cr4, uint64_t rflags)
{
	struct vm vm;

	scene(&vm, CODE("\x6C"));
	long_mode(&vm);
	memcpy(vm.ram + 0x12000, &entry, 8);
	vm.vcpu.state->segs[NVMM_X64_SEG_SS].attrib.dpl = cpl;
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] |= cr0;
	vm.vcpu.state->crs[NVMM_X64_CR_CR4] |= cr4;
	vm.vcpu.state->gprs[R(RFLAGS)] = rflags;
	vm.vcpu.state->gprs[R(RDI)] = 0x20000;
	memset(vm.vcpu.exit, 0, sizeof(*vm.vcpu.exit));
	vm.vcpu.exit->reason = NVMM_VCPU_EXIT_IO;
	vm.vcpu.exit->u.io = (struct nvmm_x86_exit_io){
		.in = true, .str = true, .operand_size = 1, .address_size = 8,
		.npc = ENTRY + 1
	};
	handle(&vm);
	see_bytes("entry", vm.ram + 0x12000, 8);
	see_bytes("table", vm.ram + 0x10000, 8);
	vm_close(&vm);
}

TEST(walk_rights_of_tables_only)
{
	const uint64_t wp = 1 << 16, smap = 1 << 21, ac = 1 << 18;
	struct vm vm;

	ins_to(0x87, 3, 0, 0, 2);
	ins_to(0x83, 3, 0, 0, 2);		/* supervisor page */
	ins_to(0x85, 0, 0, 0, 2);		/* read-only */
	ins_to(0x85, 0, wp, 0, 2);
	ins_to(0x87, 0, 0, smap, 2);
	ins_to(0x87, 0, 0, smap, ac | 2);
	scene(&vm, CODE("\xF4"));
	long_mode(&vm);
	vm.ram[0x12002] = 2;			/* bit 17 of a 2 MiB page */
	walk(&vm, 0x123);
	scene(&vm, CODE("\xF4"));
	long_mode(&vm);				/* without NXE */
	vm.ram[0x12007] = 0x80;
	walk(&vm, 0x123);
}

TEST(walk_large_48_bits)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	long_mode(&vm);
	memcpy(vm.ram + 0x12000, &(uint64_t){ UINT64_C(1) << 50 | 0x87 }, 8);
	walk(&vm, 0x123);
}

TEST(walk_ps_needs_pse)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] = 0x80000011;
	vm.vcpu.state->crs[NVMM_X64_CR_CR3] = 0x10000;
	memcpy(vm.ram + 0x10000, &(uint32_t){ 0x11087 }, 4);
	memcpy(vm.ram + 0x11000, &(uint32_t){ 0x5007 }, 4);
	walk(&vm, 0x123);
}

TEST(walk_without_pse36)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] = 0x80000011;
	vm.vcpu.state->crs[NVMM_X64_CR_CR4] = 0x10;
	vm.vcpu.state->crs[NVMM_X64_CR_CR3] = 0x10000;
	memcpy(vm.ram + 0x10000, &(uint32_t){ 0x4087 | 0x8000000 }, 4);
	walk(&vm, 0x123);
}

TEST(walk_pae_2m_below_4g)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] = 0x80000011;
	vm.vcpu.state->crs[NVMM_X64_CR_CR4] = 0x20;
	vm.vcpu.state->crs[NVMM_X64_CR_CR3] = 0x10000;
	memcpy(vm.ram + 0x10000, &(uint64_t){ 0x11001 }, 8);
	memcpy(vm.ram + 0x11000, &(uint64_t){ 0x100000087 }, 8);
	walk(&vm, 0x123);
}

/* ---- I/O -------------------------------------------------------------------------- */

static struct nvmm_x86_exit_io *
outs(struct vm *vm, bool rep)
{
	struct nvmm_x86_exit_io *io = &vm->vcpu.exit->u.io;

	memset(vm->vcpu.exit, 0, sizeof(*vm->vcpu.exit));
	vm->vcpu.exit->reason = NVMM_VCPU_EXIT_IO;
	io->port = 0x80;
	io->seg = NVMM_X64_SEG_DS;
	io->address_size = 2;
	io->operand_size = 1;
	io->str = true;
	io->rep = rep;
	io->npc = ENTRY + 2;
	return io;
}

static void
assist(struct vm *vm)
{
	handle(vm);
	see_bytes("gprs", vm->vcpu.state->gprs, sizeof(vm->vcpu.state->gprs));
	vm_close(vm);
}

TEST(outs_prefixes_in_five_bytes)
{
	struct vm vm;

	scene(&vm, CODE("\x66\x66\x66\x66\x66\x26\x6E"));
	set_base(&vm, NVMM_X64_SEG_ES, 0x2000);
	vm.ram[0] = 1;
	vm.ram[0x2000] = 2;
	outs(&vm, false)->seg = -1;
	assist(&vm);
}

TEST(string_index_64bit)
{
	struct vm vm;

	scene(&vm, CODE("\x6E"));
	vm.vcpu.state->gprs[R(RSI)] = 0xFFFF;
	outs(&vm, false);
	assist(&vm);
}

TEST(io_batch_first_limit_only)
{
	struct vm vm;

	scene(&vm, CODE("\xF3\x6E"));
	vm.vcpu.state->segs[NVMM_X64_SEG_DS].limit = 0x17;
	vm.vcpu.state->gprs[R(RSI)] = 0x10;
	vm.vcpu.state->gprs[R(RCX)] = 16;
	outs(&vm, true);
	assist(&vm);
}

/* A page at `gpa` that the guest cannot write. */
static void
read_only(struct vm *vm, gpaddr_t gpa)
{
	uintptr_t hva = (uintptr_t)spare(PAGE);

	CHECK(nvmm_hva_map(&vm->mach, hva, PAGE) == 0);
	CHECK(nvmm_gpa_map(&vm->mach, hva, gpa, PAGE, PROT_READ) == 0);
}

TEST(ins_reads_device_first)
{
	struct vm vm;

	scene(&vm, CODE("\x6C"));
	read_only(&vm, RAM_SIZE);
	vm.vcpu.state->segs[NVMM_X64_SEG_ES].base = RAM_SIZE;
	outs(&vm, false);
	vm.vcpu.exit->u.io.in = true;
	vm.vcpu.exit->u.io.seg = NVMM_X64_SEG_ES;
	assist(&vm);
}

/* One that has completed, and one of two iterations. */
TEST(assist_keeps_rf)
{
	struct vm vm;
	bool rep;

	for (rep = false;; rep = true) {
		scene(&vm, CODE("\xF4"));
		vm.vcpu.state->gprs[R(RFLAGS)] = 0x10402;
		vm.vcpu.state->gprs[R(RSI)] = 0x100;
		vm.vcpu.state->gprs[R(RCX)] = 2;
		outs(&vm, rep);
		assist(&vm);
		if (rep)
			break;
	}
}

/* ---- memory ----------------------------------------------------------------------- */

static void
mem_of(struct vm *vm, const char *code, size_t size)
{
	struct nvmm_x86_exit_memory *e = &vm->vcpu.exit->u.mem;

	memset(vm->vcpu.exit, 0, sizeof(*vm->vcpu.exit));
	vm->vcpu.exit->reason = NVMM_VCPU_EXIT_MEMORY;
	e->gpa = DEVICE + 0x10;
	e->inst_len = (uint8_t)size;
	memcpy(e->inst_bytes, code, size);
	memcpy(device + 0x10, "\x81\x72\x63\x54\x45\x36\x27\x18", 8);
	handle(vm);
}

static void
mem(struct vm *vm, const char *code, size_t size)
{
	mem_of(vm, code, size);
	see_bytes("gprs", vm->vcpu.state->gprs, sizeof(vm->vcpu.state->gprs));
	vm_close(vm);
}

/* A string with ES somewhere. */
static void
movs(uint64_t base, uint32_t limit, bool g, bool lma, uint64_t rdi)
{
	struct nvmm_x64_state *st;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	st = vm.vcpu.state;
	st->segs[NVMM_X64_SEG_CS].attrib.def = 1;
	st->segs[NVMM_X64_SEG_ES].base = base;
	st->segs[NVMM_X64_SEG_ES].limit = limit;
	st->segs[NVMM_X64_SEG_ES].attrib.g = g;
	st->msrs[NVMM_X64_MSR_EFER] = lma ? 0x500 : 0;
	st->gprs[R(RSI)] = DEVICE + 0x10;
	st->segs[NVMM_X64_SEG_DS].limit = UINT32_MAX;
	st->gprs[R(RDI)] = rdi;
	mem(&vm, CODE("\xA4"));
}

TEST(linear_not_cut_to_32)	{ movs(0xFFFFF000, 0xFFFFF, false, false, 0x91020); }
TEST(compat_mode_as_64bit)	{ movs(0x80020, 0xFFFF, false, true, 0); }
TEST(segment_limit_scaled_twice) { movs(DEVICE, 0x1FFF, true, false, 0x2020); }

/* MOVSD to two pages, of which the second cannot be written. */
TEST(guest_memory_piece_by_piece)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	read_only(&vm, RAM_SIZE);
	vm.vcpu.state->segs[NVMM_X64_SEG_ES].base = RAM_SIZE - PAGE;
	vm.vcpu.state->segs[NVMM_X64_SEG_DS].base = DEVICE;
	vm.vcpu.state->gprs[R(RSI)] = 0x10;
	vm.vcpu.state->gprs[R(RDI)] = PAGE - 2;
	mem_of(&vm, CODE("\x66\xA5"));
	see_bytes("written", vm.ram + RAM_SIZE - 2, 2);
	vm_close(&vm);
}

TEST(mem_cross_page_one_callback)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	set_base(&vm, NVMM_X64_SEG_DS, DEVICE);
	vm.vcpu.state->gprs[R(RBX)] = 0xFFF;
	vm.vcpu.state->gprs[R(RAX)] = 0x1234;
	mem(&vm, CODE("\x89\x07"));			/* mov [bx],ax */
}

TEST(mem_fetch_all_15_bytes)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	set_base(&vm, NVMM_X64_SEG_CS, 0x30000);
	vm.vcpu.state->gprs[R(RIP)] = 0xFFF8;
	memcpy(vm.ram + 0x3FFF8, "\x88\x07", 2);	/* mov [bx],al */
	mem(&vm, CODE(""));
}

TEST(mem_rip_not_wrapped)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->gprs[R(RIP)] = 0xFFFE;
	mem(&vm, CODE("\x88\x07"));
}

static void
simple(const char *code, size_t size)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->gprs[R(RCX)] = 3;
	vm.vcpu.state->gprs[R(RSP)] = UINT64_MAX;
	vm.vcpu.state->gprs[R(RAX)] = 0x5A5A;
	vm.vcpu.state->gprs[R(RDI)] = 0xFFFF;
	vm.vcpu.state->gprs[R(RFLAGS)] = 0x42;		/* ZF */
	mem(&vm, code, size);
}

TEST(mem_immediate_zero_extended) { simple(CODE("\x83\x27\xF0")); }	/* and word [bx],-16 */
TEST(mem_movzx_high_byte)	{ simple(CODE("\x0F\xB6\x27")); }	/* movzx sp,[bx] */
TEST(mem_string_index_64bit)	{ simple(CODE("\xAA")); }
TEST(mem_rep_on_any_opcode)	{ simple(CODE("\xF3\x88\x07")); }
TEST(mem_repne_looks_at_zf)	{ simple(CODE("\xF2\xAA")); }

TEST(mem_cmps_swapped)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.ram[0x800] = 1;
	vm.ram[0x900] = 0xF0;
	vm.vcpu.state->gprs[R(RSI)] = 0x800;
	vm.vcpu.state->gprs[R(RDI)] = 0x900;
	mem(&vm, CODE("\xA6"));
}

TEST(mem_rep_count_upper_kept)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	long_mode(&vm);
	vm.vcpu.state->gprs[R(RCX)] = 0x700000003;
	mem(&vm, CODE("\x67\xF3\xAA"));
}
