/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The Intel backend: what VMX's driver does with each exit, and the state
 * groups that it keeps in its own way (spec kernel 5, 10, 11 and 14.2).  What an
 * entry refuses is in vmx_entry.c.
 */
#include <string.h>

#include "internal.h"

#define MSR_ARCH_CAPABILITIES	0x10Au
#define MSR_MISC_ENABLE		0x1A0u
#define MSR_PAT			0x277u

#define REASON_TASK_SWITCH	9
/* Entry failed on guest state. */
#define REASON_GUEST_STATE	33

#define CR0_SHADOWED	(SOFT_CR0_ET | SOFT_CR0_NW | SOFT_CR0_CD)
/* Reserved bits that an entry does not load (SDM 3C 26.3.2.1). */
#define CR0_IGNORED	UINT64_C(0x1FFAFFC0)
#define CR4_TAKEN	UINT64_C(0x370FFF)

/* ---- state ------------------------------------------------------------------------ */

/* K-SET-10: of GDT and IDT only base and limit are kept. */
static void
vmx_segs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	struct cpu_seg *table[] = { &v->cpu.gdtr, &v->cpu.idtr };
	size_t i;

	soft_segs_commit(v, st);
	for (i = 0; i < 2; i++)
		*table[i] = (struct cpu_seg){
			.base = table[i]->base, .limit = table[i]->limit
		};
}

/*
 * K-SET-5, K-SET-6: NE and ET are always 1.  Hardware's CR0 has neither CD nor
 * NW, the guest and the caller see what was written.
 */
static void
vmx_crs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	soft_crs_commit(v, st);
	v->cpu.cr0 &= ~CR0_IGNORED;
	v->cpu.cr0 |= SOFT_CR0_ET | SOFT_CR0_NE;
	if (SOFT_QUIRK(v->model, SOFT_Q_CR8_WIDE))	/* K-SET-13 */
		v->cpu.cr8 = st->crs[NVMM_X64_CR_CR8];
}

static void
vmx_drs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	soft_drs_commit(v, st);
	v->cpu.dr6 = (uint32_t)v->cpu.dr6;		/* K-SET-12 */
}

static void
vmx_msrs_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	soft_msrs_commit(v, st);
	v->cpu.efer = st->msrs[NVMM_X64_MSR_EFER];
	v->vmx.long_entry = (v->cpu.efer & SOFT_EFER_LMA) != 0;
}

/* A shadow that the caller asks for is that of MOV SS, which holds NMIs back
 * too (kernel spec 5). */
static void
vmx_intr_commit(struct soft_vcpu *v, const struct nvmm_x64_state *st)
{
	soft_intr_commit(v, st);
	v->vmx.mov_ss = v->cpu.int_shadow;
}

static const struct soft_group vmx_groups[SOFT_NGROUPS] = {
	{ vmx_segs_commit, soft_segs_provide },
	{ soft_gprs_commit, soft_gprs_provide },
	{ vmx_crs_commit, soft_crs_provide },
	{ vmx_drs_commit, soft_drs_provide },
	{ vmx_msrs_commit, soft_msrs_provide },
	{ vmx_intr_commit, soft_intr_provide },
	{ soft_fpu_commit, soft_fpu_provide },
};

/* ---- MSRs ------------------------------------------------------------------------- */

/* K-MSR-3, K-MSR-12. */
static const struct soft_msr vmx_msrs[] = {
	{ 0x0000008B, true, true, 0 },		/* microcode patch level */
	{ 0x00000017, true, true, 0 },		/* platform id */
	{ 0, false, false, 0 }
};

static void
answer(struct soft_vcpu *v, const struct cpu_exit *ce, uint64_t value)
{
	v->cpu.gpr[CPU_RAX] = (uint32_t)value;
	v->cpu.gpr[CPU_RDX] = value >> 32;
	cpu_advance(&v->cpu, ce->next_rip);
}

static bool
read_msr(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	const struct soft_host *host = v->model->host;

	switch (ce->msr) {
	case MSR_ARCH_CAPABILITIES:			/* K-MSR-11 */
		if (host->has_arch_capabilities)
			answer(v, ce, host->arch_capabilities & 0x131);
		else
			soft_inject_gp(v);
		return false;
	case MSR_MISC_ENABLE:				/* K-MSR-10 */
		answer(v, ce, (host->misc_enable & ~UINT64_C(0x50080)) |
		    UINT64_C(0x1800));
		return false;
	default:
		return soft_exit_rdmsr(v, ce, e, vmx_msrs);
	}
}

static bool
write_msr(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	uint64_t value = (v->cpu.gpr[CPU_RDX] << 32) |
	    (uint32_t)v->cpu.gpr[CPU_RAX];

	switch (ce->msr) {
	case MSR_PAT:					/* K-MSR-9 */
		if (cpu_wrmsr(&v->cpu, MSR_PAT, value))
			cpu_advance(&v->cpu, ce->next_rip);
		else
			soft_inject_gp(v);
		return false;
	case MSR_MISC_ENABLE:
		cpu_advance(&v->cpu, ce->next_rip);
		return false;
	default:
		return soft_exit_wrmsr(v, ce, e, vmx_msrs);
	}
}

/* ---- control registers ------------------------------------------------------------- */

/* #GP(0) that the processor raises itself: no trace in the comm page. */
static void
hardware_gp(struct soft_vcpu *v)
{
	v->cpu.inject = (struct cpu_event){
		.type = CPU_EVENT_EXCP, .vector = 13,
		.has_error = (v->cpu.cr0 & SOFT_CR0_PE) != 0
	};
	v->cpu.rflags |= SOFT_RFLAGS_RF;
}

/* K-INK-8, K-INK-9: the kernel sees writes that change a shadowed bit. */
static void
write_cr0(struct soft_vcpu *v, const struct cpu_exit *ce)
{
	uint64_t old = v->cpu.cr0, value = ce->value;
	bool kernel = ((value ^ old) & CR0_SHADOWED) != 0;

	if (kernel)
		value |= SOFT_CR0_ET | SOFT_CR0_NE;
	if ((value & SOFT_CR0_NW) && !(value & SOFT_CR0_CD) &&
	    !SOFT_QUIRK(v->model, SOFT_Q_CR0_CACHE_BITS)) {
		hardware_gp(v);
		return;
	}
	/* NE may not be 0 in VMX operation (SDM 3C 23.8). */
	if (!(value & SOFT_CR0_NE) || !cpu_write_cr(&v->cpu, 0, value)) {
		if (kernel)
			soft_inject_gp(v);
		else
			hardware_gp(v);
		return;
	}
	/* Kernel spec 14.1, 13: the entry control follows PG only upwards. */
	if (!kernel || (v->cpu.cr0 & SOFT_CR0_PG) ||
	    !SOFT_QUIRK(v->model, SOFT_Q_CR0_LEAVES_LONG))
		v->vmx.long_entry = (v->cpu.efer & SOFT_EFER_LMA) != 0;
	else if (v->vmx.long_entry)
		v->committed |= NVMM_X64_STATE_CRS;	/* to be looked at */
	cpu_advance(&v->cpu, ce->next_rip);
}

static void
write_cr4(struct soft_vcpu *v, const struct cpu_exit *ce)
{
	if ((ce->value & ~CR4_TAKEN) != 0)		/* K-INK-7 */
		soft_inject_gp(v);
	else if (!cpu_write_cr(&v->cpu, 4, ce->value))
		hardware_gp(v);
	else
		cpu_advance(&v->cpu, ce->next_rip);
}

/* ---- exits -------------------------------------------------------------------------- */

/* What hardware leaves in the VMCS at an exit. */
static void
after_entry(struct soft_vcpu *v, const struct cpu_exit *ce)
{
	if (ce->reason == CPU_EXIT_BAD_STATE)
		return;
	v->vmx.entered = true;
	v->vmx.long_entry = (v->cpu.efer & SOFT_EFER_LMA) != 0;
	v->vmx.mov_ss = false;
	/* Delivery had begun, and blocks NMIs (kernel spec 14.1, 18). */
	if (ce->event_interrupted && ce->interrupted.type == CPU_EVENT_NMI)
		v->cpu.nmi_blocked =
		    SOFT_QUIRK(v->model, SOFT_Q_NMI_STAYS_BLOCKED);
	/* SDM 3C 27.3.3: an EPT violation saves RF as a fault does, an
	 * instruction that exits saves 0, all others leave it. */
	switch (ce->reason) {
	case CPU_EXIT_MEMORY:
		v->cpu.rflags |= SOFT_RFLAGS_RF;
		break;
	case CPU_EXIT_BUDGET:
	case CPU_EXIT_KICKED:
	case CPU_EXIT_SHUTDOWN:
	case CPU_EXIT_INT_WINDOW:
	case CPU_EXIT_NMI_WINDOW:
	case CPU_EXIT_CR8_WRITE:
		break;
	default:
		v->cpu.rflags &= ~SOFT_RFLAGS_RF;
		break;
	}
}

static bool
vmx_exit(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	e->reason = NVMM_VCPU_EXIT_NONE;
	after_entry(v, ce);
	switch (ce->reason) {
	case CPU_EXIT_RDMSR:
		return read_msr(v, ce, e);
	case CPU_EXIT_WRMSR:
		return write_msr(v, ce, e);
	case CPU_EXIT_CR_WRITE:
		if (ce->cr == 0)
			write_cr0(v, ce);
		else
			write_cr4(v, ce);
		return false;
	case CPU_EXIT_XSETBV:		/* hardware looks at CPL first */
		if (cpu_cpl(&v->cpu) != 0)
			hardware_gp(v);
		else
			soft_exit_xsetbv(v, ce);
		return false;
	case CPU_EXIT_TASK_SWITCH:			/* K-INV-2 */
		soft_exit_invalid(e, REASON_TASK_SWITCH);
		return true;
	default:
		return soft_exit_common(v, ce, e, vmx_msrs);
	}
}

static uint32_t
vmx_intercepts(const struct soft_model *model)
{
	uint32_t bits = CPU_INTERCEPT_CR_WRITE | CPU_INTERCEPT_PAT_WRITE;

	if (SOFT_QUIRK(model, SOFT_Q_EVENT_SCRATCH))
		bits |= CPU_INTERCEPT_VMX | CPU_INTERCEPT_RDPMC;
	if (SOFT_QUIRK(model, SOFT_Q_TASK_SWITCH_INVALID))
		bits |= CPU_INTERCEPT_TASK_SWITCH;
	if (SOFT_QUIRK(model, SOFT_Q_CR8_WIDE))
		bits |= CPU_CR8_WIDE;
	if (SOFT_QUIRK(model, SOFT_Q_PDPTES_HELD))
		bits |= CPU_PDPTES_HELD;
	return bits;
}

static uint32_t
vmx_nmi_window(const struct soft_model *model)
{
	(void)model;
	return CPU_INTERCEPT_NMI_WINDOW;
}

const struct soft_vendor soft_vmx = {
	.name = "vmx",
	.intel = true,
	.vcpu_conf_support = NVMM_CAP_ARCH_VCPU_CONF_CPUID |
	    NVMM_CAP_ARCH_VCPU_CONF_TPR,
	.groups = vmx_groups,
	.exit = vmx_exit,
	.enter = soft_vmx_enter,
	.intercepts = vmx_intercepts,
	.nmi_window = vmx_nmi_window,
	.bad_state = REASON_GUEST_STATE,
	.cpuid_basic_max = 0x16,
	.cpuid_extended_max = 0x80000008,
};
