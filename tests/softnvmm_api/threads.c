/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * vCPUs of one machine in threads of their own, and what else may happen
 * meanwhile (kernel spec 2.3).  Made for the thread sanitizer.
 */
#include <sched.h>

#include "vm.h"

#define THREADS		4
#define ROUNDS		300

struct worker {
	struct nvmm_machine *mach;
	struct nvmm_vcpu vcpu;
	pthread_t thread;
	unsigned id;
	uint64_t seen;			/* what its OUTs wrote */
};

/* One process-wide table: callbacks know their vCPU. */
static struct worker workers[THREADS];

static void
on_io(struct nvmm_io *io)
{
	workers[io->vcpu->cpuid].seen += io->data[0];
}

static void *
work(void *arg)
{
	struct worker *w = arg;

	do {
		CHECK(nvmm_vcpu_run(w->mach, &w->vcpu) == 0);
		if (w->vcpu.exit->reason == NVMM_VCPU_EXIT_IO)
			CHECK(nvmm_assist_io(w->mach, &w->vcpu) == 0);
	} while (w->vcpu.exit->reason != NVMM_VCPU_EXIT_HALTED);
	return NULL;
}

static void
start(struct vm *vm, struct worker *w, unsigned id, uint64_t rcx)
{
	struct nvmm_assist_callbacks cbs = { .io = on_io };

	memset(w, 0, sizeof(*w));
	w->mach = &vm->mach;
	w->id = id;
	w->vcpu.cpuid = id;
	if (id == 0)
		w->vcpu = vm->vcpu;
	else
		CHECK(nvmm_vcpu_create(&vm->mach, id, &w->vcpu) == 0);
	*w->vcpu.state = *vm->vcpu.state;
	w->vcpu.state->gprs[NVMM_X64_GPR_RCX] = rcx;
	w->vcpu.state->gprs[NVMM_X64_GPR_RAX] = id + 1;
	w->vcpu.state->gprs[NVMM_X64_GPR_RSP] = STACK + 0x1000 * id;
	w->vcpu.state->gprs[NVMM_X64_GPR_RDI] = 0xE000;
	CHECK(nvmm_vcpu_setstate(&vm->mach, &w->vcpu, NVMM_X64_STATE_ALL) == 0);
	CHECK(nvmm_vcpu_configure(&vm->mach, &w->vcpu,
	    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
}

static void
start_all(struct vm *vm, uint64_t rcx)
{
	unsigned i;

	get_state(vm, NVMM_X64_STATE_ALL);
	for (i = 0; i < THREADS; i++)
		start(vm, &workers[i], i, rcx);
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_create(&workers[i].thread, NULL, work,
		    &workers[i]) == 0);
}

static void
join_all(struct vm *vm)
{
	unsigned i;

	for (i = 0; i < THREADS; i++)
		CHECK(pthread_join(workers[i].thread, NULL) == 0);
	for (i = 1; i < THREADS; i++)
		CHECK(nvmm_vcpu_destroy(&vm->mach, &workers[i].vcpu) == 0);
}

TEST(vcpus_side_by_side)
{
	struct vm vm;
	unsigned i;

	/* push ax; out 0x80,al; pop ax; loop; hlt */
	VM_OPEN(&vm, "\x50\xE6\x80\x58\xE2\xFA\xF4");
	start_all(&vm, ROUNDS);
	join_all(&vm);
	for (i = 0; i < THREADS; i++)
		SAME((i + 1) * ROUNDS, workers[i].seen);
	vm_close(&vm);
}

TEST(locked_increments_add_up)
{
	struct vm vm;

	/* lock inc dword [di]; loop; hlt */
	VM_OPEN(&vm, "\x66\xF0\xFF\x05\xE2\xFA\xF4");
	start_all(&vm, 0x4000);
	join_all(&vm);
	SAME(THREADS * 0x4000, vm.ram[0xE000] | vm.ram[0xE001] << 8 |
	    vm.ram[0xE002] << 16);
	vm_close(&vm);
}

TEST(everything_at_once)
{
	struct nvmm_ctl_mach_info info = { 0 };
	struct nvmm_machine other;
	uint8_t *more;
	nvmm_prot_t prot;
	uintptr_t hva;
	struct vm vm;
	unsigned i;

	/* As above; and again to the HLT, for a stop may replace its exit (L-RUN-1). */
	VM_OPEN(&vm, "\x50\xE6\x80\x58\xE2\xFA\xF4\xEB\xFD");
	info.machid = vm.mach.machid;
	start_all(&vm, ROUNDS);
	for (i = 0; i < 40; i++) {
		/* Each time elsewhere: hva_unmap leaves a hole in the process,
		 * and who knows what another thread puts there. */
		more = spare(PAGE);
		CHECK(nvmm_hva_map(&vm.mach, (uintptr_t)more, PAGE) == 0);
		CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)more, 0x80000, PAGE,
		    PROT_READ) == 0);
		CHECK(nvmm_gpa_to_hva(&vm.mach, 0x80010, &hva, &prot) == 0);
		CHECK(nvmm_gpa_unmap(&vm.mach, (uintptr_t)more, 0x80000,
		    PAGE) == 0);
		CHECK(nvmm_hva_unmap(&vm.mach, (uintptr_t)more, PAGE) == 0);
		CHECK(nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)) == 0);
		SAME(THREADS, info.nvcpus);
		CHECK(nvmm_machine_create(&other) == 0);
		CHECK(nvmm_machine_destroy(&other) == 0);
		CHECK(nvmm_vcpu_stop(&workers[i % THREADS].vcpu) == 0);
	}
	join_all(&vm);
	for (i = 0; i < THREADS; i++)
		SAME((i + 1) * ROUNDS, workers[i].seen);
	vm_close(&vm);
}

static void *
lives(void *arg)
{
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	unsigned i;

	(void)arg;
	for (i = 0; i < 100; i++) {
		CHECK(nvmm_init() == 0);
		CHECK(nvmm_machine_create(&mach) == 0);
		CHECK(nvmm_vcpu_create(&mach, i % 256, &vcpu) == 0);
		do {
			CHECK(nvmm_vcpu_run(&mach, &vcpu) == 0);
		} while (vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
		SAME(NVMM_VCPU_EXIT_MEMORY, vcpu.exit->reason);
		CHECK(nvmm_vcpu_destroy(&mach, &vcpu) == 0);
		CHECK(nvmm_machine_destroy(&mach) == 0);
	}
	return NULL;
}

TEST(machines_in_threads)
{
	pthread_t thread[THREADS];
	unsigned i;

	for (i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, lives, NULL) == 0);
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
}

/* ---- turns -------------------------------------------------------------------- */

#define CALLS	20
#define RUNS	400		/* twenty a call; two are enough */

struct spinner {
	struct vm *vm;
	unsigned runs;
	bool done;
};

static void *
spin(void *arg)
{
	struct spinner *s = arg;

	while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE) &&
	    __atomic_load_n(&s->runs, __ATOMIC_ACQUIRE) < RUNS) {
		CHECK(nvmm_vcpu_run(&s->vm->mach, &s->vm->vcpu) == 0);
		SAME(NVMM_VCPU_EXIT_NONE, s->vm->vcpu.exit->reason);
		__atomic_add_fetch(&s->runs, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* One that runs again and again, each time as long as it may, keeps nobody out
 * for long who wants the vCPU too (kernel spec 6: configure waits for the run). */
TEST(who_waits_for_a_vcpu_has_its_turn)
{
	struct nvmm_vcpu_conf_cpuid conf = { .leaf = 5, .exit = 1 };
	pthread_t thread;
	struct vm vm;
	struct spinner s = { .vm = &vm };
	unsigned i, seen;

	VM_OPEN(&vm, "\xEB\xFE");
	CHECK(pthread_create(&thread, NULL, spin, &s) == 0);
	for (i = 0; i < CALLS; i++) {
		/* Not at once after its last turn, or the spinner would wait. */
		seen = __atomic_load_n(&s.runs, __ATOMIC_ACQUIRE);
		while (__atomic_load_n(&s.runs, __ATOMIC_ACQUIRE) == seen &&
		    seen < RUNS)
			sched_yield();
		conf.exit = i % 2;
		SAME(0, nvmm_vcpu_configure(&vm.mach, &vm.vcpu,
		    NVMM_VCPU_CONF_CPUID, &conf));
	}
	__atomic_store_n(&s.done, true, __ATOMIC_RELEASE);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(s.runs < RUNS);
	vm_close(&vm);
}
