/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What softnvmm offers beside libnvmm(3): which hypervisor it is today, and
 * what it could not do.  No other libnvmm has these; a client that wants to
 * run on any of them looks them up with dlsym(3) or does without.
 *
 * Environment variables choose the hypervisor.  They are read at
 * nvmm_init(), nvmm_capability() and nvmm_machine_create(); a machine keeps
 * what it was created with.
 *
 *	NVMM_SOFT_PROFILE=name		which real version; default v2-svm
 *	NVMM_SOFT_QUIRK=name[,-name]	quirks beside the profile's; with a
 *					minus sign, without that one
 *	NVMM_SOFT_FAULT=name[,name]	bugs to switch on; default none
 *	NVMM_SOFT_CHAOS=seed		a decimal number: runs end early and
 *					stops are seen late, as a kernel may
 *	NVMM_SOFT_HOST=file		what the machine below answers where
 *					NVMM hands that to the guest; leaf 0
 *					also says whose processor it is
 *
 * The file has a line for each value, in hexadecimal; '#' begins a comment:
 *
 *	cpuid LEAF SUBLEAF EAX EBX ECX EDX	with one such line, leaves that
 *						have none read 0
 *	mxcsr_mask MASK
 *	misc_enable VALUE		MSR 0x1A0, on Intel
 *	arch_capabilities VALUE		MSR 0x10A, on Intel; without it #GP
 *
 * An unknown name, a quirk that can change nothing on the profile's backend, a bad
 * number or a bad file makes those three calls fail with EINVAL: nvmm_init() says why
 * on standard error, and see nvmm_soft_problem().
 */
#ifndef SOFTNVMM_H
#define SOFTNVMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct nvmm_machine;
struct nvmm_vcpu;

enum nvmm_soft_kind {
	NVMM_SOFT_PROFILE,	/* values of NVMM_SOFT_PROFILE */
	NVMM_SOFT_QUIRK,	/* values of NVMM_SOFT_QUIRK: known deviations */
	NVMM_SOFT_FAULT		/* values of NVMM_SOFT_FAULT */
};

/* The index-th name of a kind and what it means.  -1 and ENOENT at the end. */
int nvmm_soft_list(enum nvmm_soft_kind kind, size_t index, const char **name,
    const char **summary);

/* 1 if the profile has that quirk, else 0.  -1 and ENOENT: no such name. */
int nvmm_soft_has(const char *profile, const char *quirk);

/*
 * Ends a run of this vCPU at the checks-th return check from now on (1: the next
 * run does not enter the guest), as a signal would; with `stop` 1 as if the stop
 * word had been set just before it, and with 2 as if it were set just after it by
 * another thread.  For tests of what is lost there.
 */
int nvmm_soft_interrupt(struct nvmm_machine *, struct nvmm_vcpu *,
    unsigned checks, int stop);

/* Why this thread's last nvmm_init(), nvmm_root_init(), nvmm_capability() or
 * nvmm_machine_create() failed, if the reason is one of softnvmm's own (a
 * variable holds an unknown name); else "". */
const char *nvmm_soft_problem(void);

/* What this vCPU met that softnvmm does not know.  Counted since the vCPU was
 * created; reading waits while the vCPU runs. */
struct nvmm_soft_diagnostic {
	uint64_t unimplemented;	/* instructions that gave #UD for that reason; what
				 * CPUID does not show is #UD by right */
	uint8_t bytes[15];	/* the last of them */
	uint8_t len;
	uint64_t undecodable_mem;	/* nvmm_assist_mem(): not decodable, as in libnvmm */
};
int nvmm_soft_diagnostic(struct nvmm_machine *, struct nvmm_vcpu *,
    struct nvmm_soft_diagnostic *);

#ifdef __cplusplus
}
#endif

#endif /* SOFTNVMM_H */
