/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Exits that both backends build alike: spec kernel 10 and 11.
 */
#include <string.h>

#include "internal.h"

#define PROVIDED_IO_MEMORY	(NVMM_X64_STATE_GPRS | NVMM_X64_STATE_SEGS | \
				 NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS)

void
soft_exit_hlt(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	if (!SOFT_FAULT(v->model, SOFT_F_HLT_RIP))
		cpu_advance(&v->cpu, ce->next_rip);	/* K-HLT-1, K-HLT-2 */
	if (v->cpu.rflags & SOFT_RFLAGS_IF)		/* K-HLT-3, K-HLT-4 */
		v->cpu.intercepts &= ~CPU_INTERCEPT_INT_WINDOW;
	e->reason = NVMM_VCPU_EXIT_HALTED;
}

void
soft_exit_shutdown(struct soft_vcpu *v, struct nvmm_vcpu_exit *e)
{
	e->reason = SOFT_FAULT(v->model, SOFT_F_SHUTDOWN_HALTED) ?
	    NVMM_VCPU_EXIT_HALTED : NVMM_VCPU_EXIT_SHUTDOWN;
}

void
soft_exit_io(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	e->reason = NVMM_VCPU_EXIT_IO;
	memset(&e->u, 0, sizeof(e->u));
	e->u.io.in = ce->io.in;
	e->u.io.port = ce->io.port;
	/* Measured on SVM: the field is 0 when no string is involved. */
	e->u.io.seg = ce->io.str ? (int8_t)ce->io.seg : 0;
	e->u.io.address_size = ce->io.address_size;
	e->u.io.operand_size = ce->io.operand_size;
	e->u.io.rep = ce->io.rep;
	e->u.io.str = ce->io.str;
	e->u.io.npc = ce->next_rip +
	    (SOFT_FAULT(v->model, SOFT_F_IO_NPC) ? 1 : 0);
	soft_state_provide(v, PROVIDED_IO_MEMORY);	/* K-COMM-6 */
}

void
soft_exit_memory(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	e->reason = NVMM_VCPU_EXIT_MEMORY;
	memset(&e->u, 0, sizeof(e->u));
	/* One bit, the strongest (kernel spec 3.5). */
	e->u.mem.prot =
	    (ce->memory.access & CPU_ACCESS_WRITE) ? NVMM_PROT_WRITE :
	    (ce->memory.access & CPU_ACCESS_EXEC) ? NVMM_PROT_EXEC :
	    NVMM_PROT_READ;
	e->u.mem.gpa = ce->memory.gpa;
	e->u.mem.inst_len = ce->memory.inst_len;
	memcpy(e->u.mem.inst_bytes, ce->memory.inst_bytes,
	    sizeof(e->u.mem.inst_bytes));
	soft_state_provide(v, PROVIDED_IO_MEMORY);
}

void
soft_exit_insn(struct nvmm_vcpu_exit *e, uint64_t reason, uint64_t npc)
{
	e->reason = reason;
	memset(&e->u, 0, sizeof(e->u));
	e->u.insn.npc = npc;
}

void
soft_exit_invalid(struct nvmm_vcpu_exit *e, uint64_t hwcode)
{
	e->reason = NVMM_VCPU_EXIT_INVALID;
	memset(&e->u, 0, sizeof(e->u));
	e->u.inv.hwcode = hwcode;
}

/* K-INK-1, K-INK-2. */
void
soft_exit_xsetbv(struct soft_vcpu *v, const struct cpu_exit *ce)
{
	uint64_t value = (v->cpu.gpr[CPU_RDX] << 32) |
	    (uint32_t)v->cpu.gpr[CPU_RAX];

	if (v->cpu.gpr[CPU_RCX] != 0 || cpu_cpl(&v->cpu) != 0 ||
	    (value & ~SOFT_XCR0_MASK) != 0 || (value & 1) == 0) {
		soft_inject_gp(v);
		return;
	}
	v->cpu.xcr0 = value;
	cpu_advance(&v->cpu, ce->next_rip);
}
