/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The AMD backend: what SVM's driver does with each exit (spec kernel 10,
 * 11 and 14.2), and the backend of no vendor, which profile "ideal" has.
 */
#include "internal.h"

#define MSR_EFER		0xC0000080u
/* SCE LME LMA NXE SVME FFXSR TCE: kernel spec 10.1. */
#define EFER_TAKEN		UINT64_C(0xDD01)

/* K-MSR-3, K-MSR-13, K-MSR-14. */
static const struct soft_msr svm_msrs[] = {
	{ 0x0000008B, true, true, 0 },		/* microcode patch level */
	{ 0xC001001F, true, false, UINT64_C(1) << 54 },	/* NB_CFG */
	{ 0xC0010055, true, true, 0 },		/* interrupt pending */
	{ 0xC0011021, true, true, 0 },		/* IC_CFG */
	{ 0xC0011029, true, true, 0 },		/* DE_CFG */
	{ 0, false, false, 0 }
};

/* K-MSR-7: what the processor lacks is found out at the next entry. */
static void
write_efer(struct soft_vcpu *v, const struct cpu_exit *ce)
{
	uint64_t value = (v->cpu.gpr[CPU_RDX] << 32) |
	    (uint32_t)v->cpu.gpr[CPU_RAX];

	if ((value & ~EFER_TAKEN) != 0) {
		soft_inject_gp(v);
		return;
	}
	v->cpu.efer = value & ~SOFT_EFER_SVME;
	cpu_advance(&v->cpu, ce->next_rip);
}

static bool
svm_exit(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	e->reason = NVMM_VCPU_EXIT_NONE;
	if (ce->reason == CPU_EXIT_WRMSR && ce->msr == MSR_EFER) {
		write_efer(v, ce);
		return false;
	}
	/* Kernel spec 14.1, 19: RIP is on the INT, and the event is taken up
	 * again without a word about its length. */
	if (ce->event_interrupted &&
	    SOFT_QUIRK(v->model, SOFT_Q_INT_N_TWICE))
		v->cpu.inject.length = 0;
	return soft_exit_common(v, ce, e, svm_msrs);
}

/* Kernel spec 8.3: #OF and #BR cannot be injected in 64-bit mode.  An event
 * that VMRUN refuses is gone. */
static bool
svm_enter(struct soft_vcpu *v, uint64_t *hwcode)
{
	struct cpu_event *event = &v->cpu.inject;

	/* In real mode CPL is 0 whatever was given (APM 2, 15.5.1). */
	if ((v->cpu.cr0 & SOFT_CR0_PE) == 0)
		v->cpu.seg[CPU_SS].dpl = 0;
	if (event->type == CPU_EVENT_EXCP &&
	    (event->vector == 4 || event->vector == 5) &&
	    (v->cpu.efer & SOFT_EFER_LMA) != 0 && v->cpu.seg[CPU_CS].l) {
		*hwcode = UINT64_MAX;
		event->type = CPU_EVENT_NONE;
		v->evt_pending = false;
		return false;
	}
	return true;
}

/* The intercepts that only bring an exception serve to show that the kernel
 * raised it (K-COMM-9). */
static uint32_t
svm_intercepts(const struct soft_model *model)
{
	uint32_t bits = 0;

	if (SOFT_QUIRK(model, SOFT_Q_EVENT_SCRATCH))
		bits |= CPU_INTERCEPT_SVM | CPU_INTERCEPT_RDPMC;
	if (SOFT_QUIRK(model, SOFT_Q_EFER_BY_KERNEL))
		bits |= CPU_INTERCEPT_EFER_WRITE;
	return bits;
}

static uint32_t
svm_nmi_window(const struct soft_model *model)
{
	return SOFT_QUIRK(model, SOFT_Q_NMI_READY_EARLY) ?
	    CPU_INTERCEPT_IRET : CPU_INTERCEPT_NMI_WINDOW;
}

#define SVM								\
	.groups = soft_common_groups,					\
	.exit = svm_exit,						\
	.enter = svm_enter,						\
	.intercepts = svm_intercepts,					\
	.nmi_window = svm_nmi_window,					\
	.bad_state = UINT64_MAX,					\
	.cpuid_basic_max = 0xD,						\
	.cpuid_extended_max = 0x8000001F

const struct soft_vendor soft_svm = {
	.name = "svm",
	.vcpu_conf_support = NVMM_CAP_ARCH_VCPU_CONF_CPUID,
	SVM
};

const struct soft_vendor soft_neutral = {
	.name = "neutral",
	.vcpu_conf_support = NVMM_CAP_ARCH_VCPU_CONF_CPUID |
	    NVMM_CAP_ARCH_VCPU_CONF_TPR,
	SVM
};
