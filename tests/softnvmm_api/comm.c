/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The comm page, the reset state and what becomes of committed values (spec
 * libnvmm 4.4 and 4.5, kernel 2.4, 4 and 5).
 */
#include "vm.h"

#define ALL	NVMM_X64_STATE_ALL

static struct nvmm_comm_page *
comm(struct vm *vm)
{
	return vm->mach.pages[vm->vcpu.cpuid];
}

static void
check_seg(const struct nvmm_x64_state_seg *s, unsigned type, unsigned sys)
{
	struct nvmm_x64_state_seg want = { .limit = 0xFFFF };

	want.attrib.type = type & 0xF;
	want.attrib.s = sys & 1;
	want.attrib.p = 1;
	CHECK(memcmp(&want, s, sizeof(want)) == 0);
}

TEST(reset_state)
{
	struct nvmm_machine mach;
	struct nvmm_vcpu v;
	struct nvmm_x64_state *st;
	unsigned i;

	CHECK(nvmm_init() == 0);
	CHECK(nvmm_machine_create(&mach) == 0);
	CHECK(nvmm_vcpu_create(&mach, 3, &v) == 0);
	st = v.state;
	SAME(ALL, mach.pages[3]->state_cached);		/* K-COMM-1 */
	SAME(0, mach.pages[3]->state_commit);
	SAME(0, mach.pages[3]->event_commit);
	SAME(0, *v.stop);
	CHECK(st == &mach.pages[3]->state && v.event == &mach.pages[3]->event);

	SAME(0xF000, st->segs[NVMM_X64_SEG_CS].selector);	/* K-RST-1, L-VCPU-3 */
	SAME(0xFFFF0000, st->segs[NVMM_X64_SEG_CS].base);
	st->segs[NVMM_X64_SEG_CS].selector = 0;
	st->segs[NVMM_X64_SEG_CS].base = 0;
	for (i = NVMM_X64_SEG_ES; i <= NVMM_X64_SEG_GS; i++)
		check_seg(&st->segs[i], 3, 1);
	check_seg(&st->segs[NVMM_X64_SEG_GDT], 2, 1);
	check_seg(&st->segs[NVMM_X64_SEG_IDT], 2, 1);
	check_seg(&st->segs[NVMM_X64_SEG_LDT], 2, 0);
	check_seg(&st->segs[NVMM_X64_SEG_TR], 3, 0);
	for (i = 0; i < NVMM_X64_NGPR; i++)			/* K-RST-4 */
		SAME(i == NVMM_X64_GPR_RDX ? 0x600 :
		    i == NVMM_X64_GPR_RIP ? 0xFFF0 :
		    i == NVMM_X64_GPR_RFLAGS ? 2 : 0, st->gprs[i]);
	for (i = 0; i < NVMM_X64_NCR; i++)
		SAME(i == NVMM_X64_CR_CR0 ? 0x60000010 :
		    i == NVMM_X64_CR_XCR0 ? 1 : 0, st->crs[i]);
	for (i = 0; i < NVMM_X64_NDR; i++)
		SAME(i == NVMM_X64_DR_DR6 ? 0xFFFF0FF0 :
		    i == NVMM_X64_DR_DR7 ? 0x400 : 0, st->drs[i]);
	for (i = 0; i < NVMM_X64_NMSR; i++)
		SAME(i == NVMM_X64_MSR_PAT ? UINT64_C(0x0007040600070406) : 0,
		    st->msrs[i]);
	SAME(0x40, st->fpu.fx_cw);				/* K-RST-10 */
	SAME(0, st->fpu.fx_sw);
	SAME(0x55, st->fpu.fx_tw);				/* L-VCPU-3a */
	SAME(0x55, st->fpu.fx_zero);
	SAME(0x1F80, st->fpu.fx_mxcsr);
	SAME(0, st->fpu.fx_mxcsr_mask);
	CHECK(nvmm_vcpu_destroy(&mach, &v) == 0);

	CHECK(nvmm_vcpu_create(&mach, 3, &v) == 0);		/* K-VCPU-5 */
	SAME(0xF000, v.state->segs[NVMM_X64_SEG_CS].selector);
	CHECK(nvmm_vcpu_destroy(&mach, &v) == 0);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(setstate_is_no_call)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0, comm(&vm)->state_cached);			/* K-COMM-8 */
	SAME(0, nvmm_vcpu_setstate(&vm.mach, &vm.vcpu, 0x82));
	SAME(0x82, comm(&vm)->state_commit);			/* L-ST-1 */
	SAME(0x82, comm(&vm)->state_cached);
	get_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(0x83, comm(&vm)->state_cached);			/* K-COMM-5 */
	SAME(0, comm(&vm)->state_wanted);
	vm_close(&vm);
}

/* A machine id that the kernel does not know shows whether it is asked. */
TEST(cached_getstate_is_no_call)
{
	struct nvmm_machine stranger;
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	get_state(&vm, NVMM_X64_STATE_GPRS);
	stranger = vm.mach;
	stranger.machid = 100;
	SAME(0, nvmm_vcpu_getstate(&stranger, &vm.vcpu,
	    NVMM_X64_STATE_GPRS));				/* L-ST-2 */
	FAILS(ENOENT, nvmm_vcpu_getstate(&stranger, &vm.vcpu,
	    NVMM_X64_STATE_SEGS));
	vm_close(&vm);
}

TEST(cached_edit_survives_getstate)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	get_state(&vm, NVMM_X64_STATE_GPRS)->gprs[NVMM_X64_GPR_RBX] = 0x1234;
	SAME(0x1234, gpr(&vm, NVMM_X64_GPR_RBX));		/* L-ST-3 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0, gpr(&vm, NVMM_X64_GPR_RBX));			/* never set */
	vm_close(&vm);
}

TEST(raw_until_run)
{
	struct vm vm;
	struct nvmm_x64_state *st;

	VM_OPEN(&vm, "\xF4\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	st = get_state(&vm, ALL);
	st->crs[NVMM_X64_CR_CR4] = 0xFFFFFFFFFFC8F600;
	st->crs[NVMM_X64_CR_XCR0] = 0xFE;
	st->crs[NVMM_X64_CR_CR8] = 0xB;
	st->msrs[NVMM_X64_MSR_EFER] = 0x1000;
	st->msrs[NVMM_X64_MSR_STAR] = 0x123456789ABCDEF0;
	st->fpu.fx_mxcsr = 0x1FBF;
	st->fpu.fx_mxcsr_mask = 0x1F9F;
	st->fpu.fx_xmm[15].xmm_bytes[15] = 0x99;
	st->intr.evt_pending = 1;
	put_state(&vm, ALL);
	SAME(0xFE, get_state(&vm, ALL)->crs[NVMM_X64_CR_XCR0]);	/* K-COMM-10, L-ST-4 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0, comm(&vm)->state_commit);			/* K-COMM-3 */
	SAME(0, comm(&vm)->state_cached);			/* K-COMM-2 */
	st = get_state(&vm, ALL);
	SAME(0x600, st->crs[NVMM_X64_CR_CR4]);			/* K-SET-3 */
	SAME(3, st->crs[NVMM_X64_CR_XCR0]);			/* K-SET-7 */
	SAME(0xB, st->crs[NVMM_X64_CR_CR8]);			/* K-SET-13 */
	SAME(0xB, vm.vcpu.exit->exitstate.cr8);
	SAME(0, st->msrs[NVMM_X64_MSR_EFER]);			/* K-SET-8 */
	SAME(0x123456789ABCDEF0, st->msrs[NVMM_X64_MSR_STAR]);	/* K-SET-23 */
	SAME(0x1F9F, st->fpu.fx_mxcsr);				/* K-SET-14 */
	SAME(0xFFFF, st->fpu.fx_mxcsr_mask);
	SAME(0x99, st->fpu.fx_xmm[15].xmm_bytes[15]);		/* K-SET-16 */
	SAME(0, st->intr.evt_pending);				/* K-SET-19 */
	vm_close(&vm);
}

TEST(mxcsr_after_first_run)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0, get_state(&vm, ALL)->fpu.fx_mxcsr);		/* K-RST-11 */
	SAME(0, vm.vcpu.state->fpu.fx_zero);
	vm_close(&vm);
}

TEST(groups_are_kept_apart)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	get_state(&vm, ALL);
	vm.vcpu.state->drs[NVMM_X64_DR_DR0] = 0x1111;
	vm.vcpu.state->msrs[NVMM_X64_MSR_LSTAR] = 0x2222;
	put_state(&vm, NVMM_X64_STATE_DRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	get_state(&vm, ALL);
	SAME(0x1111, vm.vcpu.state->drs[NVMM_X64_DR_DR0]);	/* K-SET-2 */
	SAME(0, vm.vcpu.state->msrs[NVMM_X64_MSR_LSTAR]);
	vm_close(&vm);
}

TEST(tsc)
{
	struct vm vm;
	uint64_t first;

	VM_OPEN(&vm, "\x0F\x31\xF4\xEB\xFB");		/* rdtsc; hlt; again */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	CHECK(gpr(&vm, NVMM_X64_GPR_RDX) == 0);			/* K-RST-13 */
	first = get_state(&vm, ALL)->msrs[NVMM_X64_MSR_TSC];
	CHECK(first >= gpr(&vm, NVMM_X64_GPR_RAX));		/* K-TSC-1 */
	vm.vcpu.state->msrs[NVMM_X64_MSR_TSC] = UINT64_C(7) << 32;
	put_state(&vm, NVMM_X64_STATE_MSRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(7, gpr(&vm, NVMM_X64_GPR_RDX));			/* K-SET-17 */
	vm_close(&vm);
}

TEST(bad_event_fails_the_run)
{
	static const struct nvmm_x86_event bad[] = {
		{ .type = NVMM_VCPU_EVENT_EXCP, .vector = 0 },
		{ .type = NVMM_VCPU_EVENT_EXCP, .vector = 2 },
		{ .type = NVMM_VCPU_EVENT_EXCP, .vector = 3 },
		{ .type = NVMM_VCPU_EVENT_EXCP, .vector = 32 },
		{ .type = 2, .vector = 14 },
	};
	struct vm vm;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		VM_OPEN(&vm, "\xF4");
		memset(vm.vcpu.exit, 0x5A, sizeof(*vm.vcpu.exit));
		set_gpr(&vm, NVMM_X64_GPR_RBX, 0x42);
		*vm.vcpu.event = bad[i];
		SAME(0, nvmm_vcpu_inject(&vm.mach, &vm.vcpu));
		FAILS(EINVAL, nvmm_vcpu_run(&vm.mach, &vm.vcpu));	/* L-EVT-3, K-INJ-1, K-INJ-2 */
		SAME(UINT64_C(0x5A5A5A5A5A5A5A5A), vm.vcpu.exit->reason);	/* K-RUN-12, L-ST-7 */
		SAME(0, comm(&vm)->event_commit);		/* K-COMM-4 */
		SAME(0, comm(&vm)->state_cached);
		SAME(0, comm(&vm)->state_commit);		/* L-ST-6a */
		SAME(0x42, gpr(&vm, NVMM_X64_GPR_RBX));
		SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
		SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INJ-3 */
		vm_close(&vm);
	}
}

TEST(last_event_wins)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xF4");
	vm.vcpu.event->type = NVMM_VCPU_EVENT_EXCP;
	vm.vcpu.event->vector = 200;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	vm.vcpu.event->type = NVMM_VCPU_EVENT_INTR;
	vm.vcpu.event->vector = 0x21;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));			/* L-EVT-1, L-EVT-2, K-INJ-9 */
	SAME(HANDLER(0x21) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0, vm.vcpu.exit->exitstate.evt_pending);		/* K-INJ-11 */
	SAME(STACK - 6, gpr(&vm, NVMM_X64_GPR_RSP));
	SAME(ENTRY, vm.ram[STACK - 6] | vm.ram[STACK - 5] << 8);	/* K-INJ-8 */
	vm_close(&vm);
}

TEST(nmi_arms_its_window)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xF4");
	vm.vcpu.event->type = NVMM_VCPU_EVENT_INTR;
	vm.vcpu.event->vector = 2;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));			/* K-INJ-5, L-EVT-4 */
	SAME(HANDLER(2) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(1, vm.vcpu.exit->exitstate.nmi_window_exiting);
	SAME(NVMM_VCPU_EXIT_NMI_READY, run(&vm));		/* K-NMI-1 */
	SAME(HANDLER(2) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0, vm.vcpu.exit->exitstate.nmi_window_exiting);	/* K-NMI-3 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(ENTRY + 2, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

TEST(event_cut_short_is_kept)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xF4");
	set_gpr(&vm, NVMM_X64_GPR_RSP, 0x0004);
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_SS].base = RAM_SIZE;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	vm.vcpu.event->type = NVMM_VCPU_EVENT_INTR;
	vm.vcpu.event->vector = 0x30;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));			/* K-INJ-12, L-RUN-4 */
	SAME(NVMM_PROT_WRITE, vm.vcpu.exit->u.mem.prot);
	SAME(1, vm.vcpu.exit->exitstate.evt_pending);
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_SS].base = 0;
	vm.vcpu.state->gprs[NVMM_X64_GPR_RSP] = STACK;
	put_state(&vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(HANDLER(0x30) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0, vm.vcpu.exit->exitstate.evt_pending);
	vm_close(&vm);
}
