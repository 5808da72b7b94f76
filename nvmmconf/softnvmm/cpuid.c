/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * CPUID: spec kernel 7.  The host's answer (host.c) is clamped and edited by
 * the kernel, and the caller's table has the last word.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

enum { A, B, C, D };		/* out[] of cpu_cpuid() */

#define LEAF1_ECX		0x6ED83203u
#define LEAF1_ECX_PCID		(1u << 17)
#define LEAF1_ECX_OSXSAVE	(1u << 27)
#define LEAF1_ECX_HYPERVISOR	(1u << 31)
#define LEAF1_EDX		0x9F8BAB7Fu
#define LEAF7_EBX_INVPCID	(1u << 10)
#define LEAF7_ECX		0x1A000705u
#define EXT1_ECX		0x006309F3u
#define EXT7_EDX		0x00000100u
#define EXT8_EBX		0x00000205u
#define EXT8_ECX_ID_SIZE	(7u << 12)

/* The legacy area and the 64-byte header behind it, which XSAVE writes whatever
 * XCR0 has (SDM 1 13.4); and what NVMM says of x87 alone. */
#define XSAVE_SIZE		576u
#define XSAVE_SIZE_X87		172u

static void
zero(uint32_t out[4])
{
	memset(out, 0, 4 * sizeof(out[0]));
}

static uint32_t
lower(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* K-CPUID-11, K-CPUID-12. */
static void
edit_xsave(const struct soft_vcpu *v, uint64_t subleaf, uint32_t out[4])
{
	switch (subleaf) {
	case 0:
		out[A] = (uint32_t)SOFT_XCR0_MASK;
		out[B] = (v->cpu.xcr0 & 2) == 0 &&
		    SOFT_QUIRK(v->model, SOFT_Q_CPUID_X87_SIZE) ?
		    XSAVE_SIZE_X87 : XSAVE_SIZE;
		out[C] = XSAVE_SIZE;
		if (SOFT_FAULT(v->model, SOFT_F_CPUID_XSAVE))
			out[C] -= 64;
		out[D] = (uint32_t)(SOFT_XCR0_MASK >> 32);
		break;
	case 1:
		out[A] &= 0x7;
		out[B] = out[C] = out[D] = 0;
		break;
	default:
		zero(out);
		break;
	}
}

static bool
host_has_invpcid(const struct soft_vcpu *v)
{
	uint32_t out[4];

	soft_host_cpuid(v->model->host, 7, 0, out);
	return v->model->profile->vendor->intel && (out[B] & LEAF7_EBX_INVPCID);
}

/* K-CPUID-10: two levels, of which only the upper one counts anything. */
static void
edit_topology(const struct soft_vcpu *v, uint64_t subleaf, uint32_t out[4])
{
	unsigned n = soft_vcpus_count(v->machine), log = 0;

	zero(out);
	if (subleaf > 1)
		return;
	while (n >> (log + 1) != 0)
		log++;
	out[A] = subleaf == 0 ? 0 : log;
	out[B] = subleaf == 0 ? 0 : n;
	out[C] = (uint32_t)subleaf | ((uint32_t)subleaf + 1) << 8;
	out[D] = v->id;
}

/* Leaf 1: as the profile shows it. */
static void
edit_features(const struct soft_vcpu *v, uint32_t out[4])
{
	const struct soft_profile *p = v->model->profile;

	out[B] &= 0x00FFFFFF;
	if (!SOFT_FAULT(v->model, SOFT_F_CPUID_ID))
		out[B] |= v->id << 24;
	if (p->cpuid_counts)
		out[B] = (out[B] & 0xFF00FFFF) |
		    soft_vcpus_count(v->machine) << 16;
	out[C] = (out[C] & LEAF1_ECX) | LEAF1_ECX_HYPERVISOR;
	if (host_has_invpcid(v))
		out[C] |= LEAF1_ECX_PCID;
	if ((v->cpu.cr4 & SOFT_CR4_OSXSAVE) == 0)
		out[C] &= ~LEAF1_ECX_OSXSAVE;
	if (SOFT_FAULT(v->model, SOFT_F_CPUID_OSXSAVE))
		out[C] |= LEAF1_ECX_OSXSAVE;
	out[D] &= LEAF1_EDX;
}

/* Leaf 4 of DF's VMX: one package, and how many share a cache. */
static void
edit_caches(const struct soft_vcpu *v, uint32_t out[4])
{
	unsigned n = soft_vcpus_count(v->machine), level = out[A] >> 5 & 7;

	if (!v->model->profile->cpuid_counts || (out[A] & 0x1F) == 0)
		return;
	out[A] &= 0x3FFF;
	out[A] |= (n - 1) << 26;
	if (level >= 3)
		out[A] |= (n - 1) << 14;
}

static void
edit_basic(const struct soft_vcpu *v, uint32_t leaf, uint64_t subleaf,
    uint32_t max, uint32_t out[4])
{
	const struct soft_profile *p = v->model->profile;

	switch (leaf) {
	case 0x0:
		out[A] = max;
		break;
	case 0x1:
		edit_features(v, out);
		break;
	case 0x2:			/* of Intel: the host's, as they are */
	case 0x15:
	case 0x16:
		if (!p->vendor->intel)
			zero(out);
		break;
	case 0x4:
		if (p->vendor->intel)
			edit_caches(v, out);
		else
			zero(out);
		break;
	case 0xB:
		if (p->vendor->intel)
			edit_topology(v, subleaf, out);
		else
			zero(out);
		break;
	case 0x7:
		if (subleaf != 0) {
			zero(out);
			break;
		}
		out[A] = 0;
		out[B] &= p->cpuid_7_ebx |
		    (host_has_invpcid(v) ? LEAF7_EBX_INVPCID : 0);
		out[C] &= LEAF7_ECX;
		out[D] &= p->cpuid_7_edx;
		break;
	case 0xD:
		edit_xsave(v, subleaf, out);
		break;
	default:		/* K-CPUID-8, K-CPUID-9 */
		zero(out);
		break;
	}
}

static void
edit_hypervisor(const struct soft_vcpu *v, uint32_t leaf, uint32_t out[4])
{
	if (leaf == 0x40000000) {			/* K-CPUID-13, -14 */
		out[A] = SOFT_FAULT(v->model, SOFT_F_CPUID_HV) ? 0 :
		    v->model->profile->cpuid_hypervisor_max;
		memcpy(&out[B], "___ ", 4);
		memcpy(&out[C], "NVMM", 4);
		memcpy(&out[D], " ___", 4);
		return;
	}
	if (leaf == 0x40000010) {
		out[B] = out[C] = out[D] = 0;		/* K-CPUID-15 */
		if (!SOFT_QUIRK(v->model, SOFT_Q_CPUID_KHZ_RAW))
			out[A] = 1000000;	/* kHz: soft_tsc_now() */
		return;
	}
	if (!SOFT_QUIRK(v->model, SOFT_Q_CPUID_HV_RAW))
		zero(out);
}

static void
edit_extended(const struct soft_vcpu *v, uint32_t leaf, uint32_t max,
    uint32_t out[4])
{
	switch (leaf) {
	case 0x80000000:
		out[A] = max;
		break;
	case 0x80000001:				/* K-CPUID-17 */
		out[C] &= EXT1_ECX;
		out[D] &= v->model->profile->cpuid_80000001_edx;
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
	case 0x80000005:
	case 0x80000006:
	case 0x80000019:
	case 0x8000001A:
	case 0x8000001D:
	case 0x8000001E:
		break;
	case 0x80000007:
		out[A] = out[B] = out[C] = 0;
		out[D] &= EXT7_EDX;
		break;
	case 0x80000008:				/* K-CPUID-19 */
		out[B] &= EXT8_EBX;
		if (v->model->profile->cpuid_counts)
			out[C] = v->model->profile->vendor->intel ? 0 :
			    EXT8_ECX_ID_SIZE |
			    (soft_vcpus_count(v->machine) - 1);
		out[D] = 0;
		break;
	default:
		zero(out);
		break;
	}
}

/* Host's answer, clamped and edited.  64-bit input: SOFT_Q_CPUID_64BIT. */
static void
answer(const struct soft_vcpu *v, uint64_t leaf, uint64_t subleaf,
    uint32_t out[4])
{
	const struct soft_profile *p = v->model->profile;
	uint32_t host[4], basic, extended;

	soft_host_cpuid(v->model->host, 0, 0, host);
	basic = lower(host[A], p->vendor->cpuid_basic_max);
	soft_host_cpuid(v->model->host, 0x80000000, 0, host);
	extended = lower(host[A], p->vendor->cpuid_extended_max);

	if ((leaf < 0x40000000 && leaf > basic) ||
	    (leaf >= 0x40000000 && leaf < 0x80000000 &&
	    leaf > p->cpuid_hypervisor_max) ||
	    (leaf >= 0x80000000 && leaf > extended)) {
		leaf = basic;				/* K-CPUID-21 */
		if (SOFT_FAULT(v->model, SOFT_F_CPUID_CLAMP)) {
			zero(out);
			return;
		}
	}

	soft_host_cpuid(v->model->host, (uint32_t)leaf, (uint32_t)subleaf, out);
	if (leaf < 0x40000000)
		edit_basic(v, (uint32_t)leaf, subleaf, basic, out);
	else if (leaf < 0x80000000)
		edit_hypervisor(v, (uint32_t)leaf, out);
	else
		edit_extended(v, (uint32_t)leaf, extended, out);
}

static void
exit_cpuid(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	soft_exit_insn(e, NVMM_VCPU_EXIT_CPUID,		/* K-CPUID-24 */
	    SOFT_FAULT(v->model, SOFT_F_CPUID_NPC) ? 0 : ce->next_rip);
}

bool
soft_exit_cpuid(struct soft_vcpu *v, const struct cpu_exit *ce,
    struct nvmm_vcpu_exit *e)
{
	uint64_t leaf = v->cpu.gpr[CPU_RAX], subleaf = v->cpu.gpr[CPU_RCX];
	const struct nvmm_vcpu_conf_cpuid *conf = NULL;
	uint64_t upper;
	uint32_t out[4];
	size_t i;

	if (!SOFT_QUIRK(v->model, SOFT_Q_CPUID_64BIT) &&
	    !SOFT_FAULT(v->model, SOFT_F_CPUID_LEAF)) {
		leaf = (uint32_t)leaf;
		subleaf = (uint32_t)subleaf;
	}
	answer(v, leaf, subleaf, out);

	/* The leaf that was asked for, any subleaf (K-CPUID-23). */
	for (i = 0; i < SOFT_MAX_CPUIDS; i++) {
		if (v->cpuids[i].used && v->cpuids[i].conf.leaf == leaf)
			conf = &v->cpuids[i].conf;
	}
	if (conf != NULL && conf->mask &&		/* K-CPUID-22 */
	    !SOFT_FAULT(v->model, SOFT_F_CPUID_MASK)) {
		out[A] = (out[A] & ~conf->u.mask.del.eax) | conf->u.mask.set.eax;
		out[B] = (out[B] & ~conf->u.mask.del.ebx) | conf->u.mask.set.ebx;
		out[C] = (out[C] & ~conf->u.mask.del.ecx) | conf->u.mask.set.ecx;
		out[D] = (out[D] & ~conf->u.mask.del.edx) | conf->u.mask.set.edx;
	}
	if (leaf == 1 && SOFT_FAULT(v->model, SOFT_F_CPUID_ORDER))
		edit_features(v, out);
	if (conf != NULL && conf->exit &&
	    !SOFT_QUIRK(v->model, SOFT_Q_CPUID_EXIT_LATE)) {
		exit_cpuid(v, ce, e);
		return true;
	}
	upper = SOFT_FAULT(v->model, SOFT_F_CPUID_UPPER) ?
	    v->cpu.gpr[CPU_RAX] & ~(uint64_t)UINT32_MAX : 0;
	v->cpu.gpr[CPU_RAX] = out[A] | upper;		/* K-CPUID-26 */
	v->cpu.gpr[CPU_RBX] = out[B];
	v->cpu.gpr[CPU_RCX] = out[C];
	v->cpu.gpr[CPU_RDX] = out[D];

	if (conf != NULL && conf->exit) {		/* K-CPUID-25 */
		exit_cpuid(v, ce, e);
		return true;
	}
	cpu_advance(&v->cpu, ce->next_rip);
	return false;
}

/* Kernel spec 6. */
int
soft_cpuid_configure(struct soft_vcpu *v,
    const struct nvmm_vcpu_conf_cpuid *conf)
{
	struct soft_cpuid *slot = NULL;
	size_t i;

	if (conf->mask && conf->exit &&
	    !SOFT_FAULT(v->model, SOFT_F_CONF_BOTH))
		return EINVAL;
	if (conf->mask && (
	    (conf->u.mask.set.eax & conf->u.mask.del.eax) != 0 ||
	    (conf->u.mask.set.ebx & conf->u.mask.del.ebx) != 0 ||
	    (conf->u.mask.set.ecx & conf->u.mask.del.ecx) != 0 ||
	    (conf->u.mask.set.edx & conf->u.mask.del.edx) != 0))
		return EINVAL;

	for (i = 0; i < SOFT_MAX_CPUIDS; i++) {
		if (v->cpuids[i].used && v->cpuids[i].conf.leaf == conf->leaf)
			break;
	}
	if (i < SOFT_MAX_CPUIDS)
		slot = &v->cpuids[i];
	if (!conf->mask && !conf->exit) {		/* K-CONF-7 */
		if (slot != NULL)
			slot->used = false;
		return 0;
	}
	/* The last one is not for a new leaf: SOFT_F_CONF_SLOTS. */
	for (i = SOFT_FAULT(v->model, SOFT_F_CONF_SLOTS) ? 1 : 0;
	    slot == NULL && i < SOFT_MAX_CPUIDS; i++) {
		if (!v->cpuids[i].used)
			slot = &v->cpuids[i];
	}
	if (slot == NULL)
		return ENOBUFS;				/* K-CONF-5 */
	slot->used = true;
	slot->conf = *conf;
	return 0;
}
