/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Scenarios for rows in which the backends and the versions differ (kernel
 * spec 14.2 and 14.3, and what these sum up): test_profile_rows.py plays them
 * on each profile and on "ideal", with every quirk off.
 */
#include "scene.h"

#define R(name)		NVMM_X64_GPR_##name

static void
tell(const char *what, unsigned long long of, const char *part, uint64_t value)
{
	printf("%s_%llx.%s %llx\n", what, of, part, (unsigned long long)value);
}

/* Runs to the next exit, and says where the guest is then. */
static void
outcome(struct vm *vm, const char *what, unsigned long long of)
{
	const struct nvmm_vcpu_exit *e = vm->vcpu.exit;

	tell(what, of, "reason", run(vm));
	tell(what, of, "hwcode", e->reason == NVMM_VCPU_EXIT_INVALID ?
	    e->u.inv.hwcode : 0);
	tell(what, of, "pending", e->exitstate.evt_pending);
	tell(what, of, "rip", gpr(vm, R(RIP)));
}

/* ---- capability, configuration, life --------------------------------------------- */

TEST(capability)
{
	struct nvmm_capability cap;

	CHECK(nvmm_init() == 0);
	CHECK(nvmm_capability(&cap) == 0);
	see("cap.version", cap.version);
	see("cap.state_size", cap.state_size);
	see("cap.max_machines", cap.max_machines);
	see("cap.max_vcpus", cap.max_vcpus);
	see("cap.max_ram", cap.max_ram);
	see("cap.vcpu_conf", cap.arch.vcpu_conf_support);
	see("cap.mach_conf", cap.arch.mach_conf_support);
	see("cap.xcr0_mask", cap.arch.xcr0_mask);
	see("cap.mxcsr_mask", cap.arch.mxcsr_mask);
	see("cap.cpuid_maxops", cap.arch.conf_cpuid_maxops);
}

/* ---- MSRs -------------------------------------------------------------------------- */

static const uint32_t msrs[] = {
	0x17, 0x1B, 0x8B, 0x10A, 0x1A0, 0x277, 0xC0000080, 0xC001001F,
	0xC0010055, 0xC0011021, 0xC0011029
};

static void
access_msrs(const char *code, const char *what)
{
	struct vm vm;
	size_t i;

	for (i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
		scene(&vm, code, 3);			/* rdmsr or wrmsr; hlt */
		set_gpr(&vm, R(RCX), msrs[i]);
		set_gpr(&vm, R(RAX), 0);
		set_gpr(&vm, R(RDX), 0);
		outcome(&vm, what, msrs[i]);
		tell(what, msrs[i], "eax", gpr(&vm, R(RAX)));
		tell(what, msrs[i], "edx", gpr(&vm, R(RDX)));
		vm_close(&vm);
	}
}

TEST(rdmsr)	{ access_msrs("\x0F\x32\xF4", "rdmsr"); }
TEST(wrmsr)	{ access_msrs("\x0F\x30\xF4", "wrmsr"); }

/* ---- CPUID ------------------------------------------------------------------------- */

static void
leaf(uint32_t number, uint32_t subleaf, bool two)
{
	char name[32];
	struct nvmm_vcpu other;
	struct vm vm;

	snprintf(name, sizeof(name), "cpuid_%x", number);
	scene(&vm, CODE("\x0F\xA2\xF4"));		/* cpuid; hlt */
	if (two)
		CHECK(nvmm_vcpu_create(&vm.mach, 1, &other) == 0);
	set_gpr(&vm, R(RAX), number);
	set_gpr(&vm, R(RCX), subleaf);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	tell(name, subleaf, "eax", gpr(&vm, R(RAX)));
	tell(name, subleaf, "ebx", gpr(&vm, R(RBX)));
	tell(name, subleaf, "ecx", gpr(&vm, R(RCX)));
	tell(name, subleaf, "edx", gpr(&vm, R(RDX)));
	if (two)
		CHECK(nvmm_vcpu_destroy(&vm.mach, &other) == 0);
	vm_close(&vm);
}

TEST(cpuid_basic)
{
	uint32_t i;

	for (i = 0; i <= 0x17; i++)
		leaf(i, 0, false);
	leaf(0xB, 1, true);
	leaf(0xB, 2, true);
	leaf(4, 3, true);
}

TEST(cpuid_hypervisor)
{
	leaf(0x40000000, 0, false);
	leaf(0x40000001, 0, false);
	leaf(0x40000010, 0, false);
	leaf(0x40000011, 0, false);
}

TEST(cpuid_extended)
{
	uint32_t i;

	for (i = 0; i <= 0x20; i++)
		leaf(0x80000000 + i, 0, i == 8);
}

/* ---- state ------------------------------------------------------------------------- */

/* The tables' attributes, NE and ET, CR8, and what DR6 keeps above bit 31. */
TEST(kept_state)
{
	struct nvmm_x64_state *st;
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	st = get_state(&vm, ALL);
	st->segs[NVMM_X64_SEG_GDT].selector = 0x28;
	st->segs[NVMM_X64_SEG_IDT].selector = 0x30;
	st->crs[NVMM_X64_CR_CR0] = 0x60000000;
	st->crs[NVMM_X64_CR_CR8] = 0xA;
	put_state(&vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}

/* CR0.NE is what the guest wrote, or 1. */
TEST(guest_clears_ne)
{
	struct vm vm;

	/* mov eax,0x60000011; mov cr0,eax; mov eax,cr0; hlt */
	scene(&vm, CODE("\x66\xB8\x11\x00\x00\x60\x0F\x22\xC0\x0F\x20\xC0\xF4"));
	outcome(&vm, "ne", 0);
	tell("ne", 0, "eax", gpr(&vm, R(RAX)));
	vm_close(&vm);
}

/* Bits of CR4 that neither processor has. */
TEST(guest_cr4)
{
	static const unsigned bits[] = { 12, 13, 14, 22, 23 };
	struct vm vm;
	size_t i;

	for (i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		/* mov cr4,eax; hlt */
		scene(&vm, CODE("\x0F\x22\xE0\xF4"));
		set_gpr(&vm, R(RAX), UINT64_C(1) << bits[i]);
		outcome(&vm, "guest_cr4", bits[i]);
		vm_close(&vm);
	}
}

enum bad {
	BAD_CR0_HIGH, BAD_NW, BAD_DR6, BAD_CR4, BAD_RFLAGS_1, BAD_RFLAGS_3,
	BAD_VM, BAD_CS_P, BAD_TR_TYPE, BAD_TR_P, BAD_GDT_LIMIT, BAD_SS_DPL,
	BAD_FS, BAD_CR3, BAD_LIMIT, BAD_LMA, BAD_SVME, BAD_PAE, BAD_CS_LD,
	BAD_DR7, BAD_PAT, NBAD
};

/* Kernel spec 5.3, measured: one thing wrong, on a vCPU that has run. */
static void
spoil(struct nvmm_x64_state *st, enum bad bad)
{
	struct nvmm_x64_state_seg *cs = &st->segs[NVMM_X64_SEG_CS];
	struct nvmm_x64_state_seg *tr = &st->segs[NVMM_X64_SEG_TR];

	switch (bad) {
	case BAD_CR0_HIGH: st->crs[NVMM_X64_CR_CR0] |= UINT64_C(1) << 32; break;
	case BAD_NW: st->crs[NVMM_X64_CR_CR0] |= 0x20000000; break;
	case BAD_DR6: st->drs[NVMM_X64_DR_DR6] |= UINT64_C(1) << 32; break;
	case BAD_CR4: st->crs[NVMM_X64_CR_CR4] |= 1 << 13; break;
	case BAD_RFLAGS_1: st->gprs[R(RFLAGS)] &= ~UINT64_C(2); break;
	case BAD_RFLAGS_3: st->gprs[R(RFLAGS)] |= 8; break;
	case BAD_VM: st->gprs[R(RFLAGS)] |= 0x20000; break;
	case BAD_CS_P: cs->attrib.p = 0; break;
	case BAD_TR_TYPE: tr->attrib.type = 2; break;
	case BAD_TR_P: tr->attrib.p = 0; break;
	case BAD_GDT_LIMIT: st->segs[NVMM_X64_SEG_GDT].limit = 0x10000; break;
	case BAD_SS_DPL: st->segs[NVMM_X64_SEG_SS].attrib.dpl = 3; break;
	case BAD_FS: st->segs[NVMM_X64_SEG_FS].base = UINT64_C(1) << 48; break;
	case BAD_CR3: st->crs[NVMM_X64_CR_CR3] |= UINT64_C(1) << 63; break;
	case BAD_LIMIT: cs->limit = UINT32_MAX; break;
	case BAD_LMA: st->msrs[NVMM_X64_MSR_EFER] &= ~UINT64_C(0x400); break;
	case BAD_SVME: st->msrs[NVMM_X64_MSR_EFER] |= 0x1000; break;
	case BAD_PAE: st->crs[NVMM_X64_CR_CR4] = 0; break;
	case BAD_CS_LD: cs->attrib.def = 1; break;
	case BAD_DR7: st->drs[NVMM_X64_DR_DR7] |= UINT64_C(1) << 32; break;
	case BAD_PAT: st->msrs[NVMM_X64_MSR_PAT] = 2; break;
	case NBAD: break;
	}
}

TEST(bad_state)
{
	struct vm vm;
	enum bad bad;

	for (bad = 0; bad < NBAD; bad++) {
		scene(&vm, CODE("\xF4\xF4"));
		if (bad >= BAD_LMA)
			long_mode(&vm);
		SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
		spoil(get_state(&vm, ALL), bad);
		put_state(&vm, ALL & ~NVMM_X64_STATE_FPU);
		outcome(&vm, "bad", bad);
		vm_close(&vm);
	}
}

/* ---- events ------------------------------------------------------------------------ */

struct event {
	unsigned type;
	uint8_t vector;
	bool interrupts, shadow, protect;
	uint64_t error;
};

/* Kernel spec 8.3. */
TEST(injected)
{
	enum { EXCP = NVMM_VCPU_EVENT_EXCP, INTR = NVMM_VCPU_EVENT_INTR };
	static const struct event events[] = {
		{ INTR, 0x41, true, false, false, 0 },
		{ INTR, 0x41, false, false, false, 0 },
		{ INTR, 0x41, true, true, false, 0 },
		{ INTR, 2, false, false, false, 0 },
		{ INTR, 2, false, true, false, 0 },
		{ EXCP, 13, false, false, false, 0 },
		{ EXCP, 6, false, false, false, 0 },
		{ EXCP, 30, false, false, true, 0 },
		{ EXCP, 21, false, false, true, 0 },
		{ EXCP, 13, false, false, true, 0x10000 },
		{ EXCP, 13, false, false, true, 2 },
	};
	const struct event *event;
	struct vm vm;
	size_t i;

	for (i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		event = &events[i];
		scene(&vm, CODE("\xF4"));
		if (event->protect) {
			get_state(&vm, ALL)->crs[NVMM_X64_CR_CR0] |= 1;
			put_state(&vm, NVMM_X64_STATE_CRS);
		}
		set_gpr(&vm, R(RFLAGS), event->interrupts ? 0x202 : 2);
		get_state(&vm, ALL)->intr.int_shadow = event->shadow;
		put_state(&vm, NVMM_X64_STATE_INTR);
		vm.vcpu.event->type = event->type;
		vm.vcpu.event->vector = event->vector;
		vm.vcpu.event->u.excp.error = event->error;
		CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
		outcome(&vm, "injected", i);
		vm_close(&vm);
	}
}

/* An NMI within an NMI. */
TEST(nmi_nested)
{
	struct vm vm;
	size_t i;

	scene(&vm, CODE("\xF4"));
	for (i = 0; i < 2; i++) {
		vm.vcpu.event->type = NVMM_VCPU_EVENT_INTR;
		vm.vcpu.event->vector = 2;
		CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
		outcome(&vm, "nmi", i);
	}
	vm_close(&vm);
}

/* #OF as an exception in 64-bit mode. */
TEST(overflow_in_long_mode)
{
	struct vm vm;

	scene(&vm, CODE("\xF4"));
	long_mode(&vm);
	vm.vcpu.event->type = NVMM_VCPU_EVENT_EXCP;
	vm.vcpu.event->vector = 4;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	outcome(&vm, "overflow", 4);
	vm_close(&vm);
}

/* ---- exits ------------------------------------------------------------------------- */

TEST(io_exit)
{
	struct vm vm;

	scene(&vm, CODE("\xE6\x80\x6E"));		/* out 0x80,al; outsb */
	play(&vm, 2);
}

TEST(memory_exit)
{
	struct vm vm;

	scene(&vm, CODE("\xA2\x34\x02\xF4"));		/* mov [0x234],al */
	set_base(&vm, NVMM_X64_SEG_DS, DEVICE);
	run_and_see(&vm);
	see_state(&vm);
	vm_close(&vm);
}
