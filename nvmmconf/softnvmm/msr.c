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

	if (row != NULL && row->read) {
		v->cpu.gpr[CPU_RAX] = (uint32_t)row->value;
		v->cpu.gpr[CPU_RDX] = row->value >> 32;
		cpu_advance(&v->cpu, ce->next_rip);
		return false;
	}
	e->reason = NVMM_VCPU_EXIT_RDMSR;
	memset(&e->u, 0, sizeof(e->u));
	e->u.rdmsr.msr = ce->msr;
	e->u.rdmsr.npc = ce->next_rip;
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

	if (ce->msr == MSR_TSC)				/* K-MSR-4 */
		soft_tsc_set(v, value);
	if (ce->msr == MSR_TSC || (row != NULL && row->write)) {
		cpu_advance(&v->cpu, ce->next_rip);
		return false;
	}
	e->reason = NVMM_VCPU_EXIT_WRMSR;
	memset(&e->u, 0, sizeof(e->u));
	e->u.wrmsr.msr = ce->msr;
	e->u.wrmsr.val = value;
	e->u.wrmsr.npc = ce->next_rip;
	soft_state_provide(v, NVMM_X64_STATE_GPRS);
	return true;
}
