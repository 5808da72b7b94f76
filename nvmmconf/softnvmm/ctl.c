/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * nvmm_ctl: spec libnvmm 9.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

static int
kctl(int op, void *data, size_t size)
{
	struct nvmm_ctl_mach_info info;
	struct soft_machine *m;
	int error;

	if ((error = soft_opened()) != 0)
		return error;
	/* Order: kernel spec 2.2. */
	if (op != NVMM_CTL_MACH_INFO || size != sizeof(info))
		return EINVAL;
	if ((error = soft_copy(&info, data, sizeof(info))) != 0)
		return error;
	if ((error = soft_machine_get(info.machid, true, &m)) != 0)
		return error;
	info.nvcpus = soft_vcpus_count(m) +
	    SOFT_FAULT(&m->model, SOFT_F_CTL_COUNT);
	info.nram = soft_memory_size(m);
	info.pid = m->pid;
	info.time = m->time;
	soft_machine_put(m);
	return soft_copy(data, &info, sizeof(info));
}

int
nvmm_ctl(int op, void *data, size_t size)
{
	return soft_return(kctl(op, data, size));
}
