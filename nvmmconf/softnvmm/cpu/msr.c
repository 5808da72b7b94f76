/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Model-specific registers that the processor keeps itself (SDM 4).
 */
#include "internal.h"

#define MSR_TSC			0x10u
#define MSR_SYSENTER_CS		0x174u
#define MSR_SYSENTER_ESP	0x175u
#define MSR_SYSENTER_EIP	0x176u
#define MSR_PAT			0x277u
#define MSR_EFER		0xC0000080u
#define MSR_STAR		0xC0000081u
#define MSR_LSTAR		0xC0000082u
#define MSR_CSTAR		0xC0000083u
#define MSR_SFMASK		0xC0000084u
#define MSR_FS_BASE		0xC0000100u
#define MSR_GS_BASE		0xC0000101u
#define MSR_KERNEL_GS_BASE	0xC0000102u

/* The register behind an MSR that is just a number, or NULL. */
static uint64_t *
storage(struct cpu *cpu, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_CS: return &cpu->sysenter_cs;
	case MSR_SYSENTER_ESP: return &cpu->sysenter_esp;
	case MSR_SYSENTER_EIP: return &cpu->sysenter_eip;
	case MSR_PAT: return &cpu->pat;
	case MSR_EFER: return &cpu->efer;
	case MSR_STAR: return &cpu->star;
	case MSR_LSTAR: return &cpu->lstar;
	case MSR_CSTAR: return &cpu->cstar;
	case MSR_SFMASK: return &cpu->sfmask;
	case MSR_FS_BASE: return &cpu->seg[CPU_FS].base;
	case MSR_GS_BASE: return &cpu->seg[CPU_GS].base;
	case MSR_KERNEL_GS_BASE: return &cpu->kernel_gs_base;
	default: return NULL;
	}
}

bool
cpu_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	const uint64_t *reg = storage(cpu, msr);

	if (msr == MSR_TSC)
		*value = cpu->bus->tsc(cpu->bus_arg);
	else if (reg != NULL)
		*value = *reg;
	else
		return false;
	return true;
}

/* LME is fixed while paging is on; LMA is the processor's (SDM 3A 9.8.5). */
static bool
efer_allowed(const struct cpu *cpu, uint64_t value)
{
	if (value & ~(uint64_t)EFER_VALID)
		return false;
	return !(cpu->cr0 & CR0_PG) || ((value ^ cpu->efer) & EFER_LME) == 0;
}

/* Memory types 0, 1, 4, 5, 6, 7 (SDM 3A 11.12.2). */
bool
pat_allowed(uint64_t value)
{
	unsigned i;

	for (i = 0; i < 8; i++, value >>= 8)
		if ((value & 0xFF) > 7 || (value & 0xFF) == 2 || (value & 0xFF) == 3)
			return false;
	return true;
}

bool
cpu_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value)
{
	uint64_t *reg = storage(cpu, msr);

	switch (msr) {
	case MSR_EFER:
		if (!efer_allowed(cpu, value))
			return false;
		value = (value & ~(uint64_t)EFER_LMA) | (cpu->efer & EFER_LMA);
		break;
	case MSR_PAT:
		if (!pat_allowed(value))
			return false;
		break;
	case MSR_SYSENTER_ESP: case MSR_SYSENTER_EIP:
		/* AMD has no 64-bit SYSENTER, hence 32 bits (APM 2, 6.1.2). */
		if (!intel(cpu))
			value = (uint32_t)value;
		/* FALLTHROUGH */
	case MSR_LSTAR: case MSR_CSTAR:
	case MSR_FS_BASE: case MSR_GS_BASE: case MSR_KERNEL_GS_BASE:
		if (!canonical(value))
			return false;
		break;
	case MSR_SFMASK:
		value = (uint32_t)value;
		break;
	default:
		break;
	}
	if (reg == NULL)
		return false;
	*reg = value;
	return true;
}

void
op_rdmsr(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t value;

	x->exit->msr = (uint32_t)cpu->gpr[CPU_RCX];
	if (!cpu_rdmsr(cpu, x->exit->msr, &value))
		leave(x, CPU_EXIT_RDMSR);
	cpu->gpr[CPU_RAX] = (uint32_t)value;
	cpu->gpr[CPU_RDX] = value >> 32;
}

void
op_wrmsr(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	uint64_t value = cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX];

	x->exit->msr = (uint32_t)cpu->gpr[CPU_RCX];
	if (storage(cpu, x->exit->msr) == NULL ||
	    (x->exit->msr == MSR_EFER && (cpu->intercepts & CPU_INTERCEPT_EFER_WRITE)) ||
	    (x->exit->msr == MSR_PAT && (cpu->intercepts & CPU_INTERCEPT_PAT_WRITE)))
		leave(x, CPU_EXIT_WRMSR);
	if (!cpu_wrmsr(cpu, x->exit->msr, value))
		gp0(x);
}
