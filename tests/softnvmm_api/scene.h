/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Scenes for seeded faults: small machines whose every visible effect is
 * printed, so that two runs can be held against each other.
 */
#ifndef SCENE_H
#define SCENE_H

#include "vm.h"

#define CODE(text)	(text), sizeof(text) - 1
#define DEVICE		0x80000u	/* nothing is mapped from here on */
#define ALL		NVMM_X64_STATE_ALL

static uint8_t device[0x1000];
static uint8_t next_in;

static inline void
see(const char *what, uint64_t value)
{
	printf("%s %llx\n", what, (unsigned long long)value);
}

static inline void
see_bytes(const char *what, const void *data, size_t size)
{
	const uint8_t *p = data;

	printf("%s", what);
	for (; size > 0; size--)
		printf(" %02x", *p++);
	printf("\n");
}

static inline void
see_call(const char *what, int ret)
{
	printf("%s %d errno %d\n", what, ret, ret == -1 ? errno : 0);
}

static inline void
scene_io(struct nvmm_io *io)
{
	size_t i;

	see("port", io->port);
	see("in", io->in);
	if (io->in) {
		for (i = 0; i < io->size; i++)
			io->data[i] = ++next_in;
		see("size", io->size);
	} else {
		see_bytes("out", io->data, io->size);
	}
}

static inline void
scene_mem(struct nvmm_mem *mem)
{
	uint8_t *at = &device[mem->gpa & 0xFF0];

	at += mem->gpa & 0xF;
	see("gpa", mem->gpa);
	see("write", mem->write);
	see("size", mem->size);
	if (mem->write)
		memcpy(at, mem->data, mem->size);
	else
		memcpy(mem->data, at, mem->size);
	see_bytes("data", mem->data, mem->size);
}

/* A machine as vm_open() makes it, with callbacks that tell. */
static inline void
scene(struct vm *vm, const char *code, size_t size)
{
	struct nvmm_assist_callbacks cbs = { scene_io, scene_mem };

	vm_open(vm, code, size);
	CHECK(nvmm_vcpu_configure(&vm->mach, &vm->vcpu,
	    NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
	get_state(vm, ALL);
}

static inline void
set_base(struct vm *vm, unsigned seg, uint64_t base)
{
	get_state(vm, ALL)->segs[seg].base = base;
	put_state(vm, NVMM_X64_STATE_SEGS);
}

/* 64-bit mode: the first two MiB mapped to themselves. */
static inline void
long_mode(struct vm *vm)
{
	struct nvmm_x64_state *st = get_state(vm, ALL);

	memcpy(vm->ram + 0x10000, &(uint64_t){ 0x11007 }, 8);
	memcpy(vm->ram + 0x11000, &(uint64_t){ 0x12007 }, 8);
	memcpy(vm->ram + 0x12000, &(uint64_t){ 0x87 }, 8);
	st->crs[NVMM_X64_CR_CR0] = 0x80000031;
	st->crs[NVMM_X64_CR_CR3] = 0x10000;
	st->crs[NVMM_X64_CR_CR4] = 0x20;
	st->msrs[NVMM_X64_MSR_EFER] = 0x500;
	st->segs[NVMM_X64_SEG_CS].attrib.l = 1;
	st->segs[NVMM_X64_SEG_CS].selector = 8;
	st->segs[NVMM_X64_SEG_TR].attrib.type = 11;
	put_state(vm, NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS |
	    NVMM_X64_STATE_SEGS);
}

static inline void
see_state(struct vm *vm)
{
	const struct nvmm_x64_state *st;
	uint64_t sum = 0;
	size_t i;

	see_call("getstate", nvmm_vcpu_getstate(&vm->mach, &vm->vcpu, ALL));
	st = vm->vcpu.state;
	see_bytes("segs", st->segs, sizeof(st->segs));
	see_bytes("gprs", st->gprs, sizeof(st->gprs));
	see_bytes("crs", st->crs, sizeof(st->crs));
	see_bytes("drs", st->drs, sizeof(st->drs));
	see_bytes("msrs", st->msrs, 8 * NVMM_X64_MSR_TSC);
	see_bytes("intr", &st->intr, sizeof(st->intr));
	see_bytes("fpu", &st->fpu, sizeof(st->fpu));
	for (i = 0; i < RAM_SIZE; i++)
		sum = sum * 31 + vm->ram[i];
	see("ram", sum);
}

static inline void
see_exit(struct vm *vm)
{
	const struct nvmm_vcpu_exit *e = vm->vcpu.exit;

	see("reason", e->reason);
	see_bytes("u", &e->u, sizeof(e->u));
	see_bytes("exitstate", &e->exitstate, sizeof(e->exitstate));
	see("cached", vm->mach.pages[vm->vcpu.cpuid]->state_cached);
	see("commit", vm->mach.pages[vm->vcpu.cpuid]->state_commit);
}

/* What an accelerator does about an exit. */
static inline void
handle(struct vm *vm)
{
	struct nvmm_vcpu_exit *e = vm->vcpu.exit;

	switch (e->reason) {
	case NVMM_VCPU_EXIT_IO:
		see_call("assist", nvmm_assist_io(&vm->mach, &vm->vcpu));
		break;
	case NVMM_VCPU_EXIT_MEMORY:
		see_call("assist", nvmm_assist_mem(&vm->mach, &vm->vcpu));
		break;
	case NVMM_VCPU_EXIT_RDMSR:
		set_gpr(vm, NVMM_X64_GPR_RIP, e->u.rdmsr.npc);
		break;
	case NVMM_VCPU_EXIT_WRMSR:
		set_gpr(vm, NVMM_X64_GPR_RIP, e->u.wrmsr.npc);
		break;
	case NVMM_VCPU_EXIT_CPUID:
		set_gpr(vm, NVMM_X64_GPR_RIP, e->u.insn.npc);
		break;
	default:
		break;
	}
}

/* Runs the guest to its next exit and tells everything about it. */
static inline void
run_and_see(struct vm *vm)
{
	unsigned tries = 0;
	int ret;

	do {
		ret = nvmm_vcpu_run(&vm->mach, &vm->vcpu);
		see_call("run", ret);
	} while (ret == 0 && vm->vcpu.exit->reason == NVMM_VCPU_EXIT_NONE &&
	    ++tries < 3);
	see_exit(vm);
}

static inline void
play(struct vm *vm, unsigned exits)
{
	for (; exits > 0; exits--) {
		run_and_see(vm);
		handle(vm);
		see_state(vm);
	}
	vm_close(vm);
}

#endif /* SCENE_H */
