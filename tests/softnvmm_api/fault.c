/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Each seeded fault shows; run with NVMM_SOFT_FAULT naming it.  Built with
 * WANT_FAULT=0 the same checks say what is right.
 */
#include "vm.h"

TEST(hlt_rip_not_advanced)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(WANT_FAULT ? ENTRY : ENTRY + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

TEST(io_npc_off_by_one)
{
	struct vm vm;

	VM_OPEN(&vm, "\xEE");
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(ENTRY + 1 + WANT_FAULT, vm.vcpu.exit->u.io.npc);
	vm_close(&vm);
}

static uint8_t seen;

static void
on_io(struct nvmm_io *io)
{
	seen = io->data[0];
}

TEST(outs_no_segment_base)
{
	struct nvmm_assist_callbacks cbs = { .io = on_io };
	struct vm vm;

	VM_OPEN(&vm, "\x6E");				/* outsb */
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
	    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_DS].base = 0x2000;
	vm.vcpu.state->gprs[NVMM_X64_GPR_RSI] = 0x0800;
	put_state(&vm, NVMM_X64_STATE_GPRS | NVMM_X64_STATE_SEGS);
	vm.ram[0x0800] = 1;
	vm.ram[0x2800] = 2;
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(0, nvmm_assist_io(&vm.mach, &vm.vcpu));
	SAME(WANT_FAULT ? 1 : 2, seen);
	SAME(ENTRY + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0x801, gpr(&vm, NVMM_X64_GPR_RSI));
	vm_close(&vm);
}

TEST(shutdown_as_halted)
{
	struct vm vm;

	VM_OPEN(&vm, "\xCC");
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_IDT].limit = 0;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(WANT_FAULT ? NVMM_VCPU_EXIT_HALTED : NVMM_VCPU_EXIT_SHUTDOWN,
	    run(&vm));
	vm_close(&vm);
}
