/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * For the test programs here: TEST(name) { ... }, CHECK, and a small machine.
 * A program runs the one test that its argument names.  vm.h goes first in
 * a file, after what the file defines for nvmm.h.
 */
#ifndef VM_H
#define VM_H

#include <errno.h>
#include <nvmm.h>
#include <pthread.h>
#include <signal.h>
#include <softnvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct test {
	const char *name;
	void (*run)(void);
	struct test *next;
};
static struct test *tests;

#define TEST(n)								\
	static void test_##n(void);					\
	static struct test entry_##n = { #n, test_##n, NULL };		\
	__attribute__((constructor)) static void add_##n(void)		\
	{								\
		entry_##n.next = tests;					\
		tests = &entry_##n;					\
	}								\
	static void test_##n(void)

#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__,	\
		    __LINE__, #cond, errno);				\
		exit(1);						\
	}								\
} while (0)

/* want == got, both shown in hexadecimal when not. */
#define SAME(want, got) do {						\
	unsigned long long want_ = (unsigned long long)(want);		\
	unsigned long long got_ = (unsigned long long)(got);		\
	if (want_ != got_) {						\
		fprintf(stderr, "%s:%d: %s is %#llx, not %#llx\n",	\
		    __FILE__, __LINE__, #got, got_, want_);		\
		exit(1);						\
	}								\
} while (0)

/* The call gives -1 and this errno. */
#define FAILS(number, call) do {					\
	errno = 0;							\
	SAME(-1, (call));						\
	SAME((number), errno);						\
} while (0)

#define RAM_SIZE	0x40000u
#define PAGE		0x1000u
#define ENTRY		0x1000u
#define STACK		0x9000u
#define HANDLER(n)	(0x6000u + 4 * (n))

struct vm {
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	uint8_t *ram;			/* at gpa 0 */
};

/* Pages of the process that nothing uses. */
static inline uint8_t *
spare(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static inline void
put_state(struct vm *vm, uint64_t flags)
{
	CHECK(nvmm_vcpu_setstate(&vm->mach, &vm->vcpu, flags) == 0);
}

static inline struct nvmm_x64_state *
get_state(struct vm *vm, uint64_t flags)
{
	CHECK(nvmm_vcpu_getstate(&vm->mach, &vm->vcpu, flags) == 0);
	return vm->vcpu.state;
}

/* A machine in real mode with 256 KiB of memory, code at ENTRY, and for each
 * vector a handler that halts (HLT; IRET). */
static inline void
vm_open(struct vm *vm, const void *code, size_t size)
{
	struct nvmm_x64_state *st;
	unsigned i;

	memset(vm, 0, sizeof(*vm));
	CHECK(nvmm_init() == 0);
	CHECK(nvmm_machine_create(&vm->mach) == 0);
	CHECK(nvmm_vcpu_create(&vm->mach, 0, &vm->vcpu) == 0);
	vm->ram = spare(RAM_SIZE);
	CHECK(nvmm_hva_map(&vm->mach, (uintptr_t)vm->ram, RAM_SIZE) == 0);
	CHECK(nvmm_gpa_map(&vm->mach, (uintptr_t)vm->ram, 0, RAM_SIZE,
	    PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
	memcpy(vm->ram + ENTRY, code, size);
	for (i = 0; i < 256; i++) {
		memcpy(vm->ram + 4 * i, &(uint16_t){ (uint16_t)HANDLER(i) }, 2);
		memcpy(vm->ram + HANDLER(i), "\xF4\xCF", 2);
	}

	st = get_state(vm, NVMM_X64_STATE_ALL);
	st->segs[NVMM_X64_SEG_CS].selector = 0;
	st->segs[NVMM_X64_SEG_CS].base = 0;
	st->segs[NVMM_X64_SEG_CS].attrib.type = 0xB;
	st->gprs[NVMM_X64_GPR_RIP] = ENTRY;
	st->gprs[NVMM_X64_GPR_RSP] = STACK;
	st->gprs[NVMM_X64_GPR_RDX] = 0;
	put_state(vm, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS);
}
#define VM_OPEN(vm, code)	vm_open((vm), (code), sizeof(code) - 1)

static inline void
vm_close(struct vm *vm)
{
	CHECK(nvmm_vcpu_destroy(&vm->mach, &vm->vcpu) == 0);
	CHECK(nvmm_machine_destroy(&vm->mach) == 0);
	munmap(vm->ram, RAM_SIZE);
}

/* Runs until the guest does something; a kernel may return NONE at any time. */
static inline uint64_t
run(struct vm *vm)
{
	do {
		CHECK(nvmm_vcpu_run(&vm->mach, &vm->vcpu) == 0);
	} while (vm->vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
	return vm->vcpu.exit->reason;
}

static inline uint64_t
gpr(struct vm *vm, unsigned index)
{
	return get_state(vm, NVMM_X64_STATE_GPRS)->gprs[index];
}

static inline void
set_gpr(struct vm *vm, unsigned index, uint64_t value)
{
	get_state(vm, NVMM_X64_STATE_GPRS)->gprs[index] = value;
	put_state(vm, NVMM_X64_STATE_GPRS);
}

int
main(int argc, char **argv)
{
	struct test *t;

	for (t = tests; argc == 2 && t != NULL; t = t->next) {
		if (strcmp(t->name, argv[1]) == 0) {
			t->run();
			return 0;
		}
	}
	fprintf(stderr, "which test?\n");
	return 2;
}

#endif /* VM_H */
