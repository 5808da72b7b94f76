/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Opening: the one descriptor of the process, and the capability
 * (spec libnvmm 4.1, kernel 1).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* L-INIT-1: opened once, never closed, by whoever came first (L-INIT-3). */
static struct {
	pthread_mutex_t lock;
	bool opened;
	pid_t owner;
} library = { .lock = PTHREAD_MUTEX_INITIALIZER };

int
soft_return(int error)
{
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

int
soft_opened(void)
{
	return __atomic_load_n(&library.opened, __ATOMIC_ACQUIRE) ? 0 : EBADF;
}

pid_t
soft_owner(void)
{
	return library.owner;
}

int
soft_copy(void *to, const void *from, size_t size)
{
	const ssize_t all = (ssize_t)size;
	int ends[2], error = 0;

	/*
	 * Through a pipe, which has room for it: read and write say EFAULT
	 * of an address that is not the caller's, where memcpy would die.
	 */
	if (to == NULL || from == NULL)
		return EFAULT;
	if (pipe(ends) != 0)
		return errno;
	if (write(ends[1], from, size) != all || read(ends[0], to, size) != all)
		error = EFAULT;
	close(ends[0]);
	close(ends[1]);
	return error;
}

static int
library_open(bool root)
{
	struct soft_model model;
	int error;

	/* Told even when open already: a wrong name is the caller's mistake. */
	if ((error = soft_model_read(&model)) != 0) {
		fprintf(stderr, "softnvmm: %s\n", nvmm_soft_problem());
		return soft_return(error);
	}
	pthread_mutex_lock(&library.lock);
	if (!library.opened) {
		library.owner = root ? 0 : getpid();
		__atomic_store_n(&library.opened, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&library.lock);
	return 0;
}

int
nvmm_init(void)
{
	return library_open(false);
}

int
nvmm_root_init(void)
{
	return library_open(true);
}

int
nvmm_capability(struct nvmm_capability *cap)
{
	struct soft_model model;
	int error;

	soft_problem_clear();
	if ((error = soft_opened()) != 0 ||
	    (error = soft_model_read(&model)) != 0)
		return soft_return(error);

	memset(cap, 0, sizeof(*cap));
	cap->version = model.profile->version;
	cap->state_size = sizeof(struct nvmm_vcpu_state);
	cap->max_machines = SOFT_MAX_MACHINES;
	cap->max_vcpus = model.profile->max_vcpus;
	cap->max_ram = model.profile->max_ram;
	cap->arch.vcpu_conf_support = model.profile->vendor->vcpu_conf_support;
	cap->arch.xcr0_mask = SOFT_XCR0_MASK;
	cap->arch.mxcsr_mask = model.host->mxcsr_mask;
	cap->arch.conf_cpuid_maxops = SOFT_MAX_CPUIDS;
	return 0;
}
