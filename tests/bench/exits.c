/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What an exit costs through the C API, in turns with a system call and, where
 * there is one, with KVM's own exit; and what a machine's whole life costs.
 * Prints "name nanoseconds" lines, medians; the ratio's range is over rounds.
 */
#include <fcntl.h>
#include <nvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/kvm.h>
#endif

#define ROUNDS		31
#define EXITS		5000
#define LIVES		501
#define RAM_SIZE	0x100000u

#define MUST(cond) do {							\
	if (!(cond)) {							\
		perror(#cond);						\
		exit(1);						\
	}								\
} while (0)

/* out 0x80,al; jmp back: at 0:0 */
static const uint8_t storm[] = { 0xE6, 0x80, 0xEB, 0xFC };

static uint64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

/* ---- NVMM ------------------------------------------------------------------------- */

static struct nvmm_machine mach;
static struct nvmm_vcpu vcpu;
static unsigned called;

static void
on_io(struct nvmm_io *io)
{
	called += io->size;
}

static void
on_mem(struct nvmm_mem *mem)
{
	(void)mem;
}

static void
nvmm_start(void *ram, const uint8_t *code, size_t size)
{
	struct nvmm_assist_callbacks cbs = { on_io, on_mem };

	MUST(nvmm_machine_create(&mach) == 0);
	MUST(nvmm_vcpu_create(&mach, 0, &vcpu) == 0);
	MUST(nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_CALLBACKS,
	    &cbs) == 0);
	MUST(nvmm_hva_map(&mach, (uintptr_t)ram, RAM_SIZE) == 0);
	MUST(nvmm_gpa_map(&mach, (uintptr_t)ram, 0, RAM_SIZE,
	    PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
	memcpy(ram, code, size);
	vcpu.state->segs[NVMM_X64_SEG_CS].selector = 0;
	vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
	vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0;
	MUST(nvmm_vcpu_setstate(&mach, &vcpu, NVMM_X64_STATE_SEGS |
	    NVMM_X64_STATE_GPRS) == 0);
}

static void
nvmm_end(void *ram)
{
	MUST(nvmm_gpa_unmap(&mach, (uintptr_t)ram, 0, RAM_SIZE) == 0);
	MUST(nvmm_hva_unmap(&mach, (uintptr_t)ram, RAM_SIZE) == 0);
	MUST(nvmm_vcpu_destroy(&mach, &vcpu) == 0);
	MUST(nvmm_machine_destroy(&mach) == 0);
}

static void
nvmm_exits(void)
{
	unsigned before = called;

	while (called - before < EXITS) {
		MUST(nvmm_vcpu_run(&mach, &vcpu) == 0);
		if (vcpu.exit->reason == NVMM_VCPU_EXIT_IO)
			MUST(nvmm_assist_io(&mach, &vcpu) == 0);
	}
}

static void *
fresh(void)
{
	void *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(ram != MAP_FAILED);
	return ram;
}

static double
one_life(void)
{
	static const uint8_t hlt[] = { 0xF4 };
	void *ram = fresh();
	uint64_t start = now();

	nvmm_start(ram, hlt, sizeof(hlt));
	do {
		MUST(nvmm_vcpu_run(&mach, &vcpu) == 0);
	} while (vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
	MUST(vcpu.exit->reason == NVMM_VCPU_EXIT_HALTED);
	nvmm_end(ram);
	return (double)(now() - start);
}

/* ---- a system call, KVM ------------------------------------------------------------ */

static void
system_calls(void)
{
	unsigned i;

	for (i = 0; i < EXITS; i++)
		syscall(SYS_getppid);
}

#ifdef __linux__
static int kvm_vcpu = -1;
static struct kvm_run *kvm_page;

/* 0, or why not. */
static const char *
kvm_start(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = 0x1000 };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, size;
	void *ram = fresh();

	if (kvm == -1)
		return "cannot open /dev/kvm";
	memcpy(ram, storm, sizeof(storm));
	region.userspace_addr = (uintptr_t)ram;
	if ((vm = ioctl(kvm, KVM_CREATE_VM, 0)) == -1 ||
	    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == -1 ||
	    (kvm_vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) == -1 ||
	    (size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)) == -1)
		return "cannot make a machine";
	kvm_page = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    kvm_vcpu, 0);
	if (kvm_page == MAP_FAILED ||
	    ioctl(kvm_vcpu, KVM_GET_SREGS, &sregs) == -1)
		return "cannot reach the vCPU";
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	if (ioctl(kvm_vcpu, KVM_SET_SREGS, &sregs) == -1 ||
	    ioctl(kvm_vcpu, KVM_SET_REGS, &regs) == -1 ||
	    ioctl(kvm_vcpu, KVM_RUN, 0) == -1 ||
	    kvm_page->exit_reason != KVM_EXIT_IO)
		return "it does not run a guest";
	return NULL;
}

static void
kvm_exits(void)
{
	unsigned i;

	for (i = 0; i < EXITS; i++) {
		MUST(ioctl(kvm_vcpu, KVM_RUN, 0) == 0);
		MUST(kvm_page->exit_reason == KVM_EXIT_IO);
		called += kvm_page->io.size;
	}
}
#else
static const char *
kvm_start(void)
{
	return "not Linux";
}

static void
kvm_exits(void)
{
}
#endif

/* ---- in turns --------------------------------------------------------------------------- */

static double
each(void (*act)(void))
{
	uint64_t start = now();

	act();
	return (double)(now() - start) / EXITS;
}

int
main(void)
{
	static double pio[ROUNDS], getppid_[ROUNDS], kvm[ROUNDS], life[LIVES];
	const char *no_kvm;
	void *ram = fresh();
	size_t i;

	MUST(nvmm_init() == 0);
	for (i = 0; i < LIVES; i++)
		life[i] = one_life();
	nvmm_start(ram, storm, sizeof(storm));
	no_kvm = kvm_start();
	for (i = 0; i < ROUNDS; i++) {
		pio[i] = each(nvmm_exits);
		getppid_[i] = each(system_calls);
		if (no_kvm == NULL)
			kvm[i] = each(kvm_exits);
	}
	nvmm_end(ram);
	printf("pio %.0f\ngetppid %.0f\n", median(pio, ROUNDS),
	    median(getppid_, ROUNDS));
	if (no_kvm == NULL)
		printf("kvm %.0f\n", median(kvm, ROUNDS));
	else
		printf("no-kvm %s\n", no_kvm);
	printf("life %.0f\n", median(life, LIVES));
	return 0;
}
