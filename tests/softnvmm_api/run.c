/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Exits, windows, stop and signals (spec kernel 7, 9 to 12; libnvmm 4.6).
 */
#include <sched.h>

#include "vm.h"

TEST(hlt)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\x43\xF4");			/* hlt; inc bx; hlt */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(ENTRY + 1, gpr(&vm, NVMM_X64_GPR_RIP));	/* K-HLT-1 */
	SAME(2, vm.vcpu.exit->exitstate.rflags);	/* K-RUN-10 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-HLT-5 */
	SAME(1, gpr(&vm, NVMM_X64_GPR_RBX));
	vm_close(&vm);
}

TEST(io)
{
	struct nvmm_x86_exit_io *io;
	struct vm vm;

	VM_OPEN(&vm, "\xEF\xF3\x6D");			/* out dx,ax; rep insw */
	set_gpr(&vm, NVMM_X64_GPR_RDX, 0x3F8);
	set_gpr(&vm, NVMM_X64_GPR_RCX, 1);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	io = &vm.vcpu.exit->u.io;
	SAME(0, io->in);
	SAME(0x3F8, io->port);				/* K-IO-1 */
	SAME(2, io->operand_size);
	SAME(0, io->str);
	SAME(0, io->rep);
	SAME(ENTRY + 1, io->npc);			/* K-IO-2 */
	SAME(0x17, vm.mach.pages[0]->state_cached);	/* K-COMM-6, L-ST-6 */
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
	set_gpr(&vm, NVMM_X64_GPR_RIP, io->npc);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(1, io->in);
	SAME(1, io->str);				/* K-IO-3 */
	SAME(1, io->rep);
	SAME(2, io->address_size);
	SAME(NVMM_X64_SEG_ES, io->seg);			/* K-IO-4 */
	SAME(ENTRY + 3, io->npc);
	vm_close(&vm);
}

TEST(memory)
{
	struct nvmm_x86_exit_memory *mem;
	struct vm vm;

	VM_OPEN(&vm, "\xC6\x06\x34\x12\x55");		/* mov byte [0x1234],0x55 */
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_DS].base =
	    0x80000;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));
	mem = &vm.vcpu.exit->u.mem;
	SAME(NVMM_PROT_WRITE, mem->prot);		/* K-MEMX-2 */
	SAME(0x81234, mem->gpa);
	CHECK(mem->inst_len >= 5);			/* K-MEMX-7 */
	CHECK(memcmp(mem->inst_bytes, "\xC6\x06\x34\x12\x55", 5) == 0);
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));	/* K-MEMX-5 */
	FAILS(EINVAL, nvmm_assist_io(&vm.mach, &vm.vcpu));	/* L-IO-1 */
	vm_close(&vm);
}

TEST(shutdown)
{
	struct vm vm;

	VM_OPEN(&vm, "\xCC");				/* int3 without a table */
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_IDT].limit = 0;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(NVMM_VCPU_EXIT_SHUTDOWN, run(&vm));	/* K-SHUT-1 */
	SAME(0, vm.mach.pages[0]->state_cached);
	vm_close(&vm);
}

TEST(msr_exits)
{
	struct vm vm;

	VM_OPEN(&vm, "\x0F\x32\x0F\x30");		/* rdmsr; wrmsr */
	set_gpr(&vm, NVMM_X64_GPR_RCX, 0x1B);
	SAME(NVMM_VCPU_EXIT_RDMSR, run(&vm));		/* K-MSR-1, K-MSR-15 */
	SAME(0x1B, vm.vcpu.exit->u.rdmsr.msr);
	SAME(ENTRY + 2, vm.vcpu.exit->u.rdmsr.npc);
	SAME(0x02, vm.mach.pages[0]->state_cached);	/* K-COMM-7 */
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY + 2);
	set_gpr(&vm, NVMM_X64_GPR_RAX, 0xFFFFFFFF00000900);
	set_gpr(&vm, NVMM_X64_GPR_RDX, 0xFEE);
	SAME(NVMM_VCPU_EXIT_WRMSR, run(&vm));		/* K-MSR-2 */
	SAME(0x1B, vm.vcpu.exit->u.wrmsr.msr);
	SAME(0xFEE00000900, vm.vcpu.exit->u.wrmsr.val);
	SAME(ENTRY + 4, vm.vcpu.exit->u.wrmsr.npc);
	vm_close(&vm);
}

TEST(msr_in_kernel)
{
	struct vm vm;

	VM_OPEN(&vm, "\x0F\x32\xF4\x0F\x30\x0F\x31\xF4");	/* rdmsr; hlt; wrmsr; rdtsc; hlt */
	set_gpr(&vm, NVMM_X64_GPR_RCX, 0xC001001F);
	set_gpr(&vm, NVMM_X64_GPR_RAX, UINT64_MAX);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-MSR-13 */
	SAME(0, gpr(&vm, NVMM_X64_GPR_RAX));
	SAME(0x400000, gpr(&vm, NVMM_X64_GPR_RDX));
	set_gpr(&vm, NVMM_X64_GPR_RCX, 0x10);
	set_gpr(&vm, NVMM_X64_GPR_RDX, 9);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-MSR-4 */
	SAME(9, gpr(&vm, NVMM_X64_GPR_RDX));
	vm_close(&vm);
}

static const char CPUID_HLT[] = "\x0F\xA2\xF4";

static void
cpuid(struct vm *vm, uint64_t leaf, uint64_t subleaf, uint64_t out[4])
{
	get_state(vm, NVMM_X64_STATE_GPRS);
	vm->vcpu.state->gprs[NVMM_X64_GPR_RAX] = leaf;
	vm->vcpu.state->gprs[NVMM_X64_GPR_RCX] = subleaf;
	vm->vcpu.state->gprs[NVMM_X64_GPR_RIP] = ENTRY;
	put_state(vm, NVMM_X64_STATE_GPRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(vm));		/* K-CPUID-27 */
	out[0] = gpr(vm, NVMM_X64_GPR_RAX);
	out[1] = gpr(vm, NVMM_X64_GPR_RBX);
	out[2] = gpr(vm, NVMM_X64_GPR_RCX);
	out[3] = gpr(vm, NVMM_X64_GPR_RDX);
}

TEST(cpuid_leaves)
{
	static const uint32_t zeros[] = { 3, 4, 5, 6, 8, 9, 0xA };
	struct vm vm;
	uint64_t r[4], max;
	size_t i;

	VM_OPEN(&vm, CPUID_HLT);
	cpuid(&vm, 0, 0, r);
	max = r[0];
	CHECK(max <= 0xD);				/* K-CPUID-1 */
	cpuid(&vm, 1, 0, r);
	SAME(0, r[1] >> 24);				/* K-CPUID-2 */
	CHECK((r[2] >> 31) & 1);			/* K-CPUID-3 */
	SAME(0, r[2] & ~UINT64_C(0xEED83203));		/* K-CPUID-4 */
	SAME(0, r[3] & ~UINT64_C(0x9F8BAB7F));		/* K-CPUID-5 */
	for (i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++) {
		if (zeros[i] > max)
			continue;
		cpuid(&vm, zeros[i], 0, r);		/* K-CPUID-8, K-CPUID-9 */
		SAME(0, r[0] | r[1] | r[2] | r[3]);
	}
	cpuid(&vm, 0x40000000, 0, r);			/* K-CPUID-13, K-CPUID-14 */
	SAME(0x40000010, r[0]);
	SAME(0x205F5F5F, r[1]);
	SAME(0x4D4D564E, r[2]);
	SAME(0x5F5F5F20, r[3]);
	cpuid(&vm, UINT64_C(1) << 32, 0, r);		/* quirk: 64-bit compare */
	CHECK(r[1] != 0x205F5F5F);
	vm_close(&vm);
}

TEST(cpuid_mask_and_exit)
{
	struct nvmm_vcpu_conf_cpuid c = { .mask = 1, .leaf = 0x40000000 };
	struct vm vm;
	uint64_t r[4];

	VM_OPEN(&vm, CPUID_HLT);
	c.u.mask.set.eax = 0xF0000000;
	c.u.mask.del.ebx = 0x000000FF;
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu, NVMM_VCPU_CONF_CPUID,
	    &c) == 0);
	cpuid(&vm, 0x40000000, 77, r);			/* K-CPUID-22, K-CPUID-23 */
	SAME(0xF0000010, r[0]);
	SAME(0x205F5F00, r[1]);
	c.mask = 0;
	c.exit = 1;
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu, NVMM_VCPU_CONF_CPUID,
	    &c) == 0);
	set_gpr(&vm, NVMM_X64_GPR_RAX, 0x40000000);
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	SAME(NVMM_VCPU_EXIT_CPUID, run(&vm));		/* K-CPUID-24 */
	SAME(ENTRY + 2, vm.vcpu.exit->u.insn.npc);
	SAME(0, vm.mach.pages[0]->state_cached);
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0x40000010, gpr(&vm, NVMM_X64_GPR_RAX));	/* K-CPUID-25 */
	vm_close(&vm);
}

TEST(invd_is_invalid)
{
	struct vm vm;

	VM_OPEN(&vm, "\x0F\x08\xF4");
	SAME(NVMM_VCPU_EXIT_INVALID, run(&vm));
	SAME(0x76, vm.vcpu.exit->u.inv.hwcode);		/* K-INV-1 */
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

TEST(bad_state_is_invalid)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	get_state(&vm, NVMM_X64_STATE_ALL)->crs[NVMM_X64_CR_CR0] = 0x20000010;
	put_state(&vm, NVMM_X64_STATE_CRS);		/* NW without CD */
	SAME(NVMM_VCPU_EXIT_INVALID, run(&vm));
	SAME(UINT64_MAX, vm.vcpu.exit->u.inv.hwcode);	/* K-SET-21 */
	get_state(&vm, NVMM_X64_STATE_ALL)->crs[NVMM_X64_CR_CR0] = 0x10;
	put_state(&vm, NVMM_X64_STATE_CRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	vm_close(&vm);
}

TEST(monitor_and_mwait)
{
	struct vm vm;

	VM_OPEN(&vm, "\x0F\x01\xC8\x0F\x01\xC9");
	SAME(NVMM_VCPU_EXIT_MONITOR, run(&vm));		/* K-CPX-1 */
	SAME(ENTRY + 3, vm.vcpu.exit->u.insn.npc);
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY + 3);
	SAME(NVMM_VCPU_EXIT_MWAIT, run(&vm));
	SAME(ENTRY + 6, vm.vcpu.exit->u.insn.npc);
	vm_close(&vm);
}

TEST(xsetbv)
{
	struct vm vm;
	uint64_t r[4];

	VM_OPEN(&vm, CPUID_HLT);
	cpuid(&vm, 1, 0, r);
	vm_close(&vm);
	if ((r[2] & (1 << 26)) == 0)
		return;			/* a processor without XSAVE */
	VM_OPEN(&vm, "\x0F\x01\xD1\xF4");
	get_state(&vm, NVMM_X64_STATE_ALL)->crs[NVMM_X64_CR_CR4] = 1 << 18;
	vm.vcpu.state->gprs[NVMM_X64_GPR_RAX] = 3;
	put_state(&vm, NVMM_X64_STATE_CRS | NVMM_X64_STATE_GPRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INK-1 */
	SAME(3, get_state(&vm, NVMM_X64_STATE_CRS)->crs[NVMM_X64_CR_XCR0]);
	set_gpr(&vm, NVMM_X64_GPR_RAX, 7);
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INK-2 */
	SAME(HANDLER(13) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(13, vm.vcpu.event->vector);		/* K-COMM-9 */
	vm_close(&vm);
}

TEST(xsetbv_needs_bit_0)
{
	struct vm vm;

	VM_OPEN(&vm, "\x0F\x01\xD1\xF4");
	get_state(&vm, NVMM_X64_STATE_ALL)->crs[NVMM_X64_CR_CR4] = 1 << 18;
	vm.vcpu.state->gprs[NVMM_X64_GPR_RAX] = 2;	/* SSE without x87 */
	put_state(&vm, NVMM_X64_STATE_CRS | NVMM_X64_STATE_GPRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INK-2 */
	SAME(HANDLER(13) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(1, get_state(&vm, NVMM_X64_STATE_CRS)->crs[NVMM_X64_CR_XCR0]);
	vm_close(&vm);
}

TEST(interrupt_window)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xFB\x90\x90\xF4");		/* nop; sti; nop; nop; hlt */
	get_state(&vm, NVMM_X64_STATE_INTR)->intr.int_window_exiting = 1;
	put_state(&vm, NVMM_X64_STATE_INTR);
	SAME(NVMM_VCPU_EXIT_INT_READY, run(&vm));
	SAME(ENTRY + 3, gpr(&vm, NVMM_X64_GPR_RIP));	/* K-INT-2 */
	SAME(0, vm.vcpu.exit->exitstate.int_window_exiting);	/* K-INT-1 */
	vm.vcpu.event->type = NVMM_VCPU_EVENT_INTR;
	vm.vcpu.event->vector = 0x20;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INT-3 */
	SAME(HANDLER(0x20) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

TEST(hlt_and_the_window)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\xFB\xF4");			/* hlt; sti; hlt */
	get_state(&vm, NVMM_X64_STATE_INTR)->intr.int_window_exiting = 1;
	put_state(&vm, NVMM_X64_STATE_INTR);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(1, vm.vcpu.exit->exitstate.int_window_exiting);	/* K-HLT-4 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0, vm.vcpu.exit->exitstate.int_window_exiting);	/* K-HLT-3 */
	SAME(0, vm.vcpu.exit->exitstate.int_shadow);		/* K-HLT-2 */
	vm_close(&vm);
}

/* ---- stop, ticks, signals ------------------------------------------------------ */

TEST(stop_before_run)
{
	static const struct nvmm_x86_exit zero;
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	vm.vcpu.event->type = 9;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(0, nvmm_vcpu_stop(&vm.vcpu));
	SAME(1, *vm.vcpu.stop);					/* L-STOP-1 */
	SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	SAME(NVMM_VCPU_EXIT_STOPPED, vm.vcpu.exit->reason);	/* K-RUN-3, L-STOP-2 */
	CHECK(memcmp(&vm.vcpu.exit->exitstate, &zero.exitstate,
	    sizeof(zero.exitstate)) == 0);			/* K-RUN-7, L-RUN-3 */
	SAME(0, *vm.vcpu.stop);					/* K-RUN-5, L-STOP-4 */
	SAME(1, vm.mach.pages[0]->event_commit);		/* K-RUN-6 */
	CHECK(vm.mach.pages[0]->state_commit != 0);
	FAILS(EINVAL, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	vm_close(&vm);
}

TEST(spinning_guest_yields)
{
	struct vm vm;

	VM_OPEN(&vm, "\xEB\xFE");
	SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	SAME(NVMM_VCPU_EXIT_NONE, vm.vcpu.exit->reason);	/* K-RUN-2 */
	SAME(2, vm.vcpu.exit->exitstate.rflags);
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

static void *
stopper(void *arg)
{
	struct vm *vm = arg;

	while (__atomic_load_n(&vm->ram[0x8000], __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	nvmm_vcpu_stop(&vm->vcpu);
	return NULL;
}

TEST(stop_during_run)
{
	pthread_t thread;
	struct vm vm;
	uint64_t reason;

	/* mov byte [0x8000],1; jmp self */
	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\xEB\xFE");
	CHECK(pthread_create(&thread, NULL, stopper, &vm) == 0);
	do {		/* a NONE may use the request up (L-STOP-4) */
		SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
		reason = vm.vcpu.exit->reason;
		CHECK(reason == NVMM_VCPU_EXIT_NONE ||
		    reason == NVMM_VCPU_EXIT_STOPPED);
	} while (pthread_tryjoin_np(thread, NULL) != 0);
	vm_close(&vm);
}

static volatile sig_atomic_t kicks;

static void
on_signal(int signo)
{
	(void)signo;
	kicks++;
}

struct kicker {
	struct vm *vm;
	pthread_t runner;
};

static void *
kick(void *arg)
{
	struct kicker *k = arg;

	while (__atomic_load_n(&k->vm->ram[0x8000], __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	pthread_kill(k->runner, SIGUSR1);
	return NULL;
}

TEST(signal_ends_run)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct kicker k;
	pthread_t thread;
	struct vm vm;

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\xEB\xFE");
	k.vm = &vm;
	k.runner = pthread_self();
	CHECK(pthread_create(&thread, NULL, kick, &k) == 0);
	do {
		SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));	/* K-RUN-1 */
		SAME(NVMM_VCPU_EXIT_NONE, vm.vcpu.exit->reason);
	} while (kicks == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	SAME(1, kicks);
	vm_close(&vm);
}

/* The signal comes before the guest is let go, which then has four slices of
 * instructions before its HLT: it does not get there. */
static void *
kick_and_release(void *arg)
{
	struct kicker *k = arg;

	kick(k);
	__atomic_store_n(&k->vm->ram[0x8001], 1, __ATOMIC_RELEASE);
	return NULL;
}

TEST(signal_comes_before_a_later_exit)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct kicker k;
	pthread_t thread;
	struct vm vm;

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	/* mov byte [0x8000],1; wait: cmp byte [0x8001],0; jz wait;
	 * mov ecx,0x10000; a32 loop itself; hlt */
	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\x80\x3E\x01\x80\x00\x74\xF9"
	    "\x66\xB9\x00\x00\x01\x00\x67\xE2\xFD\xF4");
	k.vm = &vm;
	k.runner = pthread_self();
	CHECK(pthread_create(&thread, NULL, kick_and_release, &k) == 0);
	do
		SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	while (kicks == 0);
	SAME(NVMM_VCPU_EXIT_NONE, vm.vcpu.exit->reason);	/* K-RUN-1 */
	CHECK(pthread_join(thread, NULL) == 0);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	vm_close(&vm);
}

/* ---- threads ---------------------------------------------------------------------- */

static void *
runner(void *arg)
{
	struct vm *vm = arg;

	while (__atomic_load_n(&vm->ram[0x8001], __ATOMIC_ACQUIRE) == 0)
		CHECK(nvmm_vcpu_run(&vm->mach, &vm->vcpu) == 0);
	return NULL;
}

TEST(maps_while_running)
{
	uint8_t *more = spare(PAGE);
	pthread_t thread;
	struct vm vm;
	unsigned i;

	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\xEB\xFE");
	CHECK(pthread_create(&thread, NULL, runner, &vm) == 0);
	while (__atomic_load_n(&vm.ram[0x8000], __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	/* K-MEM-24: the first two go on beside the run, hva_map waits for it. */
	for (i = 0; i < 20; i++) {
		SAME(0, nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE,
		    PAGE, PROT_READ));
		SAME(0, nvmm_gpa_unmap(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE,
		    PAGE));
	}
	SAME(0, nvmm_hva_map(&vm.mach, (uintptr_t)more, PAGE));
	SAME(0, nvmm_hva_unmap(&vm.mach, (uintptr_t)more, PAGE));
	__atomic_store_n(&vm.ram[0x8001], 1, __ATOMIC_RELEASE);
	CHECK(pthread_join(thread, NULL) == 0);
	vm_close(&vm);
}

static void *
run_until_gone(void *arg)
{
	struct vm *vm = arg;

	while (nvmm_vcpu_run(&vm->mach, &vm->vcpu) == 0)
		__atomic_store_n(&vm->ram[0x8001], 1, __ATOMIC_RELEASE);
	SAME(ENOENT, errno);
	return NULL;
}

TEST(destroy_while_running)
{
	struct nvmm_vcpu other;
	pthread_t thread;
	struct vm vm;

	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\xEB\xFE");
	CHECK(pthread_create(&thread, NULL, run_until_gone, &vm) == 0);
	while (__atomic_load_n(&vm.ram[0x8000], __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	SAME(0, nvmm_vcpu_create(&vm.mach, 1, &other));
	SAME(0, nvmm_machine_destroy(&vm.mach));	/* K-MACH-6 */
	CHECK(pthread_join(thread, NULL) == 0);
}

TEST(vcpu_destroy_while_running)
{
	pthread_t thread;
	struct vm vm;

	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\xEB\xFE");
	CHECK(pthread_create(&thread, NULL, run_until_gone, &vm) == 0);
	while (__atomic_load_n(&vm.ram[0x8000], __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	/* K-VCPU-6: waits for the run; the runner's next one fails. */
	SAME(0, nvmm_vcpu_destroy(&vm.mach, &vm.vcpu));
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(nvmm_machine_destroy(&vm.mach) == 0);
}

/* ---- the assists on a real exit -------------------------------------------- */

static unsigned io_calls;

static void
on_io(struct nvmm_io *io)
{
	(void)io;
	io_calls++;
}

/* What the last I/O exit left is no exit. */
TEST(assist_io_wants_an_io_exit)
{
	struct nvmm_assist_callbacks cbs = { .io = on_io };
	struct vm vm;

	VM_OPEN(&vm, "\xE6\x80\xF4");			/* out 0x80,al; hlt */
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
	    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	vm.vcpu.exit->reason = NVMM_VCPU_EXIT_HALTED;
	FAILS(EINVAL, nvmm_assist_io(&vm.mach, &vm.vcpu));	/* L-IO-1 */
	SAME(0, io_calls);
	vm.vcpu.exit->reason = NVMM_VCPU_EXIT_IO;
	SAME(0, nvmm_assist_io(&vm.mach, &vm.vcpu));
	SAME(1, io_calls);
	vm_close(&vm);
}

static uint64_t device_word;

static void
on_mem(struct nvmm_mem *mem)
{
	SAME(0x81234, mem->gpa);
	if (mem->write)
		memcpy(&device_word, mem->data, mem->size);
	else
		memcpy(mem->data, &device_word, mem->size);
}

TEST(assist_mem)
{
	struct nvmm_assist_callbacks cbs = { .mem = on_mem };
	struct nvmm_soft_diagnostic d;
	struct vm vm;

	/* mov byte [0x1234],0x55; or al,[0x1234]; inc byte [0x1234] */
	VM_OPEN(&vm, "\xC6\x06\x34\x12\x55\x0A\x06\x34\x12\xFE\x06\x34\x12");
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
	    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
	FAILS(EINVAL, nvmm_assist_mem(&vm.mach, &vm.vcpu));	/* L-MEM-1 */
	get_state(&vm, NVMM_X64_STATE_ALL)->segs[NVMM_X64_SEG_DS].base =
	    0x80000;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));
	SAME(0, nvmm_assist_mem(&vm.mach, &vm.vcpu));
	SAME(0x55, device_word);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));
	SAME(ENTRY + 5, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0, nvmm_assist_mem(&vm.mach, &vm.vcpu));
	SAME(0x55, gpr(&vm, NVMM_X64_GPR_RAX));
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));
	FAILS(ENODEV, nvmm_assist_mem(&vm.mach, &vm.vcpu));	/* L-MEM-3 */
	SAME(ENTRY + 9, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0, nvmm_soft_diagnostic(&vm.mach, &vm.vcpu, &d));
	SAME(1, d.undecodable_mem);
	SAME(0, d.unimplemented);
	vm_close(&vm);
}
