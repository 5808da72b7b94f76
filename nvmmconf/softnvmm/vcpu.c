/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * vCPUs: life, configuration, and the comm page as seen from the library
 * (spec libnvmm 4.3 to 4.6, kernel 2 and 6).
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

static const struct cpu_bus soft_bus = {
	.page = soft_memory_page,
	.tsc = soft_tsc_guest,
};

/* ---- kernel ------------------------------------------------------------------ */

/* The place of a vCPU id, made at its first use and kept until the machine
 * goes, so that its lock outlives the vCPU. */
static int
vcpu_slot(struct soft_machine *m, uint32_t cpuid, bool create,
    struct soft_vcpu **out)
{
	struct soft_vcpu *v;
	int error = 0;

	if (cpuid >= m->model.profile->max_vcpus -
	    SOFT_FAULT(&m->model, SOFT_F_VCPU_LAST))
		return EINVAL;
	pthread_mutex_lock(&m->vcpus_lock);
	v = m->vcpus[cpuid];
	if (v == NULL && !create) {
		error = ENOENT;
	} else if (v == NULL) {
		if ((v = calloc(1, sizeof(*v))) == NULL) {
			error = ENOMEM;
		} else {
			pthread_mutex_init(&v->lock, NULL);
			m->vcpus[cpuid] = v;
		}
	}
	pthread_mutex_unlock(&m->vcpus_lock);
	*out = v;
	return error;
}

/*
 * A mutex goes to whoever asks first once it is free, which is the thread
 * that just let go of it if it runs in a loop; soft_vcpu_put() therefore lets
 * one of those waiting go first.
 */
static void
take_turn(struct soft_vcpu *v)
{
	if (pthread_mutex_trylock(&v->lock) != 0) {
		__atomic_add_fetch(&v->waiting, 1, __ATOMIC_RELAXED);
		pthread_mutex_lock(&v->lock);
		__atomic_sub_fetch(&v->waiting, 1, __ATOMIC_RELAXED);
	}
	__atomic_add_fetch(&v->turns, 1, __ATOMIC_RELAXED);
}

int
soft_vcpu_get(uint32_t machid, uint32_t cpuid, struct soft_machine **mp,
    struct soft_vcpu **vp)
{
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	if ((error = soft_machine_get(machid, false, &m)) != 0)
		return error;
	if ((error = vcpu_slot(m, cpuid, false, &v)) == 0) {
		take_turn(v);
		if (v->present) {
			*mp = m;
			*vp = v;
			return 0;
		}
		pthread_mutex_unlock(&v->lock);
		error = SOFT_FAULT(&m->model, SOFT_F_VCPU_ERRNO) ? EINVAL : ENOENT;
	}
	soft_machine_put(m);
	return error;
}

void
soft_vcpu_put(struct soft_machine *m, struct soft_vcpu *v)
{
	unsigned turn = v->turns;

	pthread_mutex_unlock(&v->lock);
	/* The machine is held still, so v is there. */
	while (__atomic_load_n(&v->waiting, __ATOMIC_RELAXED) != 0 &&
	    __atomic_load_n(&v->turns, __ATOMIC_RELAXED) == turn)
		sched_yield();
	soft_machine_put(m);
}

static int
vcpu_init(struct soft_machine *m, struct soft_vcpu *v, uint32_t cpuid)
{
	struct soft_page *page;

	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return ENOMEM;
	page->has_stop = m->model.profile->has_stop;

	v->id = cpuid;
	v->machine = m;
	v->model = &m->model;
	v->page = page;
	v->evt_pending = v->stepping = false;
	v->after_step.type = CPU_EVENT_NONE;
	v->map_generation = m->map_generation - 1;
	if (!SOFT_FAULT(v->model, SOFT_F_VCPU_KEEPS_CONF))
		memset(v->cpuids, 0, sizeof(v->cpuids));	/* K-VCPU-8 */
	memset(&v->tsc, 0, sizeof(v->tsc));
	memset(&v->vmx, 0, sizeof(v->vmx));
	v->interrupt = 0;
	memset(&v->cpu, 0, sizeof(v->cpu));
	v->cpu.vendor = m->model.host->vendor;
	v->cpu.bus = &soft_bus;
	v->cpu.bus_arg = v;
	v->cpu.kick = page->has_stop ? &page->comm.stop : NULL;
	cpu_reset(&v->cpu);
	soft_chaos_begin(v);
	v->cpu.intercepts = m->model.profile->vendor->intercepts(&m->model);
	if (m->model.host->ncpuid != 0)
		v->cpu.intercepts |= CPU_CPUID_FOREIGN;

	/* K-COMM-1: everything is cached, nothing waits. */
	soft_state_reset(v->model, &page->comm.state);
	soft_state_commit(v, NVMM_X64_STATE_ALL);
	page->comm.state_cached = NVMM_X64_STATE_ALL;
	v->present = true;
	__atomic_add_fetch(&m->nvcpus, 1, __ATOMIC_RELAXED);
	return 0;
}

static int
kvcpu_create(uint32_t machid, uint32_t cpuid, struct soft_page **page)
{
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	if ((error = soft_machine_get(machid, false, &m)) != 0)
		return error;
	if ((error = vcpu_slot(m, cpuid, true, &v)) == 0) {
		pthread_mutex_lock(&v->lock);
		if (v->present)
			error = SOFT_QUIRK(&m->model,
			    SOFT_Q_VCPU_EXISTS_EBUSY) ? EBUSY : EEXIST;
		else if ((error = vcpu_init(m, v, cpuid)) == 0)
			*page = v->page;
		pthread_mutex_unlock(&v->lock);
	}
	soft_machine_put(m);
	return error;
}

static int
kvcpu_destroy(uint32_t machid, uint32_t cpuid)
{
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	/* K-VCPU-6: waits for the run to end. */
	if ((error = soft_vcpu_get(machid, cpuid, &m, &v)) != 0)
		return error;
	v->present = false;
	__atomic_sub_fetch(&m->nvcpus, 1, __ATOMIC_RELAXED);
	munmap(v->page, sizeof(*v->page));
	v->page = NULL;
	soft_vcpu_put(m, v);
	return 0;
}

void
soft_vcpus_destroy(struct soft_machine *m)
{
	size_t i;

	/* The comm pages stay mapped in the process (L-MACH-2). */
	for (i = 0; i < SOFT_MAX_VCPUS; i++) {
		if (m->vcpus[i] == NULL)
			continue;
		pthread_mutex_destroy(&m->vcpus[i]->lock);
		free(m->vcpus[i]);
		m->vcpus[i] = NULL;
	}
	m->nvcpus = 0;
}

unsigned
soft_vcpus_count(const struct soft_machine *m)
{
	return __atomic_load_n(&m->nvcpus, __ATOMIC_RELAXED);
}

/* Without it CR8 is written and nobody hears of it (K-TPR-3). */
static void
configure_tpr(struct soft_vcpu *v, bool exit_changed)
{
	v->cpu.intercepts &= ~CPU_INTERCEPT_CR8_WRITE;
	if (exit_changed)
		v->cpu.intercepts |= CPU_INTERCEPT_CR8_WRITE;
}

static int
kvcpu_configure(uint32_t machid, uint32_t cpuid, uint64_t op,
    const void *conf)
{
	union {
		struct nvmm_vcpu_conf_cpuid cpuid;
		struct nvmm_vcpu_conf_tpr tpr;
	} c;
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	if ((error = soft_opened()) != 0)
		return error;
	if (op != NVMM_VCPU_CONF_CPUID && op != NVMM_VCPU_CONF_TPR)
		return EINVAL;		/* K-CONF-1: before the ids */
	if ((error = soft_vcpu_get(machid, cpuid, &m, &v)) != 0)
		return error;
	error = soft_copy(&c, conf, op == NVMM_VCPU_CONF_CPUID ?
	    sizeof(c.cpuid) : sizeof(c.tpr));
	if (error != 0)
		;
	else if (op == NVMM_VCPU_CONF_CPUID)
		error = soft_cpuid_configure(v, &c.cpuid);
	else if ((m->model.profile->vendor->vcpu_conf_support &
	    NVMM_CAP_ARCH_VCPU_CONF_TPR) == 0)
		error = EINVAL;		/* K-CONF-8 */
	else
		configure_tpr(v, c.tpr.exit_changed);
	soft_vcpu_put(m, v);
	return error;
}

static int
kvcpu_getstate(uint32_t machid, uint32_t cpuid)
{
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	if ((error = soft_vcpu_get(machid, cpuid, &m, &v)) != 0)
		return error;
	soft_state_provide(v, v->page->comm.state_wanted);
	v->page->comm.state_wanted = 0;		/* K-COMM-5 */
	soft_vcpu_put(m, v);
	return 0;
}

/* ---- library ------------------------------------------------------------------ */

struct nvmm_comm_page *
soft_comm(const struct nvmm_machine *mach, const struct nvmm_vcpu *vcpu)
{
	/* The reference indexes without looking; a call for a machine or vCPU
	 * that is gone gets an errno here. */
	if (mach->pages == NULL || vcpu->cpuid >= SOFT_MAX_VCPUS)
		return NULL;
	return mach->pages[vcpu->cpuid];
}

int
nvmm_vcpu_create(struct nvmm_machine *mach, nvmm_cpuid_t cpuid,
    struct nvmm_vcpu *vcpu)
{
	struct soft_page *page = NULL;
	int error;

	if ((error = kvcpu_create(mach->machid, cpuid, &page)) != 0)
		return soft_return(error);
	if (mach->pages != NULL)
		mach->pages[cpuid] = &page->comm;
	/* L-VCPU-1: cbs stays as the caller left it. */
	vcpu->cpuid = cpuid;
	vcpu->state = &page->comm.state;
	vcpu->event = &page->comm.event;
	vcpu->exit = &page->exit;
	/* A version 1 client's structure ends before this member. */
	if (page->has_stop)
		vcpu->stop = &page->comm.stop;
	return 0;
}

int
nvmm_vcpu_destroy(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	int error;

	if ((error = kvcpu_destroy(mach->machid, vcpu->cpuid)) != 0)
		return soft_return(error);
	if (mach->pages != NULL)
		mach->pages[vcpu->cpuid] = NULL;
	return 0;
}

int
nvmm_vcpu_configure(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    uint64_t op, void *conf)
{
	if (op == NVMM_VCPU_CONF_CALLBACKS) {
		vcpu->cbs = *(struct nvmm_assist_callbacks *)conf;
		return 0;		/* L-VCPU-5 */
	}
	return soft_return(kvcpu_configure(mach->machid, vcpu->cpuid, op,
	    conf));
}

int
nvmm_vcpu_setstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    uint64_t flags)
{
	struct nvmm_comm_page *comm = soft_comm(mach, vcpu);

	if (comm == NULL)
		return soft_return(ENOENT);
	comm->state_commit |= flags;	/* L-ST-1 */
	comm->state_cached |= flags;
	return 0;
}

int
nvmm_vcpu_getstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    uint64_t flags)
{
	struct nvmm_comm_page *comm = soft_comm(mach, vcpu);

	if (comm == NULL) {
		struct soft_machine *m;
		struct soft_vcpu *v;
		int error = soft_vcpu_get(mach->machid, vcpu->cpuid, &m, &v);

		if (error == 0) {	/* some other machine's pages */
			soft_vcpu_put(m, v);
			error = ENOENT;
		}
		return soft_return(error);
	}
	if (SOFT_FAULT(soft_areas_model(mach), SOFT_F_STATE_REFETCH))
		comm->state_cached = 0;
	if ((flags & ~comm->state_cached) == 0)
		return 0;		/* L-ST-2 */
	comm->state_wanted = flags & ~comm->state_cached;
	return soft_return(kvcpu_getstate(mach->machid, vcpu->cpuid));
}

int
soft_assist_commit(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, bool done)
{
	const struct soft_model *model = soft_areas_model(mach);
	struct soft_page *page = (struct soft_page *)soft_comm(mach, vcpu);
	uint64_t flags = NVMM_X64_STATE_GPRS;

	/* L-IO-18: what else an instruction does as it ends. */
	if (vcpu->exit->exitstate.int_shadow &&
	    !SOFT_QUIRK(model, SOFT_Q_ASSIST_SHADOW)) {
		if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_INTR) == -1)
			return -1;
		vcpu->state->intr.int_shadow = 0;
		flags |= NVMM_X64_STATE_INTR;
	}
	/* A string operation that goes on keeps it (SDM 3B 17.3.1.1). */
	if (done && !SOFT_QUIRK(model, SOFT_Q_ASSIST_RF))
		vcpu->state->gprs[NVMM_X64_GPR_RFLAGS] &= ~SOFT_RFLAGS_RF;
	page->single_step = !SOFT_QUIRK(model, SOFT_Q_NO_SINGLE_STEP);
	return nvmm_vcpu_setstate(mach, vcpu, flags);
}

int
nvmm_vcpu_inject(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct nvmm_comm_page *comm = soft_comm(mach, vcpu);

	if (comm == NULL)
		return soft_return(ENOENT);
	comm->event_commit = true;	/* L-EVT-1 */
	return 0;
}

int
nvmm_vcpu_stop(struct nvmm_vcpu *vcpu)
{
	/* No lock and no errno on success: for signal handlers (L-STOP-1).
	 * .stop itself is not looked at, a version 1 client has none. */
	struct soft_page *page = (struct soft_page *)((char *)vcpu->state -
	    offsetof(struct soft_page, comm.state));

	if (!page->has_stop)
		return soft_return(ENOSYS);
	__atomic_store_n(&page->comm.stop, 1, __ATOMIC_RELEASE);
	return 0;
}

int
nvmm_soft_interrupt(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    unsigned checks, int stop)
{
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	error = soft_vcpu_get(mach->machid, vcpu->cpuid, &m, &v);
	if (error != 0)
		return soft_return(error);
	v->interrupt = checks;
	v->interrupt_stops = stop == 1 && v->page->has_stop;
	v->interrupt_stops_late = stop == 2 && v->page->has_stop;
	soft_vcpu_put(m, v);
	return 0;
}

int
nvmm_soft_diagnostic(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu,
    struct nvmm_soft_diagnostic *d)
{
	struct soft_machine *m;
	struct soft_vcpu *v;
	int error;

	error = soft_vcpu_get(mach->machid, vcpu->cpuid, &m, &v);
	if (error != 0)
		return soft_return(error);
	memset(d, 0, sizeof(*d));
	d->unimplemented = v->cpu.unimplemented;
	d->len = v->cpu.unimplemented_len;
	memcpy(d->bytes, v->cpu.unimplemented_bytes, sizeof(d->bytes));
	d->undecodable_mem = v->page->undecodable_mem;
	soft_vcpu_put(m, v);
	return 0;
}
