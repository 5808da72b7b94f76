/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What a VM entry refuses: SDM 3C, 26.2 (controls: the event to inject) and
 * 26.3 (guest state), for a hypervisor with unrestricted guests and virtual
 * NMIs.  Guest state is looked at when the caller has changed it; what the
 * guest does to itself, the processor has checked.  Feature bits of CR4 and
 * EFER, PAT and DR7 are left to cpu_run().
 */
#include "internal.h"

#define REASON_GUEST_STATE	33

#define RFLAGS_FIXED		UINT64_C(0x2)
#define RFLAGS_ZERO		(~UINT64_C(0x3FFFFF) | UINT64_C(0x8028))
#define RFLAGS_VM		(UINT64_C(1) << 17)

static bool
canonical(uint64_t address)
{
	return address >> 47 == 0 || address >> 47 == 0x1FFFF;
}

/* ---- controls ----------------------------------------------------------------------- */

/* Has this exception of the architecture an error code?  (26.2.1.3) */
static bool
wants_error(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static bool
event_valid(const struct soft_vcpu *v)
{
	const struct cpu_event *event = &v->cpu.inject;

	if (event->type != CPU_EVENT_EXCP || !event->has_error)
		return true;
	return wants_error(event->vector) && event->error >> 16 == 0 &&
	    (v->cpu.cr0 & SOFT_CR0_PE) != 0;
}

/* ---- guest state -------------------------------------------------------------------- */

static bool
limit_valid(const struct cpu_seg *s)
{
	return s->g ? (s->limit & 0xFFF) == 0xFFF : s->limit >> 20 == 0;
}

/* 26.3.1.1 */
static bool
control_registers_valid(const struct soft_vcpu *v)
{
	const struct cpu *cpu = &v->cpu;
	bool pg = (cpu->cr0 & SOFT_CR0_PG) != 0;
	bool lme = (cpu->efer & SOFT_EFER_LME) != 0;
	bool lma = (cpu->efer & SOFT_EFER_LMA) != 0;
	uint32_t leaf[4];

	if (cpu->cr0 >> 32 != 0 || (pg && !(cpu->cr0 & SOFT_CR0_PE)))
		return false;
	if (v->vmx.long_entry && (!pg || !(cpu->cr4 & SOFT_CR4_PAE)))
		return false;
	if (!v->vmx.long_entry && (cpu->cr4 & SOFT_CR4_PCIDE))
		return false;
	if (lma != v->vmx.long_entry || (pg && lma != lme))
		return false;
	soft_host_cpuid(v->model->host, 0x80000008, 0, leaf);
	if ((leaf[0] & 0xFF) < 64 && cpu->cr3 >> (leaf[0] & 0xFF) != 0)
		return false;
	return canonical(cpu->sysenter_esp) && canonical(cpu->sysenter_eip);
}

/* 26.3.1.2, CS */
static bool
code_valid(const struct soft_vcpu *v)
{
	const struct cpu_seg *cs = &v->cpu.seg[CPU_CS];
	unsigned cpl = v->cpu.seg[CPU_SS].dpl;

	if (!cs->p || !cs->s || cs->base >> 32 != 0 || !limit_valid(cs))
		return false;
	if (v->vmx.long_entry && cs->l && cs->db)
		return false;
	switch (cs->type) {
	case 3:				/* unrestricted guest */
		return cs->dpl == 0;
	case 9: case 11:
		return cs->dpl == cpl;
	case 13: case 15:
		return cs->dpl <= cpl;
	default:
		return false;
	}
}

/* SS, DS, ES, FS, GS; P = 0 means unusable, which is never wrong. */
static bool
data_valid(const struct soft_vcpu *v, unsigned n)
{
	const struct cpu_seg *s = &v->cpu.seg[n];

	if (n == CPU_SS && s->dpl != 0 && (v->cpu.seg[CPU_CS].type == 3 ||
	    !(v->cpu.cr0 & SOFT_CR0_PE)))
		return false;
	if (n == CPU_FS || n == CPU_GS ? !canonical(s->base) :
	    s->p && s->base >> 32 != 0)
		return false;
	if (!s->p)
		return true;
	if (!s->s || !limit_valid(s))
		return false;
	if (n == CPU_SS)
		return s->type == 3 || s->type == 7;
	return (s->type & 1) != 0 && ((s->type & 8) == 0 || (s->type & 2) != 0);
}

/* 26.3.1.2, virtual-8086 mode */
static bool
v86_valid(const struct soft_vcpu *v)
{
	const struct cpu_seg *s;
	size_t i;

	for (i = 0; i < CPU_NSEG; i++) {
		s = &v->cpu.seg[i];
		if (s->base != (uint64_t)s->selector << 4 ||
		    s->limit != 0xFFFF || s->type != 3 || !s->s || s->dpl != 3 ||
		    !s->p || s->avl || s->l || s->db || s->g)
			return false;
	}
	return true;
}

static bool
code_and_data_valid(const struct soft_vcpu *v)
{
	static const uint8_t data[] = {
		CPU_SS, CPU_DS, CPU_ES, CPU_FS, CPU_GS
	};
	size_t i;

	if (v->cpu.rflags & RFLAGS_VM)
		return v86_valid(v);
	if (!code_valid(v))
		return false;
	for (i = 0; i < sizeof(data); i++)
		if (!data_valid(v, data[i]))
			return false;
	return true;
}

static bool
segments_valid(const struct soft_vcpu *v)
{
	const struct cpu_seg *tr = &v->cpu.tr, *ldtr = &v->cpu.ldtr;

	if (!code_and_data_valid(v))
		return false;
	if (!tr->p || tr->s || (tr->selector & 4) || !canonical(tr->base) ||
	    !limit_valid(tr) ||
	    (tr->type != 11 && (v->vmx.long_entry || tr->type != 3)))
		return false;
	if (ldtr->p && (ldtr->s || ldtr->type != 2 || (ldtr->selector & 4) ||
	    !canonical(ldtr->base) || !limit_valid(ldtr)))
		return false;
	/* 26.3.1.3 */
	return canonical(v->cpu.gdtr.base) && canonical(v->cpu.idtr.base) &&
	    v->cpu.gdtr.limit >> 16 == 0 && v->cpu.idtr.limit >> 16 == 0;
}

/* 26.3.1.4 */
static bool
rip_rflags_valid(const struct soft_vcpu *v)
{
	const struct cpu *cpu = &v->cpu;
	uint64_t top = cpu->rip >> 48;

	if (v->vmx.long_entry && cpu->seg[CPU_CS].l ?
	    top != 0 && top != 0xFFFF : cpu->rip >> 32 != 0)
		return false;
	if ((cpu->rflags & RFLAGS_ZERO) != 0 || !(cpu->rflags & RFLAGS_FIXED))
		return false;
	return !(cpu->rflags & RFLAGS_VM) ||
	    (!v->vmx.long_entry && (cpu->cr0 & SOFT_CR0_PE));
}

/* 26.3.1.5: what may not be delivered now.  K-INJ-15. */
static bool
event_deliverable(const struct soft_vcpu *v)
{
	const struct cpu *cpu = &v->cpu;

	if (cpu->inject.type == CPU_EVENT_INTR)
		return (cpu->rflags & SOFT_RFLAGS_IF) != 0 && !cpu->int_shadow;
	if (cpu->inject.type == CPU_EVENT_NMI)
		return !v->vmx.mov_ss && !cpu->nmi_blocked;
	return true;
}

static bool
guest_valid(const struct soft_vcpu *v)
{
	const uint64_t structure = NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS |
	    NVMM_X64_STATE_MSRS;

	if (!event_deliverable(v))
		return false;
	if ((v->committed & structure) != 0 &&
	    (!control_registers_valid(v) || !segments_valid(v)))
		return false;
	return v->committed == 0 || rip_rflags_valid(v);
}

bool
soft_vmx_enter(struct soft_vcpu *v, uint64_t *hwcode)
{
	bool stuck = v->vmx.launched && !v->vmx.entered &&
	    SOFT_QUIRK(v->model, SOFT_Q_LAUNCH_FLAG);

	/* The event stays armed, and is seen to be (kernel spec 8.3). */
	if (stuck || !event_valid(v)) {
		*hwcode = UINT64_MAX;
		return false;
	}
	v->vmx.launched = true;
	if (!guest_valid(v)) {
		*hwcode = REASON_GUEST_STATE;
		v->evt_pending = false;
		return false;
	}
	v->committed = 0;
	return true;
}
