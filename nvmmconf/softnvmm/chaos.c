/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Chaos: NVMM_SOFT_CHAOS=seed makes a run do what a kernel may do and a lazy
 * client does not expect.  Each vCPU draws from a sequence of its own, which
 * depends on the seed, its id and what it has executed, never on time: the
 * same seed gives the same run.
 *
 * What may happen (spec kernel 9): the run returns NONE before it enters the
 * guest (K-RUN-6), or after any number of instructions and any exit that was
 * dealt with in the kernel (K-RUN-2), or in place of an exit that the guest
 * takes again (L-RUN-2; version 2); a stop is seen at once or later (L-STOP-4a).
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

int
soft_chaos_read(struct soft_model *model)
{
	const char *text = getenv("NVMM_SOFT_CHAOS");
	char *end;

	model->chaos = false;
	if (text == NULL || *text == '\0')
		return 0;
	errno = 0;
	model->chaos_seed = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0) {
		soft_problem("NVMM_SOFT_CHAOS: '%.80s' is no decimal number",
		    text);
		return EINVAL;
	}
	model->chaos = true;
	return 0;
}

void
soft_chaos_begin(struct soft_vcpu *v)
{
	v->chaos = v->model->chaos_seed * UINT64_C(0x9E3779B97F4A7C15) + v->id;
}

/* 0 to n - 1: splitmix64. */
static uint32_t
draw(struct soft_vcpu *v, uint32_t n)
{
	uint64_t x = v->chaos += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (uint32_t)((x ^ (x >> 31)) >> 32) % n;
}

uint32_t
soft_chaos_slice(struct soft_vcpu *v, uint32_t most)
{
	if (!v->model->chaos)
		return most;
	/* Mostly a few instructions, at times all. */
	switch (draw(v, 4)) {
	case 0:
		return 1 + draw(v, 4);
	case 1:
		return 1 + draw(v, 64);
	case 2:
		return 1 + draw(v, most);
	default:
		return most;
	}
}

bool
soft_chaos_hides_stop(struct soft_vcpu *v)
{
	return v->model->chaos && draw(v, 2) == 0;
}

static bool
comes_again(uint64_t reason)
{
	switch (reason) {
	case NVMM_VCPU_EXIT_MEMORY:
	case NVMM_VCPU_EXIT_IO:
	case NVMM_VCPU_EXIT_RDMSR:
	case NVMM_VCPU_EXIT_WRMSR:
	case NVMM_VCPU_EXIT_MONITOR:
	case NVMM_VCPU_EXIT_MWAIT:
		return true;
	default:
		return false;
	}
}

bool
soft_chaos_returns(struct soft_vcpu *v, bool done, uint64_t reason)
{
	if (!v->model->chaos || draw(v, 8) != 0)
		return false;
	return !done || (comes_again(reason) &&
	    SOFT_QUIRK(v->model, SOFT_Q_RETURN_OVERWRITES));
}
