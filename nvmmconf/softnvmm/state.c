/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The state that moves between comm page and processor: spec kernel 4
 * (reset) and 5 (what is kept, masked and given back).
 *
 * The functions here are SVM's, which copies nearly everything as it is; a
 * backend that differs in a group puts its own pair into its table.
 */
#include <string.h>

#include "internal.h"

/* ---- reset -------------------------------------------------------------------- */

static void
reset_segment(struct nvmm_x64_state_seg *seg, unsigned type, unsigned s)
{
	seg->limit = 0xFFFF;
	seg->attrib.type = type & 0xF;
	seg->attrib.s = s & 1;
	seg->attrib.p = 1;
}

void
soft_state_reset(const struct soft_model *model, struct nvmm_x64_state *st)
{
	size_t i;

	memset(st, 0, sizeof(*st));
	for (i = NVMM_X64_SEG_ES; i <= NVMM_X64_SEG_GS; i++)
		reset_segment(&st->segs[i], 3, 1);
	st->segs[NVMM_X64_SEG_CS].selector = 0xF000;
	st->segs[NVMM_X64_SEG_CS].base = 0xFFFF0000;
	reset_segment(&st->segs[NVMM_X64_SEG_GDT], 2, 1);
	reset_segment(&st->segs[NVMM_X64_SEG_IDT], 2, 1);
	reset_segment(&st->segs[NVMM_X64_SEG_LDT], 2, 0);
	reset_segment(&st->segs[NVMM_X64_SEG_TR], 3, 0);

	st->gprs[NVMM_X64_GPR_RDX] = 0x600;
	st->gprs[NVMM_X64_GPR_RIP] = 0xFFF0;
	st->gprs[NVMM_X64_GPR_RFLAGS] = 0x2;
	st->crs[NVMM_X64_CR_CR0] = 0x60000010;
	st->crs[NVMM_X64_CR_XCR0] = 0x1;
	st->drs[NVMM_X64_DR_DR6] = 0xFFFF0FF0;
	st->drs[NVMM_X64_DR_DR7] = 0x400;
	st->msrs[NVMM_X64_MSR_PAT] = UINT64_C(0x0007040600070406);

	if (SOFT_FAULT(model, SOFT_F_RESET_RDX))
		st->gprs[NVMM_X64_GPR_RDX] = 0;
	if (SOFT_FAULT(model, SOFT_F_RESET_DR6))
		st->drs[NVMM_X64_DR_DR6] = 0;

	st->fpu.fx_cw = 0x40;
	st->fpu.fx_mxcsr = 0x1F80;
	/* After RESET the tag word is 5555h: all eight registers hold zero.  In
	 * the one bit a register of this format that is FFh (L-VCPU-3a). */
	if (SOFT_QUIRK(model, SOFT_Q_RESET_TAGS)) {
		st->fpu.fx_tw = 0x55;
		st->fpu.fx_zero = 0x55;
	} else {
		st->fpu.fx_tw = 0xFF;
		st->fpu.fx_mxcsr_mask = model->host->mxcsr_mask;
	}
}

/* ---- segments ------------------------------------------------------------------ */

static void
segment_commit(struct cpu_seg *to, const struct nvmm_x64_state_seg *from)
{
	to->selector = from->selector;
	to->type = from->attrib.type;
	to->dpl = from->attrib.dpl;
	to->s = from->attrib.s;
	to->p = from->attrib.p;
	to->avl = from->attrib.avl;
	to->l = from->attrib.l;
	to->db = from->attrib.def;
	to->g = from->attrib.g;
	to->limit = from->limit;
	to->base = from->base;
}

static void
segment_provide(struct nvmm_x64_state_seg *to, const struct cpu_seg *from)
{
	memset(to, 0, sizeof(*to));
	to->selector = from->selector;
	to->attrib.type = from->type & 0xF;
	to->attrib.dpl = from->dpl & 3;
	to->attrib.s = from->s;
	to->attrib.p = from->p;
	to->attrib.avl = from->avl;
	to->attrib.l = from->l;
	to->attrib.def = from->db;
	to->attrib.g = from->g;
	to->limit = from->limit;
	to->base = from->base;
}

/* K-SET-9 comes by itself: the processor's CPL is SS.DPL. */
void
soft_segs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	size_t i;

	for (i = 0; i < CPU_NSEG; i++) {
		segment_commit(&v->cpu.seg[i], &st->segs[i]);
		v->cpu.seg[i].g &= !SOFT_FAULT(v->model, SOFT_F_SEG_G);
		v->cpu.seg[i].avl &= !SOFT_FAULT(v->model, SOFT_F_SEG_AVL);
		if (SOFT_FAULT(v->model, SOFT_F_SEG_LIMIT))
			v->cpu.seg[i].limit &= 0xFFFFF;
	}
	if (SOFT_FAULT(v->model, SOFT_F_CPL_CS))
		v->cpu.seg[CPU_SS].dpl = v->cpu.seg[CPU_CS].dpl;
	segment_commit(&v->cpu.gdtr, &st->segs[NVMM_X64_SEG_GDT]);
	segment_commit(&v->cpu.idtr, &st->segs[NVMM_X64_SEG_IDT]);
	segment_commit(&v->cpu.ldtr, &st->segs[NVMM_X64_SEG_LDT]);
	segment_commit(&v->cpu.tr, &st->segs[NVMM_X64_SEG_TR]);
}

void
soft_segs_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	size_t i;

	for (i = 0; i < CPU_NSEG; i++)
		segment_provide(&st->segs[i], &v->cpu.seg[i]);
	segment_provide(&st->segs[NVMM_X64_SEG_GDT], &v->cpu.gdtr);
	segment_provide(&st->segs[NVMM_X64_SEG_IDT], &v->cpu.idtr);
	segment_provide(&st->segs[NVMM_X64_SEG_LDT], &v->cpu.ldtr);
	segment_provide(&st->segs[NVMM_X64_SEG_TR], &v->cpu.tr);
}

/* ---- registers ------------------------------------------------------------------ */

void
soft_gprs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	memcpy(v->cpu.gpr, st->gprs, sizeof(v->cpu.gpr) -
	    (SOFT_FAULT(v->model, SOFT_F_GPR_R15) ? 8 : 0));
	if (!SOFT_FAULT(v->model, SOFT_F_GPR_RIP))
		v->cpu.rip = st->gprs[NVMM_X64_GPR_RIP];
	v->cpu.rflags = st->gprs[NVMM_X64_GPR_RFLAGS];
}

void
soft_gprs_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	memcpy(st->gprs, v->cpu.gpr, sizeof(v->cpu.gpr));
	st->gprs[NVMM_X64_GPR_RIP] = v->cpu.rip;
	st->gprs[NVMM_X64_GPR_RFLAGS] = v->cpu.rflags;
}

void
soft_crs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	v->cpu.cr0 = st->crs[NVMM_X64_CR_CR0];
	if (!SOFT_FAULT(v->model, SOFT_F_CR2))
		v->cpu.cr2 = st->crs[NVMM_X64_CR_CR2];
	v->cpu.cr3 = st->crs[NVMM_X64_CR_CR3];
	v->cpu.cr4 = st->crs[NVMM_X64_CR_CR4];
	if (!SOFT_FAULT(v->model, SOFT_F_CR4_MASK))
		v->cpu.cr4 &= v->model->profile->cr4_mask;
	/* The driver clears four bits of the virtual TPR's field and ORs the
	 * value over them.  Those above stay there; the guest may see them,
	 * the caller does not.  What they do beyond the field is nothing that
	 * anybody sees. */
	if (SOFT_QUIRK(v->model, SOFT_Q_CR8_SPILL))
		v->cpu.cr8 = ((v->cpu.cr8 & 0xF0) | st->crs[NVMM_X64_CR_CR8]) &
		    0xFF;
	else
		v->cpu.cr8 = st->crs[NVMM_X64_CR_CR8] &
		    (SOFT_FAULT(v->model, SOFT_F_CR8_BITS) ? 0xFF : 0xF);
	v->cpu.xcr0 = (st->crs[NVMM_X64_CR_XCR0] & SOFT_XCR0_MASK) | 1;
	if (SOFT_FAULT(v->model, SOFT_F_XCR0_MASK))
		v->cpu.xcr0 = st->crs[NVMM_X64_CR_XCR0];
}

uint64_t
soft_cr8(const struct soft_vcpu *v)
{
	return SOFT_QUIRK(v->model, SOFT_Q_CR8_WIDE) ||
	    SOFT_FAULT(v->model, SOFT_F_CR8_BITS) ? v->cpu.cr8 :
	    v->cpu.cr8 & 0xF;
}

void
soft_crs_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	st->crs[NVMM_X64_CR_CR0] = v->cpu.cr0;
	st->crs[NVMM_X64_CR_CR2] = v->cpu.cr2;
	st->crs[NVMM_X64_CR_CR3] = v->cpu.cr3;
	st->crs[NVMM_X64_CR_CR4] = v->cpu.cr4;
	st->crs[NVMM_X64_CR_CR8] = soft_cr8(v);
	st->crs[NVMM_X64_CR_XCR0] = v->cpu.xcr0;
}

void
soft_drs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	memcpy(v->cpu.dr, st->drs, sizeof(v->cpu.dr) -
	    (SOFT_FAULT(v->model, SOFT_F_DR3) ? 8 : 0));
	v->cpu.dr6 = st->drs[NVMM_X64_DR_DR6];
	v->cpu.dr7 = st->drs[NVMM_X64_DR_DR7];
}

void
soft_drs_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	memcpy(st->drs, v->cpu.dr, sizeof(v->cpu.dr));
	st->drs[NVMM_X64_DR_DR6] = v->cpu.dr6;
	st->drs[NVMM_X64_DR_DR7] = v->cpu.dr7;
}

void
soft_msrs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	/* SVME is the kernel's own, the guest's is not kept (K-SET-8). */
	v->cpu.efer = st->msrs[NVMM_X64_MSR_EFER] & ~SOFT_EFER_SVME;
	v->cpu.star = st->msrs[NVMM_X64_MSR_STAR];
	v->cpu.lstar = st->msrs[NVMM_X64_MSR_LSTAR];
	v->cpu.cstar = st->msrs[NVMM_X64_MSR_CSTAR];
	v->cpu.sfmask = st->msrs[NVMM_X64_MSR_SFMASK];
	v->cpu.kernel_gs_base = st->msrs[NVMM_X64_MSR_KERNELGSBASE];
	v->cpu.sysenter_cs = st->msrs[NVMM_X64_MSR_SYSENTER_CS];
	v->cpu.sysenter_esp = st->msrs[NVMM_X64_MSR_SYSENTER_ESP];
	v->cpu.sysenter_eip = st->msrs[NVMM_X64_MSR_SYSENTER_EIP];
	if (!SOFT_FAULT(v->model, SOFT_F_MSR_PAT))
		v->cpu.pat = st->msrs[NVMM_X64_MSR_PAT];
	if (SOFT_FAULT(v->model, SOFT_F_MSR_STAR))
		v->cpu.star = (uint32_t)v->cpu.star;
	if (SOFT_FAULT(v->model, SOFT_F_MSR_SYSENTER)) {
		v->cpu.sysenter_esp = st->msrs[NVMM_X64_MSR_SYSENTER_EIP];
		v->cpu.sysenter_eip = st->msrs[NVMM_X64_MSR_SYSENTER_ESP];
	}
	if (SOFT_FAULT(v->model, SOFT_F_TSC_COMMIT))
		return;
	if (!SOFT_QUIRK(v->model, SOFT_Q_TSC_OFFSET) ||
	    (st->msrs[NVMM_X64_MSR_TSC] != 0 &&
	    st->msrs[NVMM_X64_MSR_TSC] != v->tsc.given))
		soft_tsc_set(v, st->msrs[NVMM_X64_MSR_TSC]);	/* K-SET-17 */
}

void
soft_msrs_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	st->msrs[NVMM_X64_MSR_EFER] = v->cpu.efer;
	st->msrs[NVMM_X64_MSR_STAR] = v->cpu.star;
	st->msrs[NVMM_X64_MSR_LSTAR] = v->cpu.lstar;
	st->msrs[NVMM_X64_MSR_CSTAR] = v->cpu.cstar;
	st->msrs[NVMM_X64_MSR_SFMASK] = v->cpu.sfmask;
	st->msrs[NVMM_X64_MSR_KERNELGSBASE] = v->cpu.kernel_gs_base;
	st->msrs[NVMM_X64_MSR_SYSENTER_CS] = v->cpu.sysenter_cs;
	st->msrs[NVMM_X64_MSR_SYSENTER_ESP] = v->cpu.sysenter_esp;
	st->msrs[NVMM_X64_MSR_SYSENTER_EIP] = v->cpu.sysenter_eip;
	st->msrs[NVMM_X64_MSR_PAT] = v->cpu.pat;
	if (SOFT_QUIRK(v->model, SOFT_Q_TSC_OFFSET))
		v->tsc.value = soft_tsc_guest(v);
	v->tsc.given = v->tsc.value;
	st->msrs[NVMM_X64_MSR_TSC] = v->tsc.value;	/* K-SET-18 */
}

/* ---- interrupt state, FPU --------------------------------------------------------- */

void
soft_intr_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	uint32_t nmi = v->model->profile->vendor->nmi_window(v->model);

	v->cpu.int_shadow = st->intr.int_shadow &&
	    !SOFT_FAULT(v->model, SOFT_F_WINDOW_SHADOW);
	v->cpu.intercepts &= ~(CPU_INTERCEPT_INT_WINDOW | nmi);
	if (st->intr.int_window_exiting)
		v->cpu.intercepts |= CPU_INTERCEPT_INT_WINDOW;
	if (st->intr.nmi_window_exiting)
		v->cpu.intercepts |= nmi;
	/* evt_pending is not the caller's to set: K-SET-19. */
	if (SOFT_FAULT(v->model, SOFT_F_EVT_WRITABLE))
		v->cpu.inject.type = CPU_EVENT_NONE;
}

void
soft_intr_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	memset(&st->intr, 0, sizeof(st->intr));
	st->intr.int_shadow = v->cpu.int_shadow;
	st->intr.int_window_exiting =
	    (v->cpu.intercepts & CPU_INTERCEPT_INT_WINDOW) != 0;
	st->intr.nmi_window_exiting =
	    (v->cpu.intercepts & (CPU_INTERCEPT_IRET |
	    CPU_INTERCEPT_NMI_WINDOW)) != 0;
	st->intr.evt_pending = v->evt_pending;
}

void
soft_fpu_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	struct fxsave fpu = st->fpu;

	fpu.fx_mxcsr_mask &= v->model->host->mxcsr_mask;
	fpu.fx_mxcsr &= SOFT_QUIRK(v->model, SOFT_Q_MXCSR_BY_IMAGE) ?
	    fpu.fx_mxcsr_mask : v->model->host->mxcsr_mask;	/* K-SET-14 */
	if (SOFT_FAULT(v->model, SOFT_F_FPU_TAG))
		fpu.fx_tw ^= 0xFF;
	if (SOFT_FAULT(v->model, SOFT_F_FPU_XMM))
		memset(&fpu.fx_xmm[3].xmm_bytes[8], 0, 8);
	if (SOFT_FAULT(v->model, SOFT_F_FPU_MXCSR))
		fpu.fx_mxcsr = 0;
	memcpy(v->cpu.fxsave, &fpu, sizeof(v->cpu.fxsave));
}

void
soft_fpu_provide(struct soft_vcpu *v, struct nvmm_x64_state *st)
{
	memcpy(&st->fpu, v->cpu.fxsave, sizeof(st->fpu));
}

/* ---- groups ------------------------------------------------------------------------ */

const struct soft_group soft_common_groups[SOFT_NGROUPS] = {
	{ soft_segs_commit, soft_segs_provide },
	{ soft_gprs_commit, soft_gprs_provide },
	{ soft_crs_commit, soft_crs_provide },
	{ soft_drs_commit, soft_drs_provide },
	{ soft_msrs_commit, soft_msrs_provide },
	{ soft_intr_commit, soft_intr_provide },
	{ soft_fpu_commit, soft_fpu_provide },
};

void
soft_state_commit(struct soft_vcpu *v, uint64_t flags)
{
	const struct soft_group *groups = v->model->profile->vendor->groups;
	unsigned i;

	v->committed |= flags;
	for (i = 0; i < SOFT_NGROUPS; i++) {
		if (flags & (UINT64_C(1) << i))
			groups[i].commit(v, &v->page->comm.state);
	}
}

void
soft_state_provide(struct soft_vcpu *v, uint64_t flags)
{
	const struct soft_group *groups = v->model->profile->vendor->groups;
	unsigned i;

	for (i = 0; i < SOFT_NGROUPS; i++) {
		if (flags & (UINT64_C(1) << i))
			groups[i].provide(v, &v->page->comm.state);
	}
	/* Unknown bits too: kernel spec 2.4. */
	v->page->comm.state_cached |= flags;
}
