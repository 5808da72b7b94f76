/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * A machine around one processor, for the tests: some memory, page rights, and
 * registers by name, so that Python needs no structure layouts.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#define PAGES	1024u

struct driver {
	struct cpu cpu;
	struct cpu_exit exit;
	struct cpu_bus bus;
	uint64_t tsc;
	int kick;
	uint8_t rights[PAGES];
	uint8_t *memory;
};

struct name {
	const char *name;
	size_t offset;
	unsigned size;
};

#define FIELD(n, f)	{ n, offsetof(struct driver, f), sizeof(((struct driver *)0)->f) }
#define FX(n, at, size)	{ n, offsetof(struct driver, cpu.fxsave) + (at), (size) }
#define SEG(n, f)							\
	FIELD(n ".selector", f.selector), FIELD(n ".type", f.type),	\
	FIELD(n ".dpl", f.dpl), FIELD(n ".s", f.s), FIELD(n ".p", f.p),	\
	FIELD(n ".l", f.l), FIELD(n ".db", f.db), FIELD(n ".g", f.g),	\
	FIELD(n ".limit", f.limit), FIELD(n ".base", f.base)

static const struct name names[] = {
	FIELD("rax", cpu.gpr[0]), FIELD("rcx", cpu.gpr[1]), FIELD("rdx", cpu.gpr[2]),
	FIELD("rbx", cpu.gpr[3]), FIELD("rsp", cpu.gpr[4]), FIELD("rbp", cpu.gpr[5]),
	FIELD("rsi", cpu.gpr[6]), FIELD("rdi", cpu.gpr[7]), FIELD("r8", cpu.gpr[8]),
	FIELD("r9", cpu.gpr[9]), FIELD("r10", cpu.gpr[10]), FIELD("r11", cpu.gpr[11]),
	FIELD("r12", cpu.gpr[12]), FIELD("r13", cpu.gpr[13]), FIELD("r14", cpu.gpr[14]),
	FIELD("r15", cpu.gpr[15]),
	FIELD("rip", cpu.rip), FIELD("rflags", cpu.rflags),
	FIELD("cr0", cpu.cr0), FIELD("cr2", cpu.cr2), FIELD("cr3", cpu.cr3),
	FIELD("cr4", cpu.cr4), FIELD("cr8", cpu.cr8), FIELD("efer", cpu.efer),
	FIELD("dr0", cpu.dr[0]), FIELD("dr1", cpu.dr[1]),
	FIELD("dr6", cpu.dr6), FIELD("dr7", cpu.dr7), FIELD("star", cpu.star),
	FIELD("cstar", cpu.cstar),
	FIELD("sysenter_cs", cpu.sysenter_cs), FIELD("sysenter_esp", cpu.sysenter_esp),
	FIELD("sysenter_eip", cpu.sysenter_eip),
	FIELD("lstar", cpu.lstar), FIELD("sfmask", cpu.sfmask), FIELD("pat", cpu.pat),
	SEG("es", cpu.seg[0]), SEG("cs", cpu.seg[1]), SEG("ss", cpu.seg[2]),
	SEG("ds", cpu.seg[3]), SEG("fs", cpu.seg[4]), SEG("gs", cpu.seg[5]),
	SEG("gdtr", cpu.gdtr), SEG("idtr", cpu.idtr), SEG("ldtr", cpu.ldtr), SEG("tr", cpu.tr),
	FIELD("vendor", cpu.vendor),
	FIELD("int_shadow", cpu.int_shadow), FIELD("nmi_blocked", cpu.nmi_blocked),
	FIELD("inject.type", cpu.inject.type), FIELD("inject.vector", cpu.inject.vector),
	FIELD("inject.has_error", cpu.inject.has_error),
	FIELD("inject.error", cpu.inject.error),
	FIELD("intercepts", cpu.intercepts), FIELD("unimplemented", cpu.unimplemented),
	FIELD("unimplemented_len", cpu.unimplemented_len),
	FIELD("xcr0", cpu.xcr0), FX("fcw", 0, 2), FX("fsw", 2, 2), FX("ftw", 4, 1),
	FX("fop", 6, 2), FX("fip", 8, 8), FX("fdp", 16, 8), FX("mxcsr", 24, 4),
	FX("st0", 32, 8), FX("xmm0", 160, 8), FX("xmm0.high", 168, 8),
	FIELD("tsc", tsc), FIELD("kick", kick),
	FIELD("exit.reason", exit.reason), FIELD("exit.next_rip", exit.next_rip),
	FIELD("exit.event_interrupted", exit.event_interrupted),
	FIELD("exit.interrupted.type", exit.interrupted.type),
	FIELD("exit.interrupted.vector", exit.interrupted.vector),
	FIELD("exit.interrupted.has_error", exit.interrupted.has_error),
	FIELD("exit.interrupted.error", exit.interrupted.error),
	FIELD("exit.io.in", exit.io.in), FIELD("exit.io.str", exit.io.str),
	FIELD("exit.io.rep", exit.io.rep), FIELD("exit.io.port", exit.io.port),
	FIELD("exit.io.seg", exit.io.seg), FIELD("exit.io.address_size", exit.io.address_size),
	FIELD("exit.io.operand_size", exit.io.operand_size),
	FIELD("exit.memory.gpa", exit.memory.gpa), FIELD("exit.memory.access", exit.memory.access),
	FIELD("exit.memory.inst_len", exit.memory.inst_len), FIELD("exit.msr", exit.msr),
};

static uint8_t *
page(void *arg, uint64_t gpa, uint32_t *access)
{
	struct driver *d = arg;

	if (gpa >= PAGES * UINT64_C(4096) || d->rights[gpa >> 12] == 0)
		return NULL;
	*access = d->rights[gpa >> 12];
	return d->memory + gpa;
}

static uint64_t
tsc(void *arg)
{
	return ((struct driver *)arg)->tsc;
}

struct driver *
driver_new(void)
{
	struct driver *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->memory = calloc(PAGES, 4096);
	if (d->memory == NULL) {
		free(d);
		return NULL;
	}
	memset(d->rights, CPU_ACCESS_READ | CPU_ACCESS_WRITE | CPU_ACCESS_EXEC, PAGES);
	d->bus = (struct cpu_bus){ .page = page, .tsc = tsc };
	d->cpu.bus = &d->bus;
	d->cpu.bus_arg = d;
	d->cpu.kick = &d->kick;
	cpu_reset(&d->cpu);
	return d;
}

void
driver_free(struct driver *d)
{
	free(d->memory);
	free(d);
}

uint8_t *
driver_memory(struct driver *d)
{
	return d->memory;
}

void
driver_rights(struct driver *d, uint64_t gpa, unsigned rights)
{
	d->rights[gpa >> 12] = (uint8_t)rights;
	cpu_memory_changed(&d->cpu);
}

static const struct name *
lookup(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].name, name) == 0)
			return &names[i];
	return NULL;
}

/* 0 if there is no such name. */
int
driver_get(struct driver *d, const char *name, uint64_t *value)
{
	const struct name *n = lookup(name);

	if (n == NULL)
		return 0;
	*value = 0;
	memcpy(value, (uint8_t *)d + n->offset, n->size);
	return 1;
}

int
driver_set(struct driver *d, const char *name, uint64_t value)
{
	const struct name *n = lookup(name);

	if (n == NULL)
		return 0;
	memcpy((uint8_t *)d + n->offset, &value, n->size);
	return 1;
}

const uint8_t *
driver_inst_bytes(struct driver *d)
{
	return d->exit.memory.inst_bytes;
}

int
driver_run(struct driver *d, uint64_t budget)
{
	return cpu_run(&d->cpu, budget, &d->exit);
}

void
driver_advance(struct driver *d)
{
	cpu_advance(&d->cpu, d->exit.next_rip);
}

void
driver_cpuid(unsigned vendor, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	cpu_cpuid((enum cpu_vendor)vendor, leaf, subleaf, out);
}
