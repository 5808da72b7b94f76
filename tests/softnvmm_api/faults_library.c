/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A scenario for each seeded fault of the assists, the page walk and the
 * areas; what it prints differs with the fault of its name switched on.
 */
#include "scene.h"

#define R(name)		NVMM_X64_GPR_##name

/* ---- port I/O ------------------------------------------------------------------- */

static void
string_io(const char *code, size_t size, uint64_t rcx, uint64_t rsi,
    uint64_t rdi, unsigned exits)
{
	struct vm vm;
	size_t i;

	scene(&vm, code, size);
	for (i = 0; i < 0x4000; i++)
		vm.ram[0x8000 + i] = (uint8_t)(i * 7);
	set_gpr(&vm, R(RAX), UINT64_C(0xA1A2A3A4A5A6A7A8));
	set_gpr(&vm, R(RCX), rcx);
	set_gpr(&vm, R(RDX), 0x3F8);
	set_gpr(&vm, R(RSI), rsi);
	set_gpr(&vm, R(RDI), rdi);
	play(&vm, exits);
}

TEST(outs_no_segment_base)
{
	struct vm vm;

	scene(&vm, CODE("\x6E"));			/* outsb */
	set_base(&vm, NVMM_X64_SEG_DS, 0x2000);
	vm.ram[0x2800] = 2;
	set_gpr(&vm, R(RSI), 0x800);
	play(&vm, 1);
}

TEST(ins_index_rsi)			{ string_io(CODE("\x6C"), 0, 0x8100, 0x8200, 1); }
TEST(io_count_64_bit)			{ string_io(CODE("\xF3\x6C"), 0x10002, 0, 0x8200, 1); }
TEST(in_replaces_rax)			{ string_io(CODE("\xEC"), 0, 0, 0, 1); }
TEST(in_eax_keeps_upper)		{ string_io(CODE("\x66\xED"), 0, 0, 0, 1); }
TEST(string_io_index_only_with_rep)	{ string_io(CODE("\x6C\x6C"), 0, 0, 0x8200, 2); }
TEST(second_page_lost)			{ string_io(CODE("\xF3\x6C"), 4, 0, 0x8FFE, 1); }
TEST(page_edge_off_by_one)		{ string_io(CODE("\xF3\x6E"), 4, 0x8FFE, 0, 1); }
TEST(io_rip_before_count)		{ string_io(CODE("\xF3\x6C"), 40, 0, 0x8200, 1); }
TEST(io_count_by_one)			{ string_io(CODE("\xF3\x6C"), 40, 0, 0x8200, 1); }
TEST(io_callback_whole_batch)		{ string_io(CODE("\xF3\x6E"), 4, 0x8200, 0, 1); }
TEST(io_callback_port_8_bit)		{ string_io(CODE("\xEE"), 0, 0, 0, 1); }
TEST(io_callback_direction)		{ string_io(CODE("\xEE"), 0, 0, 0, 1); }
TEST(string_io_ignores_df)		{ string_io(CODE("\xFD\x6C"), 0, 0, 0x8200, 1); }

TEST(limit_after_base)
{
	struct vm vm;

	scene(&vm, CODE("\x6E"));
	set_base(&vm, NVMM_X64_SEG_DS, 0x10000);
	play(&vm, 1);
}

TEST(limit_wraps_to_zero)
{
	struct vm vm;

	scene(&vm, CODE("\x6E"));
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_DS].limit = UINT32_MAX;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	play(&vm, 1);
}

TEST(outs_unknown_segment_is_ds)
{
	struct vm vm;

	scene(&vm, CODE("\x26\x6E"));			/* es: outsb */
	set_base(&vm, NVMM_X64_SEG_ES, 0x2000);
	vm.ram[0x2000] = 0xE5;
	run_and_see(&vm);
	vm.vcpu.exit->u.io.seg = -1;
	handle(&vm);
	see_state(&vm);
	vm_close(&vm);
}

TEST(io_rep_zero_stays)
{
	struct vm vm;

	scene(&vm, CODE("\xF3\x6E"));
	set_gpr(&vm, R(RCX), 1);
	run_and_see(&vm);
	set_gpr(&vm, R(RCX), 0);
	handle(&vm);
	see_state(&vm);
	vm_close(&vm);
}

TEST(long_mode_no_base)
{
	struct vm vm;

	scene(&vm, CODE("\x65\x6E"));			/* gs: outsb */
	long_mode(&vm);
	set_base(&vm, NVMM_X64_SEG_GS, 0x2000);
	vm.ram[0x2000] = 0x65;
	play(&vm, 1);
}

TEST(io_assist_errno)
{
	struct vm vm;

	scene(&vm, CODE("\x6E"));
	run_and_see(&vm);
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_DS].attrib.p = 0;
	handle(&vm);
	vm_close(&vm);
}

/* ---- memory ----------------------------------------------------------------------- */

/* DS, ES and FS at the device; registers and its first bytes as given. */
static void
at_device(const char *code, size_t size, uint64_t rax, uint64_t rcx,
    unsigned exits)
{
	struct vm vm;
	unsigned seg;

	scene(&vm, code, size);
	for (seg = NVMM_X64_SEG_ES; seg <= NVMM_X64_SEG_FS; seg++)
		if (seg != NVMM_X64_SEG_CS && seg != NVMM_X64_SEG_SS)
			set_base(&vm, seg, DEVICE);
	set_gpr(&vm, R(RAX), rax);
	set_gpr(&vm, R(RCX), rcx);
	set_gpr(&vm, R(RDI), 0x20);
	set_gpr(&vm, R(RSI), 0x40);
	memset(device, 0, sizeof(device));
	device[0x10] = 0x85;
	device[0x20] = 1;
	device[0x40] = 2;
	play(&vm, exits);
}
#define ONES	UINT64_C(0xFFFFFFFFFFFFFFFF)

TEST(mem_zf_inverted)		{ at_device(CODE("\x80\x26\x10\x00\x00"), 0, 0, 1); }
TEST(mem_pf_whole_operand)	{ at_device(CODE("\x81\x0E\x14\x00\x00\x01"), 0, 0, 1); }
TEST(mem_old_register_lost)	{ at_device(CODE("\x0A\x06\x10\x00"), 0x5A, 0, 1); }
TEST(mem_modrm_16_as_32)	{ at_device(CODE("\x8A\x06\x10\x00"), 0, 0, 1); }
TEST(mem_xchg_refused)		{ at_device(CODE("\x86\x06\x10\x00"), 7, 0, 1); }
TEST(mem_xchg_stores_only)	{ at_device(CODE("\x86\x06\x10\x00"), 7, 0, 1); }
TEST(mem_and_refused)		{ at_device(CODE("\x20\x06\x10\x00"), 7, 0, 1); }
TEST(mem_word_load_clears)	{ at_device(CODE("\x8B\x06\x10\x00"), ONES, 0, 1); }
TEST(mem_movzx_extends_sign)	{ at_device(CODE("\x0F\xB6\x06\x10\x00"), 0, 0, 1); }
TEST(mem_high_byte_as_low)	{ at_device(CODE("\x88\x26\x10\x00"), 0x1234, 0, 1); }
TEST(mem_sub_swapped)		{ at_device(CODE("\x28\x06\x10\x00"), 3, 0, 1); }
TEST(mem_cmp_writes)		{ at_device(CODE("\x80\x3E\x10\x00\x07"), 0, 0, 1); }
TEST(mem_ignores_df)		{ at_device(CODE("\xFD\xAA"), 9, 0, 1); }
TEST(mem_repe_runs_on)		{ at_device(CODE("\xF3\xA6"), 0, 3, 1); }
TEST(mem_rip_not_advanced)	{ at_device(CODE("\x88\x06\x10\x00"), 9, 0, 1); }
TEST(mem_prefix_66_ignored)	{ at_device(CODE("\x66\x89\x06\x10\x00"), ONES, 0, 1); }
TEST(mem_callback_size)		{ at_device(CODE("\x88\x06\x10\x00"), 9, 0, 1); }
TEST(mem_callback_page)		{ at_device(CODE("\x88\x06\x10\x00"), 9, 0, 1); }
TEST(mem_callback_direction)	{ at_device(CODE("\x88\x06\x10\x00"), 9, 0, 1); }

TEST(mem_rep_zero_executes)
{
	struct vm vm;

	scene(&vm, CODE("\xF3\xAA"));			/* rep stosb */
	set_base(&vm, NVMM_X64_SEG_ES, DEVICE);
	set_gpr(&vm, R(RCX), 1);
	run_and_see(&vm);
	set_gpr(&vm, R(RCX), 0);
	handle(&vm);
	see_state(&vm);
	vm_close(&vm);
}

TEST(mem_destination_override)
{
	struct vm vm;

	scene(&vm, CODE("\x64\xA4"));			/* movsb es:di, fs:si */
	set_base(&vm, NVMM_X64_SEG_FS, DEVICE);
	set_gpr(&vm, R(RDI), 0x8000);
	play(&vm, 1);
}

static void
movs_to_rom(void)
{
	struct vm vm;

	scene(&vm, CODE("\xA4"));			/* movsb */
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE, PAGE,
	    PROT_READ) == 0);
	set_base(&vm, NVMM_X64_SEG_DS, DEVICE);
	set_base(&vm, NVMM_X64_SEG_ES, RAM_SIZE);
	set_gpr(&vm, R(RDI), 0x800);
	device[0] = 0x77;
	play(&vm, 1);
}

TEST(read_only_area_written)	{ movs_to_rom(); }
TEST(mem_errno_efault)		{ movs_to_rom(); }

static void
in_long_mode(const char *code, size_t size)
{
	struct vm vm;

	scene(&vm, code, size);
	long_mode(&vm);
	set_gpr(&vm, R(RAX), ONES);
	play(&vm, 1);
}

/* mov eax,[0x80010]; mov [0x80010],rax */
TEST(mem_load_keeps_upper)	{ in_long_mode(CODE("\x8B\x04\x25\x10\x00\x08\x00")); }
TEST(mem_rex_w_ignored)		{ in_long_mode(CODE("\x48\x89\x04\x25\x10\x00\x08\x00")); }

/* ---- page walk, areas --------------------------------------------------------------- */

struct walk {
	uint64_t cr3, cr4, efer, gva;
	struct { unsigned at; uint64_t value; } entry[4];
};

static void
walk(const struct walk *w)
{
	struct nvmm_x64_state *st;
	nvmm_prot_t prot = 0;
	gpaddr_t gpa = 0;
	struct vm vm;
	size_t i;
	int ret;

	scene(&vm, CODE("\xF4"));
	for (i = 0; i < 4; i++)
		if (w->entry[i].at != 0)
			memcpy(vm.ram + w->entry[i].at, &w->entry[i].value, 8);
	st = get_state(&vm, ALL);
	st->crs[NVMM_X64_CR_CR0] = 0x80000001;
	st->crs[NVMM_X64_CR_CR3] = w->cr3;
	st->crs[NVMM_X64_CR_CR4] = w->cr4;
	st->msrs[NVMM_X64_MSR_EFER] = w->efer;
	ret = nvmm_gva_to_gpa(&vm.mach, &vm.vcpu, w->gva, &gpa, &prot);
	see_call("walk", ret);
	if (ret == 0) {
		see("gpa", gpa);
		see("prot", prot);
	}
	vm_close(&vm);
}

#define FOUR_LEVELS(top, last)	\
	{ { 0x10000, (top) }, { 0x11000, 0x12007 }, { 0x12000, (last) }, { 0, 0 } }
#define WALK(name, ...)		\
	TEST(name) { static const struct walk w = __VA_ARGS__; walk(&w); }

WALK(walk_large_offset_lost, { 0x10000, 0x30, 0x500, 0x12345, FOUR_LEVELS(0x11007, 0x87) })
WALK(walk_by_lme, { 0x10000, 0x30, 0x100, 0x345, FOUR_LEVELS(0x11007, 0x87) })
WALK(walk_large_needs_pse, { 0x10000, 0x20, 0x500, 0x345, FOUR_LEVELS(0x11007, 0x87) })
WALK(walk_pae_cr3_rounded, { 0x10020, 0x20, 0, 0x345,
    { { 0x10020, 0x11001 }, { 0x11000, 0x200087 }, { 0, 0 }, { 0, 0 } } })
WALK(walk_last_level_rights, { 0x10000, 0x20, 0x500, 0x345, FOUR_LEVELS(0x11001, 0x87) })
WALK(walk_user_bit_ignored, { 0x10000, 0x20, 0x500, 0x345, FOUR_LEVELS(0x11003, 0x87) })
WALK(walk_nx_ignored, { 0x10000, 0x20, 0xD00, 0x345,
    FOUR_LEVELS(UINT64_C(0x8000000000011007), 0x87) })
WALK(walk_takes_noncanonical, { 0x10000, 0x20, 0x500, UINT64_C(0x0000800000000345),
    { { 0x10800, 0x11007 }, { 0x11000, 0x12007 }, { 0x12000, 0x87 }, { 0, 0 } } })
WALK(walk_errno_enoent, { 0x10000, 0x20, 0x500, 0x345, FOUR_LEVELS(0x11007, 0x86) })

TEST(area_touching_refused)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("map", nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, 0x50000,
	    PAGE, PROT_READ));
	see_call("map", nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, 0x4F000,
	    PAGE, PROT_READ));
	vm_close(&vm);
}

TEST(gpa_to_hva_no_offset)
{
	nvmm_prot_t prot;
	uintptr_t hva;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("call", nvmm_gpa_to_hva(&vm.mach, 0x1234, &hva, &prot));
	see("offset", hva - (uintptr_t)vm.ram);
	vm_close(&vm);
}

TEST(gpa_unmap_miss_enoent)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	errno = EXDEV;
	see_call("unmap", nvmm_gpa_unmap(&vm.mach, (uintptr_t)vm.ram, 0x50000,
	    PAGE));
	vm_close(&vm);
}
