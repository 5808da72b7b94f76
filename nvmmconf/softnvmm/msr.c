/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * RDMSR and WRMSR that leave the processor: the few that the kernel answers,
 * and the exits for all others (spec kernel 10.1).
 */
#include <string.h>

#include "internal.h"

#define MSR_TSC		0x10u

static const struct soft_msr *
lookup(const struct soft_msr *table, uint32_t msr)
{
	for (; table->msr != 0; table++) {
		if (table->msr == msr)
			return table;
	}
	return NULL;
}

bool
soft_exit_rdmsr(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e, const struct soft_msr *table)
{
	const struct soft_msr *row = lookup(table, ce->msr);
	uint64_t upper;
	unsigned half;

	if (row != NULL && row->read &&
	    !(row->msr == 0x8B && SOFT_FAULT(v->model, SOFT_F_MSR_8B))) {
		upper = SOFT_FAULT(v->model, SOFT_F_RDMSR_UPPER) ?
		    v->cpu.gpr[CPU_RAX] & ~(uint64_t)UINT32_MAX : 0;
		half = SOFT_FAULT(v->model, SOFT_F_RDMSR_HALVES) ? 32 : 0;
		v->cpu.gpr[CPU_RAX] = (uint32_t)(row->value >> half) | upper;
		v->cpu.gpr[CPU_RDX] = (uint32_t)(row->value >> (32 - half));
		cpu_advance(&v->cpu, ce->next_rip);
		return false;
	}
	e->reason = NVMM_VCPU_EXIT_RDMSR;
	memset(&e->u, 0, sizeof(e->u));
	e->u.rdmsr.msr = ce->msr;
	e->u.rdmsr.npc = SOFT_FAULT(v->model, SOFT_F_RDMSR_NPC) ? 0 :
	    ce->next_rip;
	soft_state_provide(v, NVMM_X64_STATE_GPRS);	/* K-COMM-7 */
	return true;
}

bool
soft_exit_wrmsr(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e, const struct soft_msr *table)
{
	const struct soft_msr *row = lookup(table, ce->msr);
	uint64_t value = (v->cpu.gpr[CPU_RDX] << 32) |
	    (uint32_t)v->cpu.gpr[CPU_RAX];

	if (ce->msr == MSR_TSC &&			/* K-MSR-4 */
	    !SOFT_FAULT(v->model, SOFT_F_MSR_TSC))
		soft_tsc_set(v, value);
	if (ce->msr == MSR_TSC || (row != NULL && row->write)) {
		cpu_advance(&v->cpu, ce->next_rip);
		return false;
	}
	e->reason = NVMM_VCPU_EXIT_WRMSR;
	memset(&e->u, 0, sizeof(e->u));
	e->u.wrmsr.msr = ce->msr;
	e->u.wrmsr.val = SOFT_FAULT(v->model, SOFT_F_WRMSR_VAL) ?
	    (uint32_t)value : value;
	e->u.wrmsr.npc = SOFT_FAULT(v->model, SOFT_F_WRMSR_NPC) ?
	    v->cpu.rip : ce->next_rip;
	soft_state_provide(v, NVMM_X64_STATE_GPRS);
	return true;
}
