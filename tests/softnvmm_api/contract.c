/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the manual and the measured library promise, where no other program
 * here looks: a test a row of the requirements.
 */
#include <sched.h>
#include <stdatomic.h>

#include "vm.h"

#define ALL	NVMM_X64_STATE_ALL
#define RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)

static struct nvmm_comm_page *
comm(struct vm *vm)
{
	return vm->mach.pages[vm->vcpu.cpuid];
}

static void
set_base(struct vm *vm, unsigned seg, uint64_t base)
{
	get_state(vm, NVMM_X64_STATE_SEGS)->segs[seg].base = base;
	put_state(vm, NVMM_X64_STATE_SEGS);
}

/* ---- opening, machines, vCPUs -------------------------------------------------- */

TEST(first_init_wins)
{
	struct nvmm_ctl_mach_info info = { 0 };
	struct nvmm_machine mach;

	SAME(0, nvmm_init());
	SAME(0, nvmm_root_init());	/* L-INIT-1: nothing done, L-INIT-3: not root */
	CHECK(nvmm_machine_create(&mach) == 0);
	info.machid = mach.machid;
	CHECK(nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)) == 0);
	SAME(getpid(), info.pid);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(failed_machine_create_touches_nothing)
{
	struct nvmm_machine m[128], one, old;
	size_t i;

	CHECK(nvmm_init() == 0);
	for (i = 0; i < 128; i++)
		CHECK(nvmm_machine_create(&m[i]) == 0);
	memset(&one, 0xA5, sizeof(one));
	old = one;
	FAILS(ENOBUFS, nvmm_machine_create(&one));
	CHECK(memcmp(&one, &old, sizeof(one)) == 0);	/* L-MACH-1 */
	for (i = 0; i < 128; i++) {
		CHECK(m[i].pages != NULL && m[i].areas != NULL);
		CHECK(nvmm_machine_destroy(&m[i]) == 0);
	}
}

TEST(vcpu_destroy_unmaps_the_page)
{
	struct nvmm_machine mach;
	struct nvmm_vcpu v;
	void *page;

	CHECK(nvmm_init() == 0 && nvmm_machine_create(&mach) == 0);
	CHECK(nvmm_vcpu_create(&mach, 0, &v) == 0);
	page = mach.pages[0];
	SAME(0, msync(page, PAGE, MS_ASYNC));
	CHECK(nvmm_vcpu_destroy(&mach, &v) == 0);
	FAILS(ENOMEM, msync(page, PAGE, MS_ASYNC));	/* L-VCPU-4 */
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(callbacks_ask_nobody)
{
	struct nvmm_assist_callbacks cbs = { NULL, NULL };
	struct nvmm_machine mach;
	struct nvmm_vcpu v;

	memset(&v, 0x5A, sizeof(v));
	v.cpuid = 200;				/* there is no such vCPU */
	CHECK(nvmm_init() == 0 && nvmm_machine_create(&mach) == 0);
	SAME(0, nvmm_vcpu_configure(&mach, &v, NVMM_VCPU_CONF_CALLBACKS,
	    &cbs));				/* L-VCPU-5 */
	CHECK(v.cbs.io == NULL && v.cbs.mem == NULL);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

/* ---- state ------------------------------------------------------------------------ */

TEST(getstate_leaves_a_commit_pending)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	SAME(0xF4, vm.ram[ENTRY]);
	get_state(&vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS);
	SAME(NVMM_X64_STATE_GPRS, comm(&vm)->state_commit);	/* L-ST-5 */
	SAME(ENTRY, vm.vcpu.state->gprs[NVMM_X64_GPR_RIP]);
	vm_close(&vm);
}

TEST(cached_parts_are_not_fetched)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	comm(&vm)->state.crs[NVMM_X64_CR_CR2] = 0x77;
	comm(&vm)->state_cached = NVMM_X64_STATE_CRS;
	get_state(&vm, NVMM_X64_STATE_CRS | NVMM_X64_STATE_GPRS);	/* L-ST-2 */
	SAME(0x77, vm.vcpu.state->crs[NVMM_X64_CR_CR2]);
	SAME(ENTRY + 1, vm.vcpu.state->gprs[NVMM_X64_GPR_RIP]);
	SAME(NVMM_X64_STATE_CRS | NVMM_X64_STATE_GPRS,
	    comm(&vm)->state_cached);
	vm_close(&vm);
}

TEST(absent_segment_stays_absent)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	get_state(&vm, ALL)->segs[NVMM_X64_SEG_FS].attrib.p = 0;
	put_state(&vm, NVMM_X64_STATE_SEGS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	get_state(&vm, ALL);
	SAME(0, vm.vcpu.state->segs[NVMM_X64_SEG_FS].attrib.p);	/* K-SET-11 */
	SAME(1, vm.vcpu.state->segs[NVMM_X64_SEG_GS].attrib.p);
	vm_close(&vm);
}

TEST(cr8_and_the_tpr)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	get_state(&vm, ALL)->crs[NVMM_X64_CR_CR8] = 9;
	put_state(&vm, NVMM_X64_STATE_CRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(9, vm.vcpu.exit->exitstate.cr8);		/* K-SET-13 */
	SAME(9, get_state(&vm, NVMM_X64_STATE_CRS)->crs[NVMM_X64_CR_CR8]);
	vm_close(&vm);
}

TEST(exitstate_is_what_getstate_says)
{
	struct vm vm;

	VM_OPEN(&vm, "\xFB\xE6\x80");			/* sti; out 0x80,al */
	get_state(&vm, ALL)->intr.nmi_window_exiting = 1;
	put_state(&vm, NVMM_X64_STATE_INTR);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(1, vm.vcpu.exit->exitstate.int_shadow);	/* K-INT-5 */
	get_state(&vm, ALL);				/* K-RUN-10, K-RUN-11 */
	SAME(vm.vcpu.exit->exitstate.rflags,
	    vm.vcpu.state->gprs[NVMM_X64_GPR_RFLAGS]);
	SAME(1, vm.vcpu.state->intr.int_shadow);
	SAME(1, vm.vcpu.state->intr.nmi_window_exiting);
	SAME(0, vm.vcpu.state->intr.int_window_exiting);
	SAME(0, vm.vcpu.state->intr.evt_pending);
	vm_close(&vm);
}

static void
no_io(struct nvmm_io *io)
{
	(void)io;
}

TEST(assist_io_leaves_the_shadow)
{
	struct nvmm_assist_callbacks cbs = { .io = no_io };
	struct vm vm;

	VM_OPEN(&vm, "\xFB\xE6\x80");			/* sti; out 0x80,al */
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
	    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(0, nvmm_assist_io(&vm.mach, &vm.vcpu));
	SAME(NVMM_X64_STATE_GPRS, comm(&vm)->state_commit);
	SAME(1, get_state(&vm, NVMM_X64_STATE_INTR)->intr.int_shadow);	/* L-IO-18 */
	vm_close(&vm);
}

/* ---- events, windows ------------------------------------------------------------------ */

static void
inject(struct vm *vm, unsigned type, uint8_t vector)
{
	vm->vcpu.event->type = type;
	vm->vcpu.event->vector = vector;
	vm->vcpu.event->u.excp.error = 0;
	CHECK(nvmm_vcpu_inject(&vm->mach, &vm->vcpu) == 0);
}

TEST(interrupts_ignore_if_and_tpr)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xF4");
	get_state(&vm, ALL)->crs[NVMM_X64_CR_CR8] = 15;
	put_state(&vm, NVMM_X64_STATE_CRS);
	inject(&vm, NVMM_VCPU_EVENT_INTR, 0x20);	/* L-EVT-4, K-INJ-14, K-INJ-17 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(HANDLER(0x20) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

TEST(low_vectors_are_interrupts_too)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xF4");
	inject(&vm, NVMM_VCPU_EVENT_INTR, 13);		/* K-INJ-4 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(HANDLER(13) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(STACK - 6, gpr(&vm, NVMM_X64_GPR_RSP));
	vm_close(&vm);
}

TEST(pending_event_is_replaced)
{
	struct vm vm;

	VM_OPEN(&vm, "\x90\xF4");
	set_gpr(&vm, NVMM_X64_GPR_RSP, 4);
	set_base(&vm, NVMM_X64_SEG_SS, RAM_SIZE);
	inject(&vm, NVMM_VCPU_EVENT_INTR, 0x30);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));		/* L-RUN-4 */
	SAME(1, vm.vcpu.exit->exitstate.evt_pending);
	set_base(&vm, NVMM_X64_SEG_SS, 0);
	set_gpr(&vm, NVMM_X64_GPR_RSP, STACK);
	inject(&vm, NVMM_VCPU_EVENT_INTR, 0x31);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INJ-13 */
	SAME(HANDLER(0x31) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(STACK - 6, gpr(&vm, NVMM_X64_GPR_RSP));
	vm_close(&vm);
}

TEST(window_is_disarmed_by_setstate)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4\xFB\x90\xF4");		/* hlt; sti; nop; hlt */
	get_state(&vm, ALL)->intr.int_window_exiting = 1;
	put_state(&vm, NVMM_X64_STATE_INTR);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(1, get_state(&vm, ALL)->intr.int_window_exiting);
	vm.vcpu.state->intr.int_window_exiting = 0;
	put_state(&vm, NVMM_X64_STATE_INTR);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INT-4 */
	SAME(ENTRY + 4, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

TEST(rerun_after_an_exit_takes_it_again)
{
	struct vm vm;

	VM_OPEN(&vm, "\xE6\x80\xF4");
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));
	SAME(NVMM_VCPU_EXIT_IO, run(&vm));		/* K-RUN-13 */
	SAME(ENTRY + 2, vm.vcpu.exit->u.io.npc);
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
	vm_close(&vm);
}

static volatile sig_atomic_t handled;

static void
on_signal(int signo)
{
	(void)signo;
	handled++;
}

TEST(signal_handled_before_run_is_lost)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct vm vm;

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	VM_OPEN(&vm, "\xF4");
	CHECK(raise(SIGUSR1) == 0);
	SAME(1, handled);
	SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	SAME(NVMM_VCPU_EXIT_HALTED, vm.vcpu.exit->reason);	/* L-STOP-5 */
	vm_close(&vm);
}

/* ---- memory ---------------------------------------------------------------------------- */

TEST(nested_hva_map_splits)
{
	struct vm vm;

	VM_OPEN(&vm, "\xA0\x00\x80\xF4");		/* mov al,[0x8000] */
	vm.ram[0x8000] = 0x11;
	SAME(0, nvmm_hva_map(&vm.mach, (uintptr_t)vm.ram + 0x8000, PAGE));
	SAME(0, vm.ram[0x8000]);			/* L-HVA-2a, K-MEM-5 */
	vm.ram[0x8000] = 0x22;
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0x11, gpr(&vm, NVMM_X64_GPR_RAX));		/* the old object */
	vm_close(&vm);
}

TEST(areas_come_before_the_kernel)
{
	struct nvmm_machine mach;
	uint8_t *mem = spare(4 * PAGE);

	CHECK(nvmm_init() == 0 && nvmm_machine_create(&mach) == 0);
	CHECK(nvmm_hva_map(&mach, (uintptr_t)mem, 4 * PAGE) == 0);
	CHECK(nvmm_gpa_map(&mach, (uintptr_t)mem, 0, 4 * PAGE, RWX) == 0);
	/* Each would be an abort if the kernel were asked (L-GPA-1); the
	 * library looks at nothing but the overlap (L-GPA-3). */
	FAILS(EINVAL, nvmm_gpa_map(&mach, (uintptr_t)mem + 1, 0, PAGE, RWX));
	FAILS(EINVAL, nvmm_gpa_map(&mach, (uintptr_t)mem, 0, PAGE, 0x40));
	FAILS(EINVAL, nvmm_gpa_map(&mach, 0, 0x1001, 1, RWX));
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

/* The library keeps areas from overlapping; through another machine's list
 * the kernel is asked about the same guest. */
TEST(kernel_replaces_mappings)
{
	struct nvmm_machine other;
	nvmm_machid_t own;
	struct vm vm;

	VM_OPEN(&vm, "\xA0\x00\x80\xF4");		/* mov al,[0x8000] */
	vm.ram[0x8000] = 0x11;
	vm.ram[0x9000] = 0x22;
	CHECK(nvmm_machine_create(&other) == 0);
	own = other.machid;
	other.machid = vm.mach.machid;
	SAME(0, nvmm_gpa_map(&other, (uintptr_t)vm.ram + 0x9000, 0x8000, PAGE,
	    RWX));					/* K-MEM-16 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0x22, gpr(&vm, NVMM_X64_GPR_RAX));
	other.machid = own;				/* nothing mapped there */
	SAME(0, nvmm_gpa_unmap(&other, (uintptr_t)vm.ram + 0x9000, 0x8000,
	    PAGE));					/* K-MEM-18 */
	CHECK(nvmm_machine_destroy(&other) == 0);
	vm_close(&vm);
}

TEST(configuration_dies_with_the_vcpu)
{
	struct nvmm_vcpu_conf_cpuid c = { .exit = 1, .leaf = 0 };
	struct vm vm;

	VM_OPEN(&vm, "\x0F\xA2\xF4");
	CHECK(nvmm_vcpu_configure(&vm.mach, &vm.vcpu, NVMM_VCPU_CONF_CPUID,
	    &c) == 0);
	SAME(NVMM_VCPU_EXIT_CPUID, run(&vm));
	CHECK(nvmm_vcpu_destroy(&vm.mach, &vm.vcpu) == 0);
	CHECK(nvmm_vcpu_create(&vm.mach, 0, &vm.vcpu) == 0);
	set_base(&vm, NVMM_X64_SEG_CS, 0);
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-VCPU-8 */
	vm_close(&vm);
}

TEST(untouched_memory_needs_no_exit)
{
	uint8_t *more = spare(2 * PAGE);
	struct vm vm;

	/* mov al,[0]; mov [0x1000],al; hlt: DS at fresh memory */
	VM_OPEN(&vm, "\xA0\x00\x00\xA2\x00\x10\xF4");
	CHECK(nvmm_hva_map(&vm.mach, (uintptr_t)more, 2 * PAGE) == 0);
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)more, RAM_SIZE, 2 * PAGE,
	    PROT_READ | PROT_WRITE) == 0);
	set_base(&vm, NVMM_X64_SEG_DS, RAM_SIZE);
	set_gpr(&vm, NVMM_X64_GPR_RAX, 0xFF);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* L-RUN-5, K-MEM-21 */
	SAME(0, gpr(&vm, NVMM_X64_GPR_RAX));
	vm_close(&vm);
}

static void
expect_memory(const char *code, size_t size, int mapped, int prot, uint64_t gpa)
{
	struct vm vm;

	vm_open(&vm, code, size);
	if (mapped >= 0)
		CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram + 0x2000,
		    RAM_SIZE, PAGE, mapped) == 0);
	set_base(&vm, NVMM_X64_SEG_DS, RAM_SIZE);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));
	SAME(prot, vm.vcpu.exit->u.mem.prot);
	SAME(gpa, vm.vcpu.exit->u.mem.gpa);
	SAME(ENTRY, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(0, vm.ram[0x2010]);
	vm_close(&vm);
}
#define EXPECT_MEMORY(code, mapped, prot, gpa)	\
	expect_memory((code), sizeof(code) - 1, (mapped), (prot), (gpa))

TEST(memory_exits)		/* L-GPA-9 */
{
	EXPECT_MEMORY("\xA0\x10\x00", -1, NVMM_PROT_READ, RAM_SIZE + 0x10);	/* K-MEMX-1 */
	EXPECT_MEMORY("\xA2\x10\x00", -1, NVMM_PROT_WRITE, RAM_SIZE + 0x10);	/* K-MEMX-2 */
	EXPECT_MEMORY("\xA2\x10\x00", PROT_READ | PROT_EXEC, NVMM_PROT_WRITE,
	    RAM_SIZE + 0x10);
	EXPECT_MEMORY("\xFE\x06\x10\x00", -1, NVMM_PROT_WRITE, RAM_SIZE + 0x10);	/* K-MEMX-4 */
	EXPECT_MEMORY("\xF0\xFE\x06\x10\x00", PROT_READ, NVMM_PROT_WRITE, RAM_SIZE + 0x10);
}

TEST(fetch_needs_exec)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE, 8 * PAGE,
	    PROT_READ | PROT_WRITE) == 0);
	set_base(&vm, NVMM_X64_SEG_CS, RAM_SIZE);
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));		/* K-MEMX-3 */
	SAME(NVMM_PROT_EXEC, vm.vcpu.exit->u.mem.prot);
	SAME(RAM_SIZE + ENTRY, vm.vcpu.exit->u.mem.gpa);
	vm_close(&vm);
}

TEST(read_only_is_readable_and_executable)
{
	struct vm vm;

	VM_OPEN(&vm, "\xA0\x00\x10\xF4");		/* mov al,[0x1000] */
	CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram, RAM_SIZE, 8 * PAGE,
	    PROT_READ | PROT_EXEC) == 0);
	set_base(&vm, NVMM_X64_SEG_CS, RAM_SIZE);
	set_base(&vm, NVMM_X64_SEG_DS, RAM_SIZE);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-MEMX-8 */
	SAME(0xA0, gpr(&vm, NVMM_X64_GPR_RAX));
	vm_close(&vm);
}

TEST(failed_walk_gives_the_offset)
{
	struct nvmm_x64_state *st;
	nvmm_prot_t prot = 0x55;
	gpaddr_t gpa = 0x7000;
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	st = get_state(&vm, ALL);
	st->crs[NVMM_X64_CR_CR0] = 0x80000011;
	st->crs[NVMM_X64_CR_CR3] = 0x10000;
	memcpy(vm.ram + 0x10000, &(uint32_t){ 0x11001 }, 4);	/* P, not W, not U */
	FAILS(EFAULT, nvmm_gva_to_gpa(&vm.mach, &vm.vcpu, 0x5123, &gpa, &prot));
	SAME(0x7123, gpa);				/* L-WALK-3 */
	SAME(NVMM_PROT_READ | NVMM_PROT_EXEC, prot);
	st->msrs[NVMM_X64_MSR_EFER] = 0x500;
	prot = 0x55;
	gpa = 0;
	FAILS(EFAULT, nvmm_gva_to_gpa(&vm.mach, &vm.vcpu, 0x5123, &gpa, &prot));
	SAME(0x55, prot);
	vm_close(&vm);
}

/* ---- instructions ----------------------------------------------------------------------- */

static void
expect_ud(const char *code, size_t size)
{
	struct vm vm;

	vm_open(&vm, code, size);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(HANDLER(6) + 1, gpr(&vm, NVMM_X64_GPR_RIP));
	SAME(ENTRY, vm.ram[STACK - 6] | vm.ram[STACK - 5] << 8);
	vm_close(&vm);
}
#define EXPECT_UD(code)	expect_ud((code), sizeof(code) - 1)

TEST(undefined_instructions)
{
	EXPECT_UD("\x66\x0F\x38\x82\x07\xF4");		/* K-INK-11: INVPCID */
	EXPECT_UD("\x0F\x01\xF9\xF4");			/* K-INK-3: RDTSCP */
	EXPECT_UD("\x0F\x33\xF4");			/* K-INK-4: RDPMC */
	EXPECT_UD("\x0F\x01\xD9\xF4");			/* K-INK-5: VMMCALL */
	EXPECT_UD("\x0F\x01\xC1\xF4");
	EXPECT_UD("\x0F\x01\xDD\xF4");
	EXPECT_UD("\x0F\xAA\xF4");
}

TEST(long_mode_by_the_guest_alone)
{
	/* 32-bit code at ENTRY: CR4.PAE, CR3, EFER.LME, CR0.PG, far jump. */
	static const uint8_t code[] = {
		0xB8, 0x20, 0, 0, 0, 0x0F, 0x22, 0xE0,		/* cr4 = 0x20 */
		0xB8, 0, 0, 1, 0, 0x0F, 0x22, 0xD8,		/* cr3 = 0x10000 */
		0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32,		/* rdmsr efer */
		0x0D, 0, 1, 0, 0, 0x0F, 0x30,			/* |= LME */
		0xB8, 0x11, 0, 0, 0x80, 0x0F, 0x22, 0xC0,	/* cr0 = PG|ET|PE */
		0xEA, 0x2D, 0x10, 0, 0, 0x08, 0,		/* jmp 8:0x102d */
		0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8, 0xF4	/* mov rax,imm64 */
	};
	static const uint64_t gdt[2] = { 0, UINT64_C(0x00209A0000000000) };
	struct nvmm_x64_state *st;
	struct vm vm;

	vm_open(&vm, code, sizeof(code));
	memcpy(vm.ram + 0x3000, gdt, sizeof(gdt));
	memcpy(vm.ram + 0x10000, &(uint64_t){ 0x11003 }, 8);
	memcpy(vm.ram + 0x11000, &(uint64_t){ 0x12003 }, 8);
	memcpy(vm.ram + 0x12000, &(uint64_t){ 0x83 }, 8);
	st = get_state(&vm, ALL);
	st->crs[NVMM_X64_CR_CR0] = 0x11;
	st->segs[NVMM_X64_SEG_CS].attrib.def = 1;
	st->segs[NVMM_X64_SEG_CS].attrib.g = 1;
	st->segs[NVMM_X64_SEG_CS].limit = UINT32_MAX;
	st->segs[NVMM_X64_SEG_CS].selector = 8;
	st->segs[NVMM_X64_SEG_GDT].base = 0x3000;
	st->segs[NVMM_X64_SEG_GDT].limit = sizeof(gdt) - 1;
	st->segs[NVMM_X64_SEG_TR].attrib.type = 11;
	put_state(&vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));		/* K-INK-10 */
	SAME(UINT64_C(0x0807060504030201), gpr(&vm, NVMM_X64_GPR_RAX));
	SAME(0x500, get_state(&vm, ALL)->msrs[NVMM_X64_MSR_EFER]);
	SAME(1, vm.vcpu.state->segs[NVMM_X64_SEG_CS].attrib.l);
	vm_close(&vm);
}

TEST(hypervisor_leaf_tells_the_clock)
{
	struct vm vm;

	setenv("NVMM_SOFT_PROFILE", "v2-vmx", 1);
	VM_OPEN(&vm, "\x0F\xA2\xF4");
	set_gpr(&vm, NVMM_X64_GPR_RAX, 0x40000010);
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(1000000, gpr(&vm, NVMM_X64_GPR_RAX));	/* K-CPUID-15: kHz */
	SAME(0, gpr(&vm, NVMM_X64_GPR_RBX) | gpr(&vm, NVMM_X64_GPR_RCX) |
	    gpr(&vm, NVMM_X64_GPR_RDX));
	vm_close(&vm);
}

/* ---- threads ------------------------------------------------------------------------------ */

static void *
run_once(void *arg)
{
	struct vm *vm = arg;

	CHECK(nvmm_vcpu_run(&vm->mach, &vm->vcpu) == 0);
	return NULL;
}

TEST(getstate_waits_for_the_run)
{
	pthread_t thread;
	uint64_t seen;
	struct vm vm;

	/* mov byte [0x8000],1; again: inc ebx; jmp again */
	VM_OPEN(&vm, "\xC6\x06\x00\x80\x01\x66\x43\xEB\xFC");
	/* Nothing is cached, so that the getstate below has to ask. */
	SAME(0, nvmm_vcpu_run(&vm.mach, &vm.vcpu));
	SAME(NVMM_VCPU_EXIT_NONE, vm.vcpu.exit->reason);
	__atomic_store_n(&vm.ram[0x8000], 0, __ATOMIC_RELEASE);
	set_gpr(&vm, NVMM_X64_GPR_RIP, ENTRY);
	CHECK(pthread_create(&thread, NULL, run_once, &vm) == 0);
	while (__atomic_load_n(&vm.ram[0x8000], __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	seen = gpr(&vm, NVMM_X64_GPR_RBX);		/* K-VCPU-7 */
	CHECK(pthread_join(thread, NULL) == 0);
	comm(&vm)->state_cached = 0;
	SAME(gpr(&vm, NVMM_X64_GPR_RBX), seen);
	vm_close(&vm);
}
