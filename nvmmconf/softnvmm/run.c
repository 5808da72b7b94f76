/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * nvmm_vcpu_run: spec kernel 9, libnvmm 4.6 and 4.6a.
 *
 * Where a kernel has hardware exits, host ticks and signals, this has slices:
 * the processor runs SLICE instructions at most, then the return check is
 * made, as after any exit; TICK instructions in one call are a reschedule and
 * end it with NONE (K-RUN-2).
 *
 * Signals.  A kernel sees a signal pending and returns; the handler runs on
 * the way out.  So here: signals are blocked while in run, what arrives is
 * seen at the end of the slice as pending, run returns NONE, and the handler
 * runs as the mask is restored, before the caller has control again (K-RUN-1).
 * A signal that is handled before run is entered leaves no trace (L-STOP-5).
 * Those that a fault raises in the thread itself are never blocked.
 *
 * The stop word needs no signal: it is the processor's kick (v2; a real kernel
 * waits for the next exit, L-STOP-4a).
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define SLICE		16384u
#define TICK		(1u << 19)	/* some 10 ms, as a host's */
#define EXIT_COST	64u	/* instructions that an exit done in here counts for */

/* ---- time ----------------------------------------------------------------------- */

/* One tick a nanosecond, and never the same value twice in a thread. */
uint64_t
soft_tsc_now(void)
{
	static _Thread_local uint64_t last;
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	last = now > last ? now : last + 1;
	return last;
}

uint64_t
soft_tsc_guest(void *arg)
{
	const struct soft_vcpu *v = arg;

	return soft_tsc_now() + v->tsc.offset;
}

void
soft_tsc_set(struct soft_vcpu *v, uint64_t value)
{
	if (SOFT_QUIRK(v->model, SOFT_Q_TSC_OFFSET)) {
		v->tsc.offset = value - soft_tsc_now();
		return;
	}
	v->tsc.value = value;
	v->tsc.wanted = true;
}

static void
tsc_enter(struct soft_vcpu *v)
{
	if (v->tsc.wanted) {
		v->tsc.offset = v->tsc.value - soft_tsc_now();
		v->tsc.wanted = false;
	}
}

static void
tsc_capture(struct soft_vcpu *v)
{
	if (!v->tsc.wanted)
		v->tsc.value = soft_tsc_guest(v);
}

/* ---- signals and the return check -------------------------------------------------- */

struct soft_run {
	sigset_t mask;			/* the caller's */
	uint32_t spent;			/* instructions, of TICK */
	uint32_t looked;		/* .spent when signals were looked at */
	bool stop_seen;			/* at the last return check */
};

static void
signals_block(sigset_t *saved)
{
	static const int faults[] = {
		SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT
	};
	sigset_t set;
	size_t i;

	sigfillset(&set);
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&set, faults[i]);
	pthread_sigmask(SIG_BLOCK, &set, saved);
}

static bool
signals_pending(const sigset_t *mask)
{
	sigset_t set;
	int signo;

	sigpending(&set);
	for (signo = 1; signo < NSIG; signo++) {
		if (sigismember(&set, signo) == 1 &&
		    sigismember(mask, signo) == 0)
			return true;
	}
	return false;
}

static bool
stop_wanted(struct soft_vcpu *v)
{
	return v->page->has_stop &&
	    __atomic_load_n(&v->page->comm.stop, __ATOMIC_ACQUIRE) != 0;
}

/* L-STOP-3.  True: run ends, with *reason unless something better is known. */
static bool
return_check(struct soft_vcpu *v, struct soft_run *r, bool done,
    uint64_t made, uint64_t *reason)
{
	*reason = NVMM_VCPU_EXIT_NONE;
	r->stop_seen = stop_wanted(v);
	if (soft_chaos_returns(v, done, made))
		return true;
	if (v->interrupt != 0 && --v->interrupt == 0) {
		if (v->interrupt_stops)
			*reason = NVMM_VCPU_EXIT_STOPPED;
		if (v->interrupt_stops_late)
			__atomic_store_n(&v->page->comm.stop, 1, __ATOMIC_RELEASE);
		return true;
	}
	/* A tick could come just as an exit was made and take its place; ours
	 * does not, or cases would lose a HALTED by the instruction count. */
	if (!done && r->spent >= TICK)
		return true;
	/* An exit made within the first slice came before any signal. */
	if (r->spent - r->looked >= SLICE) {
		r->looked = r->spent;
		if (signals_pending(&r->mask))
			return true;
	}
	if (stop_wanted(v)) {
		*reason = NVMM_VCPU_EXIT_STOPPED;
		return true;
	}
	return false;
}

/* ---- the loop ------------------------------------------------------------------------ */

static void
enter(struct soft_vcpu *v, struct cpu_exit *ce)
{
	const struct soft_vendor *vendor = v->model->profile->vendor;
	struct soft_machine *m = v->machine;
	const uint32_t windows = CPU_INTERCEPT_INT_WINDOW |
	    CPU_INTERCEPT_NMI_WINDOW;
	bool step = v->stepping && v->after_step.type != CPU_EVENT_NONE;
	const volatile int *kick;
	uint32_t armed;

	tsc_enter(v);
	if (SOFT_FAULT(v->model, SOFT_F_NMI_BLOCKED))
		v->cpu.nmi_blocked = false;
	v->entry_error = vendor->bad_state;
	if (!vendor->enter(v, &v->entry_error)) {
		memset(ce, 0, sizeof(*ce));
		ce->reason = CPU_EXIT_BAD_STATE;
		return;
	}
	pthread_rwlock_rdlock(&m->map_lock);
	if (v->map_generation != m->map_generation) {
		v->map_generation = m->map_generation;
		cpu_memory_changed(&v->cpu);
	}
	kick = v->cpu.kick;
	if (soft_chaos_hides_stop(v))
		v->cpu.kick = NULL;
	/* A trap with an event behind it: no instruction and no window between. */
	armed = step ? v->cpu.intercepts & windows : 0;
	v->cpu.intercepts &= ~armed;
	cpu_run(&v->cpu, step ? 0 : soft_chaos_slice(v, SLICE), ce);
	v->cpu.intercepts |= armed;
	v->cpu.kick = kick;
	pthread_rwlock_unlock(&m->map_lock);

	/* L-RUN-4: an event cut short by this exit is delivered again. */
	if (SOFT_FAULT(v->model, SOFT_F_EVENT_DROPPED))
		ce->event_interrupted = false;
	if (ce->event_interrupted)
		v->cpu.inject = ce->interrupted;
	else if (ce->reason == CPU_EXIT_BAD_STATE && !vendor->intel)
		v->cpu.inject.type = v->after_step.type = CPU_EVENT_NONE;
	v->evt_pending = ce->event_interrupted;
	if (ce->event_interrupted)
		soft_event_interrupted(v);
	else if (ce->reason != CPU_EXIT_BAD_STATE || !vendor->intel)
		soft_event_stepped(v);
	if (!SOFT_QUIRK(v->model, SOFT_Q_TSC_STALE))
		tsc_capture(v);
}

static void
exitstate(const struct soft_vcpu *v, struct nvmm_vcpu_exit *e)
{
	e->exitstate.rflags = v->cpu.rflags;
	e->exitstate.cr8 = soft_cr8(v);
	e->exitstate.int_shadow = v->cpu.int_shadow;
	e->exitstate.int_window_exiting =
	    (v->cpu.intercepts & CPU_INTERCEPT_INT_WINDOW) != 0;
	e->exitstate.nmi_window_exiting = (v->cpu.intercepts &
	    (CPU_INTERCEPT_IRET | CPU_INTERCEPT_NMI_WINDOW)) != 0;
	e->exitstate.evt_pending = v->evt_pending;
}

/* A run that enters nothing tells what the next entry would start from
 * (L-RUN-3); what NetBSD tells is all zero. */
static void
exitstate_unentered(const struct soft_vcpu *v, struct nvmm_vcpu_exit *e)
{
	const struct nvmm_comm_page *comm = &v->page->comm;

	if (SOFT_QUIRK(v->model, SOFT_Q_EXITSTATE_ZERO))
		return;
	exitstate(v, e);
	if (comm->state_commit & NVMM_X64_STATE_GPRS)
		e->exitstate.rflags = comm->state.gprs[NVMM_X64_GPR_RFLAGS];
	if (comm->state_commit & NVMM_X64_STATE_CRS)
		e->exitstate.cr8 = comm->state.crs[NVMM_X64_CR_CR8] & 0xF;
	if (comm->state_commit & NVMM_X64_STATE_INTR) {
		e->exitstate.int_shadow = comm->state.intr.int_shadow;
		e->exitstate.int_window_exiting =
		    comm->state.intr.int_window_exiting;
		e->exitstate.nmi_window_exiting =
		    comm->state.intr.nmi_window_exiting;
	}
	if (comm->event_commit)
		e->exitstate.evt_pending = 1;
}

static void
leave(struct soft_vcpu *v, struct nvmm_vcpu_exit *e)
{
	struct fxsave *fpu = (struct fxsave *)v->cpu.fxsave;

	tsc_capture(v);
	/* What a processor saves, whatever was loaded (K-RST-10). */
	fpu->fx_mxcsr_mask = v->model->host->mxcsr_mask;
	fpu->fx_zero = 0;

	exitstate(v, e);
	if (SOFT_FAULT(v->model, SOFT_F_EXIT_CR8))
		e->exitstate.cr8 = 0;
	if (SOFT_FAULT(v->model, SOFT_F_EXIT_SHADOW))
		e->exitstate.int_shadow = 0;
	if (SOFT_FAULT(v->model, SOFT_F_EXITSTATE))
		memset(&e->exitstate, 0, sizeof(e->exitstate));
}

/* Kernel spec 9, step 3 and 4: the backend's part. */
static int
backend(struct soft_vcpu *v, struct soft_run *r, struct nvmm_vcpu_exit *e)
{
	const struct soft_vendor *vendor = v->model->profile->vendor;
	struct nvmm_comm_page *comm = &v->page->comm;
	struct cpu_exit ce;
	uint64_t reason, rip;
	bool done;

	soft_state_commit(v, comm->state_commit);
	comm->state_commit = 0;
	if (!SOFT_FAULT(v->model, SOFT_F_STATE_CACHE))
		comm->state_cached = 0;
	if (v->page->single_step) {
		v->page->single_step = false;
		soft_single_step(v);
	}
	if (comm->event_commit) {
		comm->event_commit = SOFT_FAULT(v->model, SOFT_F_EVENT_TWICE);
		if (soft_inject(v) != 0) {
			comm->event_commit = SOFT_FAULT(v->model, SOFT_F_EVENT_KEPT);
			return EINVAL;
		}
		if (SOFT_FAULT(v->model, SOFT_F_EVENT_LOST))
			soft_event_drop(v);
	}
	do {
		enter(v, &ce);
		rip = v->cpu.rip;
		done = vendor->exit(v, &ce, e);
		if (v->cpu.rip != rip)
			soft_single_step(v);
		r->spent += ce.reason == CPU_EXIT_BUDGET ? SLICE : EXIT_COST;
		/* VMX: an entry that failed as an instruction ends the loop
		 * ahead of the check. */
		if (vendor->intel && ce.reason == CPU_EXIT_BAD_STATE &&
		    v->entry_error == UINT64_MAX)
			break;
		if (return_check(v, r, done, e->reason, &reason)) {
			if (!done || SOFT_QUIRK(v->model,
			    SOFT_Q_RETURN_OVERWRITES))
				e->reason = reason;
			done = true;
		}
	} while (!done);
	leave(v, e);
	return 0;
}

static int
loop(struct soft_vcpu *v, struct soft_run *r, struct nvmm_vcpu_exit *e)
{
	int error;

	do {
		/* L-ST-6a; what is pending stays so (K-RUN-6, K-RUN-7). */
		if (return_check(v, r, false, e->reason, &e->reason)) {
			exitstate_unentered(v, e);
			if (SOFT_FAULT(v->model, SOFT_F_STOP_COMMITS)) {
				soft_state_commit(v, v->page->comm.state_commit);
				v->page->comm.state_commit = 0;
			}
			return 0;
		}
		if ((error = backend(v, r, e)) != 0)
			return error;
		/* Kernel spec 9, step 5. */
	} while (e->reason == NVMM_VCPU_EXIT_MEMORY &&
	    soft_memory_fill(v, e->u.mem.gpa, (uint32_t)e->u.mem.prot));
	return 0;
}

/* *out is the library's: filled on success only (L-ST-7), and before anyone
 * who waits to destroy the vCPU may go on. */
static int
kvcpu_run(uint32_t machid, uint32_t cpuid, struct soft_run *r,
    struct nvmm_vcpu_exit *out)
{
	struct nvmm_vcpu_exit e;
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	if ((error = soft_vcpu_get(machid, cpuid, &m, &v)) != 0)
		return error;
	memset(&e, 0, sizeof(e));
	if (v->page->has_stop && SOFT_FAULT(v->model, SOFT_F_STOP_LOST))
		__atomic_store_n(&v->page->comm.stop, 0, __ATOMIC_RELEASE);
	if ((error = loop(v, r, &e)) == 0 ||
	    SOFT_FAULT(v->model, SOFT_F_EXIT_ON_FAILURE))
		memcpy(out, &e, sizeof(e));
	/* L-STOP-4; one that came after the last check is not this run's. */
	if (v->page->has_stop &&
	    (r->stop_seen || SOFT_QUIRK(v->model, SOFT_Q_STOP_LOST) ||
	    SOFT_FAULT(v->model, SOFT_F_STOP_LOST)) &&
	    !SOFT_FAULT(v->model, SOFT_F_STOP_STAYS))
		__atomic_store_n(&v->page->comm.stop, 0, __ATOMIC_RELEASE);
	soft_vcpu_put(m, v);
	return error;
}

int
nvmm_vcpu_run(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct soft_run r = { .spent = 0 };
	int error;

	signals_block(&r.mask);
	error = kvcpu_run(mach->machid, vcpu->cpuid, &r, vcpu->exit);
	pthread_sigmask(SIG_SETMASK, &r.mask, NULL);
	return soft_return(error);
}
