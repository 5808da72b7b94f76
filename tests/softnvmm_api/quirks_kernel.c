/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A scenario for each quirk of the kernel's half: it shows something else with
 * the quirk than without.  ON_VMX: with the rest of NetBSD 10 on Intel around
 * it, else with "ideal" (test_quirks.py).
 */
#include "scene.h"

#define ON_VMX(name)	TEST(name)
#define R(name)		NVMM_X64_GPR_##name

/* One call, whatever it gives; run_and_see() would go on after NONE. */
static void
run_once(struct vm *vm)
{
	see_call("run", nvmm_vcpu_run(&vm->mach, &vm->vcpu));
	see("reason", vm->vcpu.exit->reason);
	see_bytes("u", &vm->vcpu.exit->u, sizeof(vm->vcpu.exit->u));
}

static void
inject(struct vm *vm, unsigned type, uint8_t vector, uint64_t error)
{
	vm->vcpu.event->type = type;
	vm->vcpu.event->vector = vector;
	vm->vcpu.event->u.excp.error = error;
	CHECK(nvmm_vcpu_inject(&vm->mach, &vm->vcpu) == 0);
}

/* Flat 32-bit segments; vectors go to the same handlers; a TSS at 0x18. */
static void
protected_mode(struct vm *vm)
{
	static const uint64_t gdt[] = {
		0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x0000890039000067
	};
	struct nvmm_x64_state *st = get_state(vm, ALL);
	size_t i;

	memcpy(vm->ram + 0x3000, gdt, sizeof(gdt));
	for (i = 0; i < 256; i++)
		memcpy(vm->ram + 0x2000 + 8 * i, &(uint64_t){
		    HANDLER(i) | 8 << 16 | UINT64_C(0x8E00) << 32 }, 8);
	for (i = NVMM_X64_SEG_ES; i <= NVMM_X64_SEG_GS; i++) {
		st->segs[i].selector = i == NVMM_X64_SEG_CS ? 8 : 0x10;
		st->segs[i].limit = UINT32_MAX;
		st->segs[i].attrib.g = st->segs[i].attrib.def = 1;
	}
	st->segs[NVMM_X64_SEG_GDT].base = 0x3000;
	st->segs[NVMM_X64_SEG_GDT].limit = sizeof(gdt) - 1;
	st->segs[NVMM_X64_SEG_IDT].base = 0x2000;
	st->segs[NVMM_X64_SEG_IDT].limit = 0x7FF;
	st->segs[NVMM_X64_SEG_TR].base = 0x3800;
	st->segs[NVMM_X64_SEG_TR].limit = 0x67;
	st->segs[NVMM_X64_SEG_TR].attrib.type = 11;
	st->crs[NVMM_X64_CR_CR0] = 0x31;
	put_state(vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS);
}

static void
see_frame(struct vm *vm)
{
	uint64_t sp = gpr(vm, R(RSP));

	see_bytes("frame", vm->ram + sp, STACK - sp);
}

/* ---- life, memory --------------------------------------------------------------- */

TEST(return_check_overwrites_reason)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	CHECK(nvmm_soft_interrupt(&vm.mach, &vm.vcpu, 2, 0) == 0);
	run_once(&vm);
	vm_close(&vm);
}

/* Another thread's stop comes between the last check and the return. */
TEST(stop_lost_at_return)
{
	struct vm vm;

	scene(&vm, CODE("\x90\xF4"));
	CHECK(nvmm_soft_interrupt(&vm.mach, &vm.vcpu, 1, 2) == 0);
	run_once(&vm);
	run_once(&vm);
	run_once(&vm);
	vm_close(&vm);
}

TEST(exitstate_zero_unless_entered)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->crs[NVMM_X64_CR_CR8] = 8;
	put_state(&vm, NVMM_X64_STATE_CRS);
	see_call("stop", nvmm_vcpu_stop(&vm.vcpu));
	run_once(&vm);
	see_exit(&vm);
	vm_close(&vm);
}

TEST(vcpu_exists_ebusy)
{
	struct nvmm_vcpu again;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("create", nvmm_vcpu_create(&vm.mach, 0, &again));
	vm_close(&vm);
}

TEST(hva_map_nested_accepted)
{
	uintptr_t hva = (uintptr_t)spare(4 * PAGE);
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	CHECK(nvmm_hva_map(&vm.mach, hva, 4 * PAGE) == 0);
	see_call("nested", nvmm_hva_map(&vm.mach, hva + PAGE, PAGE));
	vm_close(&vm);
}

TEST(hva_map_range_unchecked)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("empty", nvmm_hva_map(&vm.mach, (uintptr_t)spare(PAGE), 0));
	vm_close(&vm);
}

TEST(hva_map_failure_keeps_slot)
{
	struct vm vm;
	size_t i;

	scene(&vm, CODE("\xF4"));
	CHECK(nvmm_hva_map(&vm.mach, (uintptr_t)1 << 62, PAGE) == -1);
	for (i = 0; i < 32; i++)
		if (nvmm_hva_map(&vm.mach, (uintptr_t)spare(PAGE), PAGE) == -1)
			break;
	see("more", i);
	vm_close(&vm);
}

TEST(gpa_refusal_aborts)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_call("map", nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, 0x80001, PAGE,
	    PROT_READ));
	vm_close(&vm);
}

TEST(gpa_unmap_miss_keeps_errno)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	errno = ENOTTY;
	see_call("unmap", nvmm_gpa_unmap(&vm.mach, (uintptr_t)vm.ram, 0x90000,
	    PAGE));
	vm_close(&vm);
}

TEST(gpa_unmap_not_at_top)
{
	struct nvmm_capability cap;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	CHECK(nvmm_capability(&cap) == 0);
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, cap.max_ram - PAGE,
	    PAGE, PROT_READ) == 0);
	see_call("unmap", nvmm_gpa_unmap(&vm.mach, (uintptr_t)vm.ram,
	    cap.max_ram - PAGE, PAGE));
	vm_close(&vm);
}

/* ---- state ---------------------------------------------------------------------- */

TEST(reset_fpu_tags_5555)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	see_state(&vm);
	vm_close(&vm);
}

TEST(mxcsr_masked_by_image)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->fpu.fx_mxcsr = 0x1F80;
	vm.vcpu.state->fpu.fx_mxcsr_mask = 0;
	put_state(&vm, NVMM_X64_STATE_FPU);
	play(&vm, 1);
}

TEST(provided_tsc_stale)
{
	struct vm vm;

	scene(&vm, CODE("\xE6\x80"));			/* out 0x80,al */
	vm.vcpu.state->msrs[NVMM_X64_MSR_TSC] = UINT64_C(1) << 40;
	put_state(&vm, NVMM_X64_STATE_MSRS);
	run_once(&vm);
	see("stale", get_state(&vm, NVMM_X64_STATE_MSRS)->msrs[NVMM_X64_MSR_TSC]
	    == UINT64_C(1) << 40);
	vm_close(&vm);
}

TEST(tsc_by_offset)
{
	struct vm vm;
	size_t i;

	scene(&vm, CODE("\x0F\x31\xF4"));		/* rdtsc; hlt */
	for (i = 0; i < 2; i++) {
		get_state(&vm, ALL)->msrs[NVMM_X64_MSR_TSC] =
		    i == 0 ? UINT64_C(1) << 60 : 0;
		put_state(&vm, NVMM_X64_STATE_MSRS);
		set_gpr(&vm, R(RIP), ENTRY);
		run_once(&vm);
		see("high", gpr(&vm, R(RDX)) >> 24);
	}
	vm_close(&vm);
}

TEST(cr8_above_15_spills)
{
	struct vm vm;

	scene(&vm, CODE("\x44\x0F\x20\xC0\xF4"));	/* mov rax,cr8; hlt */
	long_mode(&vm);
	get_state(&vm, ALL)->crs[NVMM_X64_CR_CR8] = 0x15;
	put_state(&vm, NVMM_X64_STATE_CRS);
	play(&vm, 1);
}

ON_VMX(cr8_64_bits)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	vm.vcpu.state->crs[NVMM_X64_CR_CR8] = 0x123456789A;
	put_state(&vm, NVMM_X64_STATE_CRS);
	play(&vm, 1);
}

/* mov eax,cr0; or eax,NW; mov cr0,eax; hlt */
ON_VMX(cr0_nw_without_cd)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x20\xC0\x66\x0D\x00\x00\x00\x20\x0F\x22\xC0\xF4"));
	vm.vcpu.state->crs[NVMM_X64_CR_CR0] = 0x10;
	put_state(&vm, NVMM_X64_STATE_CRS);
	play(&vm, 1);
}

/* Compatibility mode: mov eax,cr0; and eax,~PG; or eax,CD|NW; mov cr0,eax; hlt */
ON_VMX(cr0_pg_off_keeps_long_entry)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x20\xC0\x25\xFF\xFF\xFF\x7F"
	    "\x0D\x00\x00\x00\x60\x0F\x22\xC0\xF4"));
	long_mode(&vm);
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_CS].attrib.l = 0;
	vm.vcpu.state->segs[NVMM_X64_SEG_CS].attrib.def = 1;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	play(&vm, 1);
}

ON_VMX(first_entry_failed_for_good)
{
	struct vm vm;
	size_t i;

	scene(&vm, CODE("\xF4"));
	for (i = 0; i < 2; i++) {
		get_state(&vm, ALL)->crs[NVMM_X64_CR_CR0] =
		    0x10 | (i == 0 ? UINT64_C(1) << 32 : 0);
		put_state(&vm, NVMM_X64_STATE_CRS);
		run_once(&vm);
	}
	vm_close(&vm);
}

/* ---- events --------------------------------------------------------------------- */

TEST(comm_event_overwritten)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x33"));			/* rdpmc */
	vm.vcpu.event->vector = 0x77;
	run_once(&vm);
	see("vector", vm.vcpu.event->vector);
	vm_close(&vm);
}

TEST(excp_0_and_3_refused)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	inject(&vm, NVMM_VCPU_EVENT_EXCP, 3, 0);
	run_once(&vm);
	vm_close(&vm);
}

TEST(excp_21_no_error_code)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	protected_mode(&vm);
	inject(&vm, NVMM_VCPU_EVENT_EXCP, 21, 3);
	run_once(&vm);
	see_frame(&vm);
	vm_close(&vm);
}

ON_VMX(page_filled_in_by_exit)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	protected_mode(&vm);
	set_gpr(&vm, R(RFLAGS), 0x202);
	inject(&vm, NVMM_VCPU_EVENT_INTR, 0x41, 0);
	run_once(&vm);
	see_frame(&vm);
	vm_close(&vm);
}

ON_VMX(nmi_page_in_kills)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	inject(&vm, NVMM_VCPU_EVENT_INTR, 2, 0);
	run_once(&vm);
	vm_close(&vm);
}

TEST(int_n_runs_twice)
{
	struct vm vm;

	scene(&vm, CODE("\xCD\x41\xF4"));		/* int 0x41; hlt */
	set_base(&vm, NVMM_X64_SEG_IDT, DEVICE);
	run_once(&vm);
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, DEVICE, PAGE,
	    PROT_READ | PROT_WRITE) == 0);
	run_once(&vm);
	see_frame(&vm);
	vm_close(&vm);
}

TEST(nmi_ready_before_iret)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	inject(&vm, NVMM_VCPU_EVENT_INTR, 2, 0);
	run_once(&vm);
	run_once(&vm);
	see("rip", gpr(&vm, R(RIP)));
	vm_close(&vm);
}

/* ---- instructions ---------------------------------------------------------------- */

TEST(efer_mask_only)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x30\xF4"));		/* wrmsr; hlt */
	vm.vcpu.state->gprs[R(RCX)] = 0xC0000080;
	vm.vcpu.state->gprs[R(RAX)] = 0x8000;		/* TCE */
	put_state(&vm, NVMM_X64_STATE_GPRS);
	run_once(&vm);
	see("rip", gpr(&vm, R(RIP)));
	vm_close(&vm);
}

/* PAE by tables of the caller: with paging on from the start, and turned on by
 * the guest (mov eax,cr0; or eax,PG; mov cr0,eax; hlt), which loads them. */
ON_VMX(pae_pdptes_not_loaded)
{
	struct nvmm_x64_state *st;
	struct vm vm;
	size_t i;

	for (i = 0; i < 2; i++) {
		scene(&vm, CODE("\x0F\x20\xC0\x0D\x00\x00\x00\x80"
		    "\x0F\x22\xC0\xF4"));
		protected_mode(&vm);
		st = get_state(&vm, ALL);
		memcpy(vm.ram + 0x10000, &(uint64_t){ 0x11001 }, 8);
		memcpy(vm.ram + 0x11000, &(uint64_t){ 0x87 }, 8);
		st->crs[NVMM_X64_CR_CR3] = 0x10000;
		st->crs[NVMM_X64_CR_CR4] = 0x20;
		st->crs[NVMM_X64_CR_CR0] = i == 0 ? 0x80000031 : 0x31;
		put_state(&vm, NVMM_X64_STATE_CRS);
		run_once(&vm);
		see("rip", gpr(&vm, R(RIP)));
		vm_close(&vm);
	}
}

ON_VMX(task_switch_invalid)
{
	static const uint32_t to[] = { ENTRY + 7, 2, 0, 0, 0, 0, STACK };
	static const uint32_t segs[] = { 0x10, 8, 0x10, 0x10, 0x10, 0x10, 0 };
	struct vm vm;

	scene(&vm, CODE("\xEA\x00\x00\x00\x00\x18\x00\xF4"));	/* jmp 18:0; hlt */
	protected_mode(&vm);
	memcpy(vm.ram + 0x3920, to, sizeof(to));
	memcpy(vm.ram + 0x3948, segs, sizeof(segs));
	run_once(&vm);
	vm_close(&vm);
}

TEST(no_decode_assists)
{
	struct vm vm;

	scene(&vm, CODE("\x26\x6E"));			/* es outsb */
	run_once(&vm);
	vm_close(&vm);
}

TEST(invd_exits_invalid)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x08\xF4"));
	run_once(&vm);
	vm_close(&vm);
}

TEST(xsetbv_64bit_index)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x01\xD1\xF4"));		/* xsetbv; hlt */
	vm.vcpu.state->crs[NVMM_X64_CR_CR4] = 0x40000;
	vm.vcpu.state->gprs[R(RCX)] = UINT64_C(1) << 32;
	vm.vcpu.state->gprs[R(RAX)] = 3;
	put_state(&vm, NVMM_X64_STATE_CRS | NVMM_X64_STATE_GPRS);
	play(&vm, 1);
}

/* What the kernel does (CPUID), what the assist does (OUT), what is native:
 * a trap follows each, or the native one only. */
TEST(emulated_no_single_step)
{
	static const char *const code[] = { "\x0F\xA2", "\xE6\x80", "\x90\x90" };
	struct vm vm;
	size_t i;

	for (i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		scene(&vm, code[i], 3);
		vm.ram[ENTRY + 2] = 0xF4;
		set_gpr(&vm, R(RFLAGS), 0x102);
		run_once(&vm);
		if (vm.vcpu.exit->reason == NVMM_VCPU_EXIT_IO) {
			see_call("assist", nvmm_assist_io(&vm.mach, &vm.vcpu));
			run_once(&vm);
		}
		see("rip", gpr(&vm, R(RIP)));
		see("dr6", get_state(&vm, ALL)->drs[NVMM_X64_DR_DR6]);
		see_frame(&vm);
		vm_close(&vm);
	}
}

/* The window opens after the OUT, as it is the one instruction in the shadow
 * of STI; with the shadow left over, after the NOP that follows. */
TEST(assist_keeps_shadow)
{
	struct vm vm;

	scene(&vm, CODE("\xFB\xE6\x80\x90\xF4"));	/* sti; out 0x80,al; nop */
	get_state(&vm, ALL)->intr.int_window_exiting = 1;
	put_state(&vm, NVMM_X64_STATE_INTR);
	run_once(&vm);
	see_call("assist", nvmm_assist_io(&vm.mach, &vm.vcpu));
	run_once(&vm);
	see("rip", gpr(&vm, R(RIP)));
	vm_close(&vm);
}

static void
cpuid(uint64_t leaf)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\xA2\xF4"));
	set_gpr(&vm, R(RAX), leaf);
	play(&vm, 1);
}

/* The leaf that was asked for, and what the caller finds of it. */
TEST(cpuid_exit_overwrites_registers)
{
	struct nvmm_vcpu_conf_cpuid c = { .exit = 1, .leaf = 0x40000000 };
	struct vm vm;

	scene(&vm, CODE("\x0F\xA2\xF4"));
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu, NVMM_VCPU_CONF_CPUID,
	    &c) == 0);
	set_gpr(&vm, R(RAX), 0x40000000);
	play(&vm, 1);
}

TEST(cpuid_64bit_input)			{ cpuid(0x100000000); }
TEST(cpuid_hypervisor_leaves_raw)	{ cpuid(0x40000001); }
TEST(cpuid_tsc_khz_raw)			{ cpuid(0x40000010); }
TEST(cpuid_xsave_size_without_header)	{ cpuid(0xD); }		/* XCR0 is 1 */

/* No scenario: which profile has which quirk, and its capability. */
TEST(profiles)
{
	const char *profile, *quirk, *meaning;
	struct nvmm_capability cap;
	size_t i, j;

	for (i = 0; nvmm_soft_list(NVMM_SOFT_PROFILE, i, &profile,
	    &meaning) == 0; i++) {
		CHECK(setenv("NVMM_SOFT_PROFILE", profile, 1) == 0);
		CHECK(nvmm_init() == 0);
		CHECK(nvmm_capability(&cap) == 0);
		printf("%s version %u vcpus %u ram %llx conf %llx\n", profile,
		    cap.version, cap.max_vcpus,
		    (unsigned long long)cap.max_ram,
		    (unsigned long long)cap.arch.vcpu_conf_support);
		for (j = 0; nvmm_soft_list(NVMM_SOFT_QUIRK, j, &quirk,
		    &meaning) == 0; j++)
			if (nvmm_soft_has(profile, quirk) == 1)
				printf("%s %s\n", profile, quirk);
	}
	FAILS(ENOENT, nvmm_soft_has("v9-arm", quirk));
	FAILS(ENOENT, nvmm_soft_has("ideal", "none"));
}
