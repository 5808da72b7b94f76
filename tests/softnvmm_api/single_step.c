/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A single-step trap and an event at the same boundary: the trap belongs to the
 * instruction before and is delivered first, the event then, on top of it (SDM 3A
 * 6.9, table 6-2); neither is lost (test_single_step.py).  Frames of real mode.
 */
#include "scene.h"

#define TF	0x100
#define DR6_BS	0x4000

static void
frame(struct vm *vm, unsigned n, uint16_t want[3])
{
	memcpy(want, vm->ram + STACK - 6 * n, 6);	/* IP, CS, FLAGS */
}

/* An OUT under TF that the assist does, and then an event. */
static void
stepped(struct vm *vm, unsigned type, uint8_t vector)
{
	VM_OPEN(vm, "\xE6\x80\xF4");
	get_state(vm, NVMM_X64_STATE_ALL)->gprs[NVMM_X64_GPR_RFLAGS] = TF | 0x202;
	put_state(vm, NVMM_X64_STATE_GPRS);
	CHECK(nvmm_vcpu_configure(&vm->mach, &vm->vcpu, NVMM_VCPU_CONF_CALLBACKS,
	    &(struct nvmm_assist_callbacks){ scene_io, scene_mem }) == 0);
	SAME(NVMM_VCPU_EXIT_IO, run(vm));
	CHECK(nvmm_assist_io(&vm->mach, &vm->vcpu) == 0);
	vm->vcpu.event->type = type;
	vm->vcpu.event->vector = vector;
	vm->vcpu.event->u.excp.error = 0;
	CHECK(nvmm_vcpu_inject(&vm->mach, &vm->vcpu) == 0);
}

static void
both(struct vm *vm, uint8_t vector)
{
	uint16_t first[3], second[3];

	SAME(NVMM_VCPU_EXIT_HALTED, run(vm));
	SAME(0, vm->vcpu.exit->exitstate.evt_pending);
	get_state(vm, NVMM_X64_STATE_ALL);
	/* The event's handler halts, and under it is the trap's. */
	SAME(HANDLER(vector) + 1, vm->vcpu.state->gprs[NVMM_X64_GPR_RIP]);
	SAME(STACK - 12, vm->vcpu.state->gprs[NVMM_X64_GPR_RSP]);
	frame(vm, 1, first);
	frame(vm, 2, second);
	SAME(ENTRY + 2, first[0]);
	CHECK(first[2] & TF);
	SAME(HANDLER(1), second[0]);
	CHECK((second[2] & TF) == 0);
	SAME(DR6_BS, vm->vcpu.state->drs[NVMM_X64_DR_DR6] & DR6_BS);
	vm_close(vm);
}

TEST(interrupt)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	both(&vm, 0x30);
}

TEST(nmi)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 2);
	both(&vm, 2);
}

TEST(exception)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_EXCP, 6);
	both(&vm, 6);
}

/* The window is the caller's way to an INTR; it must not open between the two. */
TEST(window_stays_behind_both)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	get_state(&vm, NVMM_X64_STATE_ALL)->intr.int_window_exiting = 1;
	put_state(&vm, NVMM_X64_STATE_INTR);
	both(&vm, 0x30);
}

/* A return check between them: the event still waits, and comes. */
TEST(return_between)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	CHECK(nvmm_soft_interrupt(&vm.mach, &vm.vcpu, 2, 0) == 0);
	CHECK(nvmm_vcpu_run(&vm.mach, &vm.vcpu) == 0);
	SAME(NVMM_VCPU_EXIT_NONE, vm.vcpu.exit->reason);
	SAME(1, vm.vcpu.exit->exitstate.evt_pending);
	both(&vm, 0x30);
}

/* The last one injected is the one that is delivered (K-INJ-9), behind the trap. */
TEST(last_of_two)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	vm.vcpu.event->vector = 0x31;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	both(&vm, 0x31);
}

/* The trap's frame does not fit into memory: both wait, and both come. */
TEST(trap_cut_short)
{
	struct vm vm;
	uint16_t ip;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_SS].base = DEVICE;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));
	SAME(1, vm.vcpu.exit->exitstate.evt_pending);
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_SS].base = 0;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	memcpy(&ip, vm.ram + STACK - 6, 2);
	SAME(0, ip);
	both(&vm, 0x30);
}

/* Without an event there is the trap alone, and what is injected later is later. */
TEST(trap_alone)
{
	struct vm vm;

	stepped(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	vm.mach.pages[0]->event_commit = false;
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(HANDLER(1) + 1, get_state(&vm, NVMM_X64_STATE_ALL)->gprs[NVMM_X64_GPR_RIP]);
	vm.vcpu.event->vector = 0x31;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(HANDLER(0x31) + 1,
	    get_state(&vm, NVMM_X64_STATE_ALL)->gprs[NVMM_X64_GPR_RIP]);
	vm_close(&vm);
}
