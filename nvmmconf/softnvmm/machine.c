/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Machines: spec libnvmm 4.2, kernel 2.
 *
 * The table lives as long as the process, so that a stale id is answered
 * with ENOENT and never touches freed memory.  Ids are lowest-free, but
 * within this process only (the kernel's are the whole system's).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

static struct soft_machine machines[SOFT_MAX_MACHINES];
static bool allocated[SOFT_MAX_MACHINES];	/* under table_lock */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void
table_init(void)
{
	pthread_rwlockattr_t attr;
	size_t i;

	/* A vCPU that runs again and again must not keep hva_map out. */
	pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
	pthread_rwlockattr_setkind_np(&attr,
	    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
	for (i = 0; i < SOFT_MAX_MACHINES; i++) {
		pthread_rwlock_init(&machines[i].lock, &attr);
		pthread_rwlock_init(&machines[i].map_lock, &attr);
		pthread_mutex_init(&machines[i].vcpus_lock, NULL);
		machines[i].id = (uint32_t)i;
	}
	pthread_rwlockattr_destroy(&attr);
}

int
soft_machine_get(uint32_t machid, bool exclusive, struct soft_machine **out)
{
	struct soft_machine *m;
	int error;

	if ((error = soft_opened()) != 0)
		return error;
	if (machid >= SOFT_MAX_MACHINES)
		return EINVAL;
	pthread_once(&table_once, table_init);
	m = &machines[machid];
	if (exclusive)
		pthread_rwlock_wrlock(&m->lock);
	else
		pthread_rwlock_rdlock(&m->lock);
	if (!m->present) {
		pthread_rwlock_unlock(&m->lock);
		return ENOENT;
	}
	*out = m;
	return 0;
}

void
soft_machine_put(struct soft_machine *m)
{
	pthread_rwlock_unlock(&m->lock);
}

static int
kmachine_create(const struct soft_model *model, uint32_t *machid)
{
	struct soft_machine *m;
	size_t i;
	int error;

	pthread_once(&table_once, table_init);
	pthread_mutex_lock(&table_lock);
	for (i = 0; i < SOFT_MAX_MACHINES && allocated[i]; i++)
		continue;
	if (i == 0 && SOFT_FAULT(model, SOFT_F_MACHINE_ID))
		for (i = SOFT_MAX_MACHINES - 1; i > 0 && allocated[i]; i--)
			continue;
	if (i < SOFT_MAX_MACHINES)
		allocated[i] = true;
	pthread_mutex_unlock(&table_lock);
	if (i == SOFT_MAX_MACHINES)
		return ENOBUFS;

	m = &machines[i];
	pthread_rwlock_wrlock(&m->lock);
	m->pid = soft_owner();
	m->time = time(NULL);
	m->model = *model;
	error = soft_memory_create(m);
	m->present = error == 0;
	pthread_rwlock_unlock(&m->lock);
	if (error != 0) {
		pthread_mutex_lock(&table_lock);
		allocated[i] = false;
		pthread_mutex_unlock(&table_lock);
	}
	*machid = (uint32_t)i;
	return error;
}

static int
kmachine_destroy(uint32_t machid)
{
	struct soft_machine *m;
	int error;

	/* K-MACH-6: waits until every run has returned. */
	if ((error = soft_machine_get(machid, true, &m)) != 0)
		return error;
	soft_vcpus_destroy(m);
	soft_memory_destroy(m);
	m->present = false;
	soft_machine_put(m);

	pthread_mutex_lock(&table_lock);
	allocated[machid] = false;
	pthread_mutex_unlock(&table_lock);
	return 0;
}

int
nvmm_machine_create(struct nvmm_machine *mach)
{
	struct nvmm_comm_page **pages;
	struct soft_areas *areas;
	struct soft_model model;
	uint32_t machid = 0;
	int error;

	soft_problem_clear();
	if ((error = soft_opened()) != 0 ||
	    (error = soft_model_read(&model)) != 0)
		return soft_return(error);

	areas = soft_areas_create(&model);
	pages = calloc(SOFT_MAX_VCPUS, sizeof(*pages));
	error = areas == NULL || pages == NULL ? ENOMEM :
	    kmachine_create(&model, &machid);
	if (error != 0) {
		/* L-MACH-1: the caller's structure stays as it was. */
		soft_areas_destroy(areas);
		free(pages);
		return soft_return(error);
	}
	memset(mach, 0, sizeof(*mach));
	mach->machid = machid;
	mach->pages = pages;
	mach->areas = areas;
	return 0;
}

int
nvmm_machine_destroy(struct nvmm_machine *mach)
{
	int error;

	if ((error = kmachine_destroy(mach->machid)) != 0)
		return soft_return(error);
	/* L-MACH-2: comm pages of vCPUs not destroyed before stay mapped.  The
	 * pointers are cleared, so that a late call finds ENOENT, not freed
	 * memory. */
	soft_areas_destroy(mach->areas);
	free(mach->pages);
	mach->areas = NULL;
	mach->pages = NULL;
	return 0;
}

int
nvmm_machine_configure(struct nvmm_machine *mach, uint64_t op, void *conf)
{
	int error;

	/* L-MACH-4: there is no operation on x86, and that is told before the
	 * machine is looked up (kernel spec 2.2). */
	(void)mach;
	(void)op;
	(void)conf;
	error = soft_opened();
	return soft_return(error != 0 ? error : EINVAL);
}
