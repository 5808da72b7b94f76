/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A scenario for each seeded fault of mappings, machines, vCPUs, their
 * configuration and their state.
 */
#include "scene.h"

#define R(name)		NVMM_X64_GPR_##name
#define RWX		(PROT_READ | PROT_WRITE | PROT_EXEC)

/* ---- mappings ------------------------------------------------------------------- */

TEST(gpa_map_ignores_rights)
{
	struct vm vm;

	scene(&vm, CODE("\xA2\x00\x08\xF4"));		/* mov [0x800],al */
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE, PAGE,
	    PROT_READ) == 0);
	set_base(&vm, NVMM_X64_SEG_DS, RAM_SIZE);
	set_gpr(&vm, R(RAX), 0x42);
	run_and_see(&vm);
	see("rom", vm.ram[0x800]);
	vm_close(&vm);
}

TEST(gpa_unmap_unseen)
{
	struct vm vm;

	/* again: mov al,[0]; out 0x80,al; jmp again: DS at a page of its own */
	scene(&vm, CODE("\xA0\x00\x00\xE6\x80\xEB\xF9"));
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE, PAGE,
	    PROT_READ) == 0);
	set_base(&vm, NVMM_X64_SEG_DS, RAM_SIZE);
	run_and_see(&vm);
	handle(&vm);
	see_call("unmap", nvmm_gpa_unmap(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE,
	    PAGE));
	run_and_see(&vm);
	vm_close(&vm);
}

static void
hva(void)
{
	uint8_t *mem = spare(8 * PAGE);
	struct vm vm;
	size_t i;

	scene(&vm, CODE("\xF4"));
	mem[0] = 0x5A;
	see_call("map", nvmm_hva_map(&vm.mach, (uintptr_t)mem, 2 * PAGE));
	see("content", mem[0]);
	see_call("overlap", nvmm_hva_map(&vm.mach, (uintptr_t)mem + PAGE,
	    2 * PAGE));
	see_call("unmap", nvmm_hva_unmap(&vm.mach, (uintptr_t)mem, 2 * PAGE));
	for (i = 0; i < 32; i++)
		see_call("again", nvmm_hva_map(&vm.mach, (uintptr_t)spare(PAGE),
		    PAGE));
	vm_close(&vm);
}

TEST(hva_map_keeps_contents)	{ hva(); }
TEST(hva_map_overlap_einval)	{ hva(); }
TEST(hva_unmap_keeps_slot)	{ hva(); }

TEST(hva_unmap_wipes_guest)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("unmap", nvmm_hva_unmap(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE));
	vm.ram = spare(RAM_SIZE);			/* for see_state */
	vm.vcpu.state->gprs[R(RBX)] = 1;
	see_call("run", nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	see("reason", vm.vcpu.exit->reason);
	see("rip", gpr(&vm, R(RIP)));
	vm_close(&vm);
}

/* ---- machines, vCPUs, configuration -------------------------------------------------- */

TEST(machine_id_highest)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see("id", vm.mach.machid);
	vm_close(&vm);
}

TEST(vcpu_last_id_refused)
{
	struct nvmm_vcpu last;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("create", nvmm_vcpu_create(&vm.mach, 255, &last));
	vm_close(&vm);
}

TEST(vcpu_missing_einval)
{
	struct nvmm_vcpu other;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	CHECK(nvmm_vcpu_create(&vm.mach, 3, &other) == 0);
	CHECK(nvmm_vcpu_destroy(&vm.mach, &other) == 0);
	see_call("run", nvmm_vcpu_run(&vm.mach, &other));
	vm_close(&vm);
}

static void
cpuid_conf(struct vm *vm, struct nvmm_vcpu_conf_cpuid *c)
{
	see_call("configure", nvmm_vcpu_configure(&vm->mach, &vm->vcpu,
	    NVMM_VCPU_CONF_CPUID, c));
}

TEST(vcpu_keeps_configuration)
{
	struct nvmm_vcpu_conf_cpuid c = { .exit = 1, .leaf = 0 };
	struct vm vm;

	scene(&vm, CODE("\x0F\xA2\xF4"));
	cpuid_conf(&vm, &c);
	CHECK(nvmm_vcpu_destroy(&vm.mach, &vm.vcpu) == 0);
	CHECK(nvmm_vcpu_create(&vm.mach, 0, &vm.vcpu) == 0);
	set_base(&vm, NVMM_X64_SEG_CS, 0);
	set_gpr(&vm, R(RIP), ENTRY);
	run_and_see(&vm);
	vm_close(&vm);
}

TEST(configure_last_slot_refused)
{
	struct nvmm_vcpu_conf_cpuid c = { .exit = 1 };
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	for (c.leaf = 0; c.leaf < 33; c.leaf++)
		cpuid_conf(&vm, &c);
	vm_close(&vm);
}

TEST(configure_mask_and_exit_accepted)
{
	struct nvmm_vcpu_conf_cpuid c = { .mask = 1, .exit = 1 };
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	cpuid_conf(&vm, &c);
	vm_close(&vm);
}

TEST(ctl_counts_one_more)
{
	struct nvmm_ctl_mach_info info = { 0 };
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	info.machid = vm.mach.machid;
	see_call("ctl", nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)));
	see("vcpus", info.nvcpus);
	vm_close(&vm);
}

/* ---- state ------------------------------------------------------------------------------ */

TEST(reset_rdx_zero)
{
	struct nvmm_machine mach;
	struct nvmm_vcpu v;

	CHECK(nvmm_init() == 0 && nvmm_machine_create(&mach) == 0);
	CHECK(nvmm_vcpu_create(&mach, 0, &v) == 0);
	see("rdx", v.state->gprs[R(RDX)]);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(reset_dr6_zero)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see("dr6", get_state(&vm, ALL)->drs[NVMM_X64_DR_DR6]);
	vm_close(&vm);
}

TEST(cache_not_dropped)
{
	struct vm vm;

	scene(&vm, CODE("\x43\xF4"));			/* inc bx; hlt */
	get_state(&vm, ALL);
	run_and_see(&vm);
	see("rbx", gpr(&vm, R(RBX)));
	vm_close(&vm);
}

TEST(cache_ignored)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	run_and_see(&vm);
	get_state(&vm, ALL)->gprs[R(RBX)] = 0x77;
	see("rbx", gpr(&vm, R(RBX)));
	vm_close(&vm);
}

/* Everything that can be given and read back, distinct and legal. */
static void
round_trip(void)
{
	struct nvmm_x64_state *st;
	struct vm vm;
	size_t i;

	scene(&vm, CODE("\xF4\xF4"));
	st = get_state(&vm, ALL);
	for (i = 0; i < 16; i++)
		st->gprs[i] = 0x1111111111111111 * i + 0x1000;
	for (i = NVMM_X64_SEG_DS; i <= NVMM_X64_SEG_GS; i++) {
		st->segs[i].attrib.g = 1;
		st->segs[i].attrib.avl = 1;
		st->segs[i].limit = 0x7FFFFFFF;
		st->segs[i].base = 0x10000 * i;
	}
	st->crs[NVMM_X64_CR_CR2] = 0xC2;
	st->crs[NVMM_X64_CR_CR8] = 0x7;
	for (i = 0; i < 4; i++)
		st->drs[i] = 0xD0 + i;
	st->msrs[NVMM_X64_MSR_STAR] = 0x123456789ABCDEF0;
	st->msrs[NVMM_X64_MSR_SYSENTER_CS] = 0x10;
	st->msrs[NVMM_X64_MSR_SYSENTER_ESP] = 0x20;
	st->msrs[NVMM_X64_MSR_SYSENTER_EIP] = 0x30;
	st->msrs[NVMM_X64_MSR_PAT] = 0x0606060606060606;
	st->fpu.fx_tw = 0xC0;
	st->fpu.fx_mxcsr = 0x1FA0;
	st->fpu.fx_mxcsr_mask = 0xFFFF;
	memset(&st->fpu.fx_xmm[3], 0x33, 16);
	put_state(&vm, ALL);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

TEST(r15_lost)			{ round_trip(); }
TEST(rip_lost)			{ round_trip(); }
TEST(segment_granularity_lost)	{ round_trip(); }
TEST(segment_avl_lost)		{ round_trip(); }
TEST(segment_limit_20_bit)	{ round_trip(); }
TEST(cr2_lost)			{ round_trip(); }
TEST(dr3_lost)			{ round_trip(); }
TEST(star_upper_half_lost)	{ round_trip(); }
TEST(sysenter_swapped)		{ round_trip(); }
TEST(pat_lost)			{ round_trip(); }
TEST(fpu_tag_inverted)		{ round_trip(); }
TEST(xmm_high_half_lost)	{ round_trip(); }
TEST(mxcsr_lost)		{ round_trip(); }

/* One control register, and what is made of it. */
static void
give_cr(unsigned cr, uint64_t value)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	get_state(&vm, ALL)->crs[cr] = value;
	put_state(&vm, NVMM_X64_STATE_CRS);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

TEST(cr4_unmasked)	{ give_cr(NVMM_X64_CR_CR4, 0xFFFFFFFFFF000600); }
TEST(cr8_eight_bits)	{ give_cr(NVMM_X64_CR_CR8, 0x15); }
TEST(xcr0_unchecked)	{ give_cr(NVMM_X64_CR_XCR0, 0xFE); }

TEST(cpl_from_cs)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_CS].attrib.dpl = 3;
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] |= 1;
	put_state(&vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS);
	run_and_see(&vm);
	see("ss.dpl", get_state(&vm, ALL)->segs[NVMM_X64_SEG_SS].attrib.dpl);
	vm_close(&vm);
}

TEST(tsc_commit_ignored)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x31\xF4"));		/* rdtsc; hlt */
	get_state(&vm, ALL)->msrs[NVMM_X64_MSR_TSC] = UINT64_C(0x55) << 48;
	put_state(&vm, NVMM_X64_STATE_MSRS);
	run_and_see(&vm);
	see("upper", gpr(&vm, R(RDX)) >> 16);
	vm_close(&vm);
}
