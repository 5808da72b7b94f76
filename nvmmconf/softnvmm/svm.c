/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The AMD backend: what SVM's driver does with each exit (spec kernel 10,
 * 11 and 14.2).
 */
#include "internal.h"

#define EXITCODE_INVD		0x76u		/* kernel spec 10 */
#define EXITCODE_INVALID	UINT64_MAX

/* K-MSR-3, K-MSR-13, K-MSR-14. */
static const struct soft_msr svm_msrs[] = {
	{ 0x0000008B, true, true, 0 },		/* microcode patch level */
	{ 0xC001001F, true, false, UINT64_C(1) << 54 },	/* NB_CFG */
	{ 0xC0010055, true, true, 0 },		/* interrupt pending */
	{ 0xC0011021, true, true, 0 },		/* IC_CFG */
	{ 0xC0011029, true, true, 0 },		/* DE_CFG */
	{ 0, false, false, 0 }
};

static bool
svm_exit(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	e->reason = NVMM_VCPU_EXIT_NONE;
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
		return soft_exit_rdmsr(v, ce, e, svm_msrs);
	case CPU_EXIT_WRMSR:
		return soft_exit_wrmsr(v, ce, e, svm_msrs);
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
		if (SOFT_QUIRK(v->model, SOFT_Q_INVD_INVALID)) {
			soft_exit_invalid(e, EXITCODE_INVD);
			return true;
		}
		cpu_advance(&v->cpu, ce->next_rip);
		return false;
	case CPU_EXIT_INT_WINDOW:		/* K-INT-1 */
		v->cpu.intercepts &= ~CPU_INTERCEPT_INT_WINDOW;
		e->reason = NVMM_VCPU_EXIT_INT_READY;
		return true;
	case CPU_EXIT_IRET:			/* K-NMI-1, K-NMI-3 */
		v->cpu.intercepts &= ~CPU_INTERCEPT_IRET;
		e->reason = NVMM_VCPU_EXIT_NMI_READY;
		return true;
	case CPU_EXIT_BAD_STATE:		/* K-SET-21 */
		soft_exit_invalid(e, EXITCODE_INVALID);
		return true;
	case CPU_EXIT_CR8_WRITE:		/* never asked for: K-TPR-3 */
	case CPU_EXIT_NMI_WINDOW:
	case CPU_EXIT_CR_WRITE:
	case CPU_EXIT_TASK_SWITCH:
	case CPU_EXIT_UD:
	case CPU_EXIT_BUDGET:
	case CPU_EXIT_KICKED:
		break;
	}
	return false;
}

/* Kernel spec 8.3: #OF and #BR cannot be injected in 64-bit mode. */
static bool
svm_takes_event(const struct soft_vcpu *v)
{
	const struct cpu_event *event = &v->cpu.inject;

	return event->type != CPU_EVENT_EXCP ||
	    (event->vector != 4 && event->vector != 5) ||
	    (v->cpu.efer & SOFT_EFER_LMA) == 0 || !v->cpu.seg[CPU_CS].l;
}

const struct soft_vendor soft_svm = {
	.name = "svm",
	.vcpu_conf_support = NVMM_CAP_ARCH_VCPU_CONF_CPUID,
	.groups = soft_common_groups,
	.exit = svm_exit,
	.takes_event = svm_takes_event,
	.cpuid_basic_max = 0xD,
	.cpuid_extended_max = 0x8000001F,
};
