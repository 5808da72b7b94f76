/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * nvmm_assist_mem: spec libnvmm 7.
 *
 * There is no decoder yet.  Until there is, no instruction is decodable,
 * which clients know as ENODEV (L-MEM-3); nvmm_soft_diagnostic() counts
 * them, so that a refusal of ours is not taken for libnvmm's.
 */
#include <errno.h>

#include "internal.h"

int
nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct soft_page *page;

	if (vcpu->exit->reason != NVMM_VCPU_EXIT_MEMORY)
		return soft_return(EINVAL);		/* L-MEM-1 */
	if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_GPRS |
	    NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS |
	    NVMM_X64_STATE_MSRS) == -1)
		return -1;
	page = (struct soft_page *)soft_comm(mach, vcpu);
	page->undecodable_mem++;
	return soft_return(ENODEV);
}
