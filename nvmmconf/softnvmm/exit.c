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
	bool shadow = v->cpu.int_shadow;

	if (!SOFT_FAULT(v->model, SOFT_F_HLT_RIP))
		cpu_advance(&v->cpu, ce->next_rip);	/* K-HLT-1, K-HLT-2 */
	if (SOFT_FAULT(v->model, SOFT_F_HLT_SHADOW))
		v->cpu.int_shadow = shadow;
	if ((v->cpu.rflags & SOFT_RFLAGS_IF) &&		/* K-HLT-3, K-HLT-4 */
	    !SOFT_FAULT(v->model, SOFT_F_HLT_WINDOW))
		v->cpu.intercepts &= ~CPU_INTERCEPT_INT_WINDOW;
	e->reason = NVMM_VCPU_EXIT_HALTED;
}

void
soft_exit_shutdown(struct soft_vcpu *v, struct nvmm_vcpu_exit *e)
{
	e->reason = SOFT_FAULT(v->model, SOFT_F_SHUTDOWN_HALTED) ?
	    NVMM_VCPU_EXIT_HALTED : NVMM_VCPU_EXIT_SHUTDOWN;
}

static void
provide(struct soft_vcpu *v)			/* K-COMM-6 */
{
	if (!SOFT_FAULT(v->model, SOFT_F_PROVIDE))
		soft_state_provide(v, PROVIDED_IO_MEMORY);
}

void
soft_exit_io(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	e->reason = NVMM_VCPU_EXIT_IO;
	memset(&e->u, 0, sizeof(e->u));
	e->u.io.in = ce->io.in != SOFT_FAULT(v->model, SOFT_F_IO_IN);
	e->u.io.port = ce->io.port;
	/* Measured: 0 when no string is involved. */
	e->u.io.seg = ce->io.str ? (int8_t)ce->io.seg : 0;
	if (SOFT_QUIRK(v->model, SOFT_Q_NO_DECODE_ASSISTS))
		e->u.io.seg = -1;			/* K-IO-4 */
	/* VMX knows it for strings only; measured: 2 otherwise. */
	e->u.io.address_size = v->model->profile->vendor->intel &&
	    !ce->io.str ? 2 : ce->io.address_size;
	e->u.io.operand_size = SOFT_FAULT(v->model, SOFT_F_IO_SIZE) ? 1 :
	    ce->io.operand_size;
	if (SOFT_FAULT(v->model, SOFT_F_IO_SEG))
		e->u.io.seg = NVMM_X64_SEG_ES;
	if (SOFT_FAULT(v->model, SOFT_F_IO_ADDRESS))
		e->u.io.address_size = 8;
	e->u.io.rep = ce->io.rep && !SOFT_FAULT(v->model, SOFT_F_IO_REP);
	e->u.io.str = ce->io.str;
	e->u.io.npc = ce->next_rip +
	    (SOFT_FAULT(v->model, SOFT_F_IO_NPC) ? 1 : 0);
	provide(v);
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
	/* Not on VMX (K-MEMX-6), nor for what an event's delivery met. */
	if (!v->model->profile->vendor->intel && !ce->event_interrupted &&
	    !SOFT_QUIRK(v->model, SOFT_Q_NO_DECODE_ASSISTS)) {
		e->u.mem.inst_len = ce->memory.inst_len;
		memcpy(e->u.mem.inst_bytes, ce->memory.inst_bytes,
		    sizeof(e->u.mem.inst_bytes));
	}
	if (SOFT_FAULT(v->model, SOFT_F_MEM_PROT))
		e->u.mem.prot = NVMM_PROT_READ;
	if (SOFT_FAULT(v->model, SOFT_F_MEM_GPA))
		e->u.mem.gpa &= ~SOFT_PAGE_MASK;
	if (SOFT_FAULT(v->model, SOFT_F_MEM_BYTES))
		memset(&e->u.mem.inst_len, 0, 16);
	provide(v);
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
	uint64_t index = SOFT_QUIRK(v->model, SOFT_Q_XSETBV_64BIT) ?
	    v->cpu.gpr[CPU_RCX] : (uint32_t)v->cpu.gpr[CPU_RCX];

	if ((index != 0 || cpu_cpl(&v->cpu) != 0 ||
	    (value & ~SOFT_XCR0_MASK) != 0 || (value & 1) == 0) &&
	    !SOFT_FAULT(v->model, SOFT_F_XSETBV)) {
		soft_inject_gp(v);
		return;
	}
	v->cpu.xcr0 = value;
	cpu_advance(&v->cpu, ce->next_rip);
}

/* An instruction that only changes how the caches stand. */
static bool
exit_invd(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	if (SOFT_QUIRK(v->model, SOFT_Q_INVD_INVALID)) {
		soft_exit_invalid(e, v->model->profile->vendor->intel ?
		    13 : 0x76);				/* K-INV-1 */
		return true;
	}
	cpu_advance(&v->cpu, ce->next_rip);
	return false;
}

bool
soft_exit_common(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e, const struct soft_msr *msrs)
{
	switch (ce->reason) {
	case CPU_EXIT_HLT:
		soft_exit_hlt(v, ce, e);
		return true;
	case CPU_EXIT_IO:
		soft_exit_io(v, ce, e);
		return true;
	case CPU_EXIT_MEMORY:
		soft_exit_memory(v, ce, e);
		return true;
	case CPU_EXIT_SHUTDOWN:
		soft_exit_shutdown(v, e);
		return true;
	case CPU_EXIT_RDMSR:
		return soft_exit_rdmsr(v, ce, e, msrs);
	case CPU_EXIT_WRMSR:
		return soft_exit_wrmsr(v, ce, e, msrs);
	case CPU_EXIT_CPUID:
		return soft_exit_cpuid(v, ce, e);
	case CPU_EXIT_XSETBV:
		soft_exit_xsetbv(v, ce);
		return false;
	case CPU_EXIT_MONITOR:
		soft_exit_insn(e, NVMM_VCPU_EXIT_MONITOR, ce->next_rip);
		return true;
	case CPU_EXIT_MWAIT:
		soft_exit_insn(e, NVMM_VCPU_EXIT_MWAIT, ce->next_rip);
		return true;
	case CPU_EXIT_INVD:
		return exit_invd(v, ce, e);
	case CPU_EXIT_UD:				/* K-INK-3 to K-INK-5 */
		soft_inject_ud(v);
		return false;
	case CPU_EXIT_INT_WINDOW:			/* K-INT-1 */
		if (!SOFT_FAULT(v->model, SOFT_F_WINDOW_STAYS))
			v->cpu.intercepts &= ~CPU_INTERCEPT_INT_WINDOW;
		e->reason = NVMM_VCPU_EXIT_INT_READY;
		return !SOFT_FAULT(v->model, SOFT_F_WINDOW_LOST);
	case CPU_EXIT_IRET:				/* K-NMI-1 to K-NMI-3 */
	case CPU_EXIT_NMI_WINDOW:
		v->cpu.intercepts &=
		    ~(CPU_INTERCEPT_IRET | CPU_INTERCEPT_NMI_WINDOW);
		e->reason = NVMM_VCPU_EXIT_NMI_READY;
		return !SOFT_FAULT(v->model, SOFT_F_NMI_WINDOW);
	case CPU_EXIT_CR8_WRITE:			/* K-TPR-2 */
		e->reason = NVMM_VCPU_EXIT_TPR_CHANGED;
		return !SOFT_FAULT(v->model, SOFT_F_TPR_CHANGED);
	case CPU_EXIT_BAD_STATE:			/* K-SET-21, K-SET-22 */
		soft_exit_invalid(e, v->entry_error);
		return true;
	case CPU_EXIT_CR_WRITE:
	case CPU_EXIT_TASK_SWITCH:
	case CPU_EXIT_BUDGET:
	case CPU_EXIT_KICKED:
		break;
	}
	return false;
}
