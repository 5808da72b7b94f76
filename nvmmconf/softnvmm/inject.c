/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Events: spec kernel 8, libnvmm 4.5.
 */
#include <errno.h>

#include "internal.h"

#define EXCP_DB		1
#define EXCP_UD		6
#define EXCP_GP		13
#define EXCP_CP		21
#define DR6_BS		UINT64_C(0x4000)
#define NMI_VECTOR	2

#define VECTOR(n)	(UINT32_C(1) << (n))

/* L-EVT-5. */
static const uint32_t pushes_error = VECTOR(8) | VECTOR(10) | VECTOR(11) |
    VECTOR(12) | VECTOR(13) | VECTOR(14) | VECTOR(17) | VECTOR(EXCP_CP) |
    VECTOR(30);
/* K-INJ-7: the pushed RFLAGS lack RF for these (traps and aborts). */
static const uint32_t keeps_rf = VECTOR(1) | VECTOR(4) | VECTOR(8) |
    VECTOR(18);

/*
 * To be delivered before the next instruction.  A single-step trap that waits
 * belongs to the instruction before, and is delivered first (SDM 3A 6.9).
 */
static void
arm(struct soft_vcpu *v, const struct cpu_event *event)
{
	v->evt_pending = true;
	if (v->stepping) {
		v->after_step = *event;
		return;
	}
	v->cpu.inject = *event;
	if (event->type == CPU_EVENT_EXCP && ((keeps_rf >> event->vector) & 1) == 0)
		v->cpu.rflags |= SOFT_RFLAGS_RF;
}

/* The trap has been delivered. */
void
soft_event_stepped(struct soft_vcpu *v)
{
	struct cpu_event next = v->after_step;

	v->stepping = false;
	v->after_step.type = CPU_EVENT_NONE;
	if (next.type != CPU_EVENT_NONE)
		arm(v, &next);
}

void
soft_event_drop(struct soft_vcpu *v)
{
	if (v->stepping)
		v->after_step.type = CPU_EVENT_NONE;
	else
		v->cpu.inject.type = CPU_EVENT_NONE;
}

static void
raise_exception(struct soft_vcpu *v, uint8_t vector, uint64_t error)
{
	struct cpu_event event = {
		.type = CPU_EVENT_EXCP, .vector = vector, .error = (uint32_t)error
	};

	event.has_error = (pushes_error >> vector) & 1 &&
	    !(vector == EXCP_CP &&
	    SOFT_QUIRK(v->model, SOFT_Q_CP_NO_ERROR));
	if (SOFT_FAULT(v->model, SOFT_F_EXCP_ERROR))
		event.error = 0;
	if (SOFT_FAULT(v->model, SOFT_F_EXCP_NO_ERROR))
		event.has_error = false;
	if (vector == 14 && SOFT_FAULT(v->model, SOFT_F_EXCP_DF))
		event.vector = 8;
	arm(v, &event);
}

/* A fault has its RF before it is delivered: what would be pushed is saved
 * (SDM 3C 27.3.3). */
void
soft_event_interrupted(struct soft_vcpu *v)
{
	struct cpu_event *event = &v->cpu.inject;

	/* Real mode has no error codes, and what is saved says so. */
	if ((v->cpu.cr0 & SOFT_CR0_PE) == 0)
		event->has_error = false;
	if (event->type == CPU_EVENT_EXCP && event->vector < 32 &&
	    ((keeps_rf >> event->vector) & 1) == 0)
		v->cpu.rflags |= SOFT_RFLAGS_RF;
}

static int
inject_exception(struct soft_vcpu *v, uint8_t vector, uint64_t error)
{
	if (vector >= 32 || vector == NMI_VECTOR)
		return EINVAL;
	if ((vector == 0 || vector == 3) &&
	    SOFT_QUIRK(v->model, SOFT_Q_EXCP_0_3) &&
	    !SOFT_FAULT(v->model, SOFT_F_EXCP_ZERO))
		return EINVAL;
	raise_exception(v, vector, error);
	return 0;
}

int
soft_inject(struct soft_vcpu *v)
{
	const struct nvmm_vcpu_event *event = &v->page->comm.event;

	switch (event->type) {
	case NVMM_VCPU_EVENT_EXCP:
		return inject_exception(v, event->vector,
		    event->u.excp.error);
	case NVMM_VCPU_EVENT_INTR:
		if ((v->cpu.rflags & SOFT_RFLAGS_IF) == 0 &&
		    SOFT_FAULT(v->model, SOFT_F_INTR_IF))
			return 0;
		/* IF, shadow and TPR are the caller's business (L-EVT-4,
		 * K-INJ-14, K-INJ-17); one that waits is replaced (K-INJ-13). */
		arm(v, &(struct cpu_event){
			.type = event->vector == NMI_VECTOR ?
			    CPU_EVENT_NMI : CPU_EVENT_INTR,
			.vector = event->vector
		});
		if (event->vector == NMI_VECTOR &&	/* K-INJ-5 */
		    !SOFT_FAULT(v->model, SOFT_F_NMI_INTR))
			v->cpu.intercepts |= v->model->profile->vendor->
			    nmi_window(v->model);
		return 0;
	default:
		return EINVAL;			/* K-INJ-2 */
	}
}

/* An exception by the kernel, for an instruction that it refuses.  #GP comes with
 * an error code in real mode too, which is what VMX then refuses to enter with
 * (kernel spec 8.3). */
static void
refuse(struct soft_vcpu *v, uint8_t vector)
{
	struct nvmm_vcpu_event *event = &v->page->comm.event;

	if (SOFT_QUIRK(v->model, SOFT_Q_EVENT_SCRATCH)) {	/* K-COMM-9 */
		event->type = NVMM_VCPU_EVENT_EXCP;
		event->vector = vector;
		event->u.excp.error = 0;
	}
	raise_exception(v, vector, 0);
}

/* The trap of an instruction that was done for the processor (SDM 3B 17.3.1.4). */
void
soft_single_step(struct soft_vcpu *v)
{
	if ((v->cpu.rflags & SOFT_RFLAGS_TF) == 0 ||
	    v->cpu.inject.type != CPU_EVENT_NONE ||
	    SOFT_QUIRK(v->model, SOFT_Q_NO_SINGLE_STEP))
		return;
	v->cpu.dr6 |= DR6_BS;
	raise_exception(v, EXCP_DB, 0);
	v->stepping = true;
}

void
soft_inject_gp(struct soft_vcpu *v)
{
	refuse(v, EXCP_GP);
}

void
soft_inject_ud(struct soft_vcpu *v)
{
	refuse(v, EXCP_UD);
}
