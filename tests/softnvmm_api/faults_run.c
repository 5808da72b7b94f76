/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A scenario for each seeded fault of exits, events, the run loop, CPUID and
 * MSRs.
 */
#include "scene.h"

#define R(name)		NVMM_X64_GPR_##name

/* Unless the test has chosen one. */
static void
ideal(void)
{
	const char *profile = getenv("NVMM_SOFT_PROFILE");

	if (profile == NULL || *profile == '\0')
		setenv("NVMM_SOFT_PROFILE", "ideal", 1);
}

static void
simple(const char *code, size_t size, unsigned exits)
{
	struct vm vm;

	scene(&vm, code, size);
	set_gpr(&vm, R(RDX), 0x3F8);
	set_gpr(&vm, R(RCX), 3);
	set_gpr(&vm, R(RSI), 0x8000);
	set_gpr(&vm, R(RAX), UINT64_C(0xA1A2A3A4A5A6A7A8));
	play(&vm, exits);
}

/* ---- exits ------------------------------------------------------------------------ */

TEST(hlt_rip_not_advanced)	{ simple(CODE("\xF4\xF4"), 1); }
TEST(io_npc_off_by_one)		{ simple(CODE("\xEE"), 1); }
TEST(io_segment_lost)		{ simple(CODE("\x6E"), 1); }
TEST(io_rep_lost)		{ simple(CODE("\xF3\x6E"), 1); }
TEST(io_direction_inverted)	{ simple(CODE("\xEE"), 1); }
TEST(io_operand_size_one)	{ simple(CODE("\xEF"), 1); }
TEST(io_address_size_eight)	{ simple(CODE("\x6E"), 1); }
TEST(exit_state_not_provided)	{ simple(CODE("\xEE"), 1); }

TEST(shutdown_as_halted)
{
	struct vm vm;

	scene(&vm, CODE("\xCC"));
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_IDT].limit = 0;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	run_and_see(&vm);
	vm_close(&vm);
}

static void
window(const char *code, size_t size, unsigned runs, unsigned shadow)
{
	struct vm vm;

	scene(&vm, code, size);
	get_state(&vm, ALL)->intr.int_window_exiting = 1;
	vm.vcpu.state->intr.int_shadow = shadow & 1;
	vm.vcpu.state->gprs[R(RFLAGS)] |= shadow ? 0x200 : 0;
	put_state(&vm, NVMM_X64_STATE_INTR | NVMM_X64_STATE_GPRS);
	for (; runs > 0; runs--) {
		run_and_see(&vm);
		see("rip", gpr(&vm, R(RIP)));
	}
	vm_close(&vm);
}

TEST(hlt_keeps_shadow)		{ window(CODE("\xFB\xF4\xF4"), 1, 0); }
TEST(hlt_keeps_window)		{ window(CODE("\xFB\xF4\xF4"), 1, 0); }
TEST(window_lost)		{ window(CODE("\xFB\x90\x90\xF4"), 1, 0); }
TEST(window_not_disarmed)	{ window(CODE("\xFB\x90\x90\xF4"), 1, 0); }
TEST(window_in_shadow)		{ window(CODE("\x90\x90\xF4"), 1, 1); }
TEST(shadow_not_reported)	{ simple(CODE("\xFB\xE6\x80"), 1); }
TEST(exitstate_zero)		{ simple(CODE("\xF4"), 1); }

TEST(exitstate_cr8_lost)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	get_state(&vm, ALL)->crs[NVMM_X64_CR_CR8] = 5;
	put_state(&vm, NVMM_X64_STATE_CRS);
	run_and_see(&vm);
	vm_close(&vm);
}

TEST(tpr_change_not_reported)
{
	struct nvmm_vcpu_conf_tpr tpr = { .exit_changed = 1 };
	struct vm vm;

	ideal();
	scene(&vm, CODE("\x44\x0F\x22\xC0\xF4"));	/* mov cr8,rax; hlt */
	long_mode(&vm);
	see_call("configure", nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
	    NVMM_VCPU_CONF_TPR, &tpr));
	set_gpr(&vm, R(RAX), 5);
	run_and_see(&vm);
	vm_close(&vm);
}

static void
store(int mapped)
{
	struct vm vm;

	scene(&vm, CODE("\xA2\x34\x02\xF4"));		/* mov [0x234],al */
	set_base(&vm, NVMM_X64_SEG_DS, DEVICE);
	if (mapped)
		CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, DEVICE, PAGE,
		    PROT_READ) == 0);
	run_and_see(&vm);
	vm_close(&vm);
}

TEST(memory_gpa_page)		{ store(0); }
TEST(memory_prot_read)		{ store(1); }
TEST(memory_no_instruction)	{ store(0); }

static void
msr(const char *code, size_t size, uint32_t number)
{
	struct vm vm;

	scene(&vm, code, size);
	set_gpr(&vm, R(RAX), UINT64_C(0xFFFFFFFF00000900));
	set_gpr(&vm, R(RDX), 0xFEE);
	set_gpr(&vm, R(RCX), number);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}
#define RDMSR		CODE("\x0F\x32\xF4")
#define WRMSR		CODE("\x0F\x30\xF4")

TEST(rdmsr_npc_zero)		{ msr(RDMSR, 0x1B); }
TEST(wrmsr_upper_half_lost)	{ msr(WRMSR, 0x1B); }
TEST(wrmsr_npc_on_instruction)	{ msr(WRMSR, 0x1B); }
TEST(rdmsr_keeps_upper)		{ msr(RDMSR, 0xC001001F); }
TEST(rdmsr_halves_swapped)	{ msr(RDMSR, 0xC001001F); }
TEST(microcode_msr_exits)	{ msr(RDMSR, 0x8B); }

TEST(tsc_write_ignored)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x30\x0F\x31\xF4"));	/* wrmsr; rdtsc; hlt */
	set_gpr(&vm, R(RDX), 0x550000);
	set_gpr(&vm, R(RCX), 0x10);
	run_and_see(&vm);
	see("upper", gpr(&vm, R(RDX)) >> 16);
	vm_close(&vm);
}

TEST(xsetbv_unchecked)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\x01\xD1\xF4"));
	get_state(&vm, ALL)->crs[NVMM_X64_CR_CR4] = 1 << 18;
	vm.vcpu.state->gprs[R(RAX)] = 6;
	put_state(&vm, NVMM_X64_STATE_CRS | NVMM_X64_STATE_GPRS);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

/* ---- CPUID ---------------------------------------------------------------------------- */

static void
cpuid(uint64_t rax, const struct nvmm_vcpu_conf_cpuid *conf, uint64_t cr4)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\xA2\xF4"));
	if (conf != NULL)
		see_call("configure", nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
		    NVMM_VCPU_CONF_CPUID, (void *)(uintptr_t)conf));
	get_state(&vm, ALL)->crs[NVMM_X64_CR_CR4] = cr4;
	put_state(&vm, NVMM_X64_STATE_CRS);
	set_gpr(&vm, R(RAX), rax);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

static const struct nvmm_vcpu_conf_cpuid masked = {
	.mask = 1, .leaf = 1, .u.mask.set.ecx = 8, .u.mask.del.edx = 1
};
static const struct nvmm_vcpu_conf_cpuid exits = { .exit = 1, .leaf = 0 };

TEST(cpuid_npc_zero)		{ cpuid(0, &exits, 0); }
TEST(cpuid_mask_ignored)	{ cpuid(1, &masked, 0); }
TEST(cpuid_mask_before_kernel)	{ cpuid(1, &masked, 0); }
TEST(cpuid_hypervisor_max_zero)	{ cpuid(0x40000000, NULL, 0); }
TEST(cpuid_not_clamped)		{ cpuid(0x7FFFFFFF, NULL, 0); }
TEST(cpuid_xsave_no_header)	{ cpuid(0xD, NULL, 0); }
TEST(cpuid_keeps_upper)		{ cpuid(UINT64_C(1) << 32, NULL, 0); }
TEST(cpuid_osxsave_stuck)	{ cpuid(1, NULL, 0); }

TEST(cpuid_leaf_64_bit)
{
	ideal();
	cpuid((UINT64_C(1) << 32) | 0x40000000, NULL, 0);
}

TEST(cpuid_vcpu_id_lost)
{
	struct vm vm;

	scene(&vm, CODE("\x0F\xA2\xF4"));
	CHECK(nvmm_vcpu_destroy(&vm.mach, &vm.vcpu) == 0);
	CHECK(nvmm_vcpu_create(&vm.mach, 5, &vm.vcpu) == 0);
	set_base(&vm, NVMM_X64_SEG_CS, 0);
	set_gpr(&vm, R(RIP), ENTRY);
	set_gpr(&vm, R(RAX), 1);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

/* ---- events ---------------------------------------------------------------------------- */

static void
inject(struct vm *vm, unsigned type, uint8_t vector, uint64_t error)
{
	vm->vcpu.event->type = type;
	vm->vcpu.event->vector = vector;
	vm->vcpu.event->u.excp.error = error;
	see_call("inject", nvmm_vcpu_inject(&vm->mach, &vm->vcpu));
}

static void
event(unsigned type, uint8_t vector, unsigned runs)
{
	struct vm vm;

	scene(&vm, CODE("\x90\x90\xF4\xF4"));
	memset(vm.vcpu.exit, 0x5A, sizeof(*vm.vcpu.exit));
	inject(&vm, type, vector, 0);
	for (; runs > 0; runs--) {
		run_and_see(&vm);
		see_state(&vm);
	}
	vm_close(&vm);
}

TEST(event_lost)		{ event(NVMM_VCPU_EVENT_INTR, 0x20, 1); }
TEST(event_doubled)		{ event(NVMM_VCPU_EVENT_INTR, 0x20, 2); }
TEST(event_kept_after_error)	{ event(NVMM_VCPU_EVENT_EXCP, 2, 2); }
TEST(exit_on_failure)		{ event(NVMM_VCPU_EVENT_EXCP, 2, 1); }
TEST(interrupt_waits_for_if)	{ event(NVMM_VCPU_EVENT_INTR, 0x20, 1); }
TEST(excp_zero_accepted)	{ event(NVMM_VCPU_EVENT_EXCP, 0, 1); }
TEST(nmi_as_interrupt)		{ event(NVMM_VCPU_EVENT_INTR, 2, 1); }
TEST(nmi_window_lost)		{ event(NVMM_VCPU_EVENT_INTR, 2, 2); }
TEST(nmi_while_blocked)		{ ideal(); event(NVMM_VCPU_EVENT_INTR, 2, 2); }

/* 32-bit protected mode without paging; interrupt gates to handlers that halt. */
static void
exception(uint8_t vector)
{
	static const uint64_t gdt[3] = {
		0, UINT64_C(0x00CF9B000000FFFF), UINT64_C(0x00CF93000000FFFF)
	};
	struct nvmm_x64_state *st;
	uint64_t gate;
	struct vm vm;
	unsigned i;

	scene(&vm, CODE("\x90\x90\xF4"));
	memcpy(vm.ram + 0x3000, gdt, sizeof(gdt));
	for (i = 0; i < 256; i++) {
		gate = HANDLER(i) | UINT64_C(0x8E0000080000);
		memcpy(vm.ram + 0x2000 + 8 * i, &gate, 8);
	}
	st = get_state(&vm, ALL);
	for (i = NVMM_X64_SEG_ES; i <= NVMM_X64_SEG_DS; i++) {
		st->segs[i].selector = i == NVMM_X64_SEG_CS ? 8 : 0x10;
		st->segs[i].attrib.def = 1;
		st->segs[i].attrib.g = 1;
		st->segs[i].limit = UINT32_MAX;
	}
	st->segs[NVMM_X64_SEG_GDT].base = 0x3000;
	st->segs[NVMM_X64_SEG_GDT].limit = sizeof(gdt) - 1;
	st->segs[NVMM_X64_SEG_IDT].base = 0x2000;
	st->segs[NVMM_X64_SEG_IDT].limit = 0x7FF;
	st->crs[NVMM_X64_CR_CR0] = 0x11;
	put_state(&vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS);
	inject(&vm, NVMM_VCPU_EVENT_EXCP, vector, 0x5678);
	run_and_see(&vm);
	see_state(&vm);
	see_bytes("stack", vm.ram + STACK - 16, 16);
	vm_close(&vm);
}

TEST(excp_error_lost)			{ exception(13); }
TEST(excp_no_error_code)		{ exception(13); }
TEST(double_fault_for_page_fault)	{ exception(14); }

/* The stack is not there at first; `flags` are committed before the second run. */
static void
interrupted(unsigned type, uint8_t vector, uint64_t flags)
{
	struct vm vm;

	scene(&vm, CODE("\x90\xF4"));
	set_gpr(&vm, R(RSP), 4);
	set_base(&vm, NVMM_X64_SEG_SS, RAM_SIZE);
	inject(&vm, type, vector, 0);
	run_and_see(&vm);
	set_base(&vm, NVMM_X64_SEG_SS, 0);
	set_gpr(&vm, R(RSP), STACK);
	get_state(&vm, ALL);
	put_state(&vm, flags);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

TEST(interrupted_event_dropped)	{ interrupted(NVMM_VCPU_EVENT_INTR, 0x30, 0); }
TEST(setstate_clears_event)	{ interrupted(NVMM_VCPU_EVENT_INTR, 0x30, NVMM_X64_STATE_INTR); }

/* ---- stop --------------------------------------------------------------------------------- */

static void
stopped(void)
{
	struct vm vm;

	scene(&vm, CODE("\x43\xF4"));
	set_gpr(&vm, R(RBX), 5);
	see_call("stop", nvmm_vcpu_stop(&vm.vcpu));
	see_call("run", nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	see_exit(&vm);
	see("stop_word", vm.vcpu.stop != NULL ? (uint64_t)*vm.vcpu.stop : 0);
	vm_close(&vm);
}

TEST(stop_before_run_lost)	{ stopped(); }
TEST(stop_not_cleared)		{ stopped(); }
TEST(stop_commits_first)	{ stopped(); }
