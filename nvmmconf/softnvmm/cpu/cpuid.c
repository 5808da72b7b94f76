/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * CPUID (SDM 2A, CPUID; APM 3, appendix E).  A bit is set when what it
 * promises works here, and for no other reason.
 */
#include <string.h>

#include "internal.h"

/* Leaf 1 and 80000001 EDX. */
#define F_DE		(1u << 2)
#define F_PSE		(1u << 3)
#define F_TSC		(1u << 4)
#define F_MSR		(1u << 5)
#define F_PAE		(1u << 6)
#define F_MCE		(1u << 7)
#define F_CX8		(1u << 8)
#define F_APIC		(1u << 9)	/* every host's; a guest's is the emulator's */
#define F_SEP		(1u << 11)
#define F_SYSCALL	(1u << 11)	/* 80000001 */
#define F_PGE		(1u << 13)
#define F_CMOV		(1u << 15)
#define F_PAT		(1u << 16)
#define F_PSE36		(1u << 17)
#define F_CLFSH		(1u << 19)
#define F_NX		(1u << 20)	/* 80000001 */
#define F_MMXEXT	(1u << 22)	/* 80000001 */
#define F_MMX		(1u << 23)
#define F_FXSR		(1u << 24)
#define F_PAGE1G	(1u << 26)	/* 80000001 */
#define F_LM		(1u << 29)	/* 80000001 */
#define F_COMMON	(F_DE | F_PSE | F_TSC | F_MSR | F_PAE | F_MCE | F_CX8 |	\
	F_APIC | F_PGE | F_CMOV | F_PAT | F_PSE36 | F_MMX | F_FXSR)
/* Leaf 1 ECX. */
#define F_MONITOR	(1u << 3)
#define F_CX16		(1u << 13)
#define F_MOVBE		(1u << 22)
#define F_POPCNT	(1u << 23)
#define F_XSAVE		(1u << 26)
/* 80000001 ECX. */
#define F_LAHF64	(1u << 0)
#define F_LZCNT		(1u << 5)
#define F_PREFETCHW	(1u << 8)
/* Leaf 7. */
#define F_FSGSBASE	(1u << 0)	/* EBX */
#define F_BMI1		(1u << 3)
#define F_SMEP		(1u << 7)
#define F_BMI2		(1u << 8)
#define F_ADX		(1u << 19)
#define F_SMAP		(1u << 20)
#define F_CLFLUSHOPT	(1u << 23)
#define F_UMIP		(1u << 2)	/* ECX */
/* Leaf D, subleaf 1. */
#define F_XSAVEOPT	(1u << 0)
#define F_XGETBV1	(1u << 2)

#define CLFLUSH_LINE	(64u / 8 << 8)
#define XSAVE_SIZE	576u		/* the legacy area and the header */

#define PHYS_AND_LINEAR	(48u << 8 | PHYS_BITS)

static uint32_t
four(const char *s)
{
	return (uint32_t)(uint8_t)s[0] | (uint32_t)(uint8_t)s[1] << 8 |
	    (uint32_t)(uint8_t)s[2] << 16 | (uint32_t)(uint8_t)s[3] << 24;
}

static void
vendor(uint32_t out[4], uint32_t max, const char name[12])
{
	out[0] = max;
	out[1] = four(name);
	out[3] = four(name + 4);
	out[2] = four(name + 8);
}

/* What no vendor has in its own way. */
static void
common(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	static const char brand[48] = "softnvmm, an x86 interpreter";
	unsigned i;

	switch (leaf) {
	case 1:
		out[1] = CLFLUSH_LINE;
		out[2] = F_MONITOR | F_CX16 | F_MOVBE | F_POPCNT | F_XSAVE;
		out[3] = F_COMMON | F_SEP | F_CLFSH;
		break;
	case 7:
		if (subleaf != 0)
			break;
		out[1] = F_FSGSBASE | F_BMI1 | F_SMEP | F_BMI2 | F_ADX | F_SMAP |
		    F_CLFLUSHOPT;
		out[2] = F_UMIP;
		break;
	case 0xD:	/* x87 and SSE; what is enabled is the hypervisor's to say */
		if (subleaf == 0) {
			out[0] = 3;
			out[1] = out[2] = XSAVE_SIZE;
		} else if (subleaf == 1) {
			out[0] = F_XSAVEOPT | F_XGETBV1;
		}
		break;
	case 0x80000001:
		out[2] = F_LAHF64 | F_LZCNT | F_PREFETCHW;
		out[3] = F_SYSCALL | F_NX | F_PAGE1G | F_LM;
		break;
	case 0x80000002: case 0x80000003: case 0x80000004:
		for (i = 0; i < 4; i++)
			out[i] = four(brand + (leaf - 0x80000002) * 16 + i * 4);
		break;
	case 0x80000008:
		out[0] = PHYS_AND_LINEAR;
		break;
	default:
		break;
	}
}

static void
amd_leaf(uint32_t leaf, uint32_t out[4])
{
	switch (leaf) {
	case 0:
		vendor(out, 0xD, "AuthenticAMD");
		break;
	case 1:
		out[0] = 0x00000F00;		/* family 15, the first of AMD64 */
		break;
	case 0x80000000:
		vendor(out, 0x80000008, "AuthenticAMD");
		break;
	case 0x80000001:
		out[0] = 0x00000F00;
		out[3] |= F_COMMON | F_MMXEXT;
		break;
	default:
		break;
	}
}

/* Leaf 4 (SDM 2A, CPUID): one processor with its own caches of 64-byte lines. */
#define CACHE(type, level)	(1u << 8 | (level) << 5 | (type))
#define WAYS(n)			(((n) - 1) << 22 | 63u)
static const uint32_t intel_caches[][4] = {
	{ CACHE(1, 1), WAYS(8u), 63, 0 },	/* data, 32 KiB */
	{ CACHE(2, 1), WAYS(8u), 63, 0 },	/* code, 32 KiB */
	{ CACHE(3, 2), WAYS(4u), 1023, 0 },	/* 256 KiB */
	{ CACHE(3, 3), WAYS(16u), 8191, 0 },	/* 8 MiB */
};

/* Family 6, model 94: the first whose highest leaf is 16. */
static void
intel_leaf(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	switch (leaf) {
	case 0:
		vendor(out, 0x16, "GenuineIntel");
		break;
	case 1:
		out[0] = 0x000506E3;
		break;
	case 2:		/* TLBs; FF: caches are leaf 4's */
		out[0] = 0x76036301;
		out[1] = 0x00F0B5FF;
		out[3] = 0x00C30000;
		break;
	case 4:
		if (subleaf < sizeof(intel_caches) / sizeof(intel_caches[0]))
			memcpy(out, intel_caches[subleaf], sizeof(intel_caches[0]));
		break;
	case 0x15:	/* a crystal of 24 MHz, and 125/3 of it the TSC's 1 GHz */
		out[0] = 3;
		out[1] = 125;
		out[2] = 24000000;
		break;
	case 0x16:	/* base, maximum and bus, in MHz */
		out[0] = out[1] = 1000;
		out[2] = 100;
		break;
	case 0x80000000:
		out[0] = 0x80000008;
		break;
	case 0x80000006:	/* L2, as leaf 4 has it: 4 ways are code 4 */
		out[2] = 256u << 16 | 4u << 12 | 64;
		break;
	default:
		break;
	}
}

void
cpu_cpuid(enum cpu_vendor whose, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	memset(out, 0, 4 * sizeof(out[0]));
	common(leaf, subleaf, out);
	if (whose == CPU_INTEL)
		intel_leaf(leaf, subleaf, out);
	else
		amd_leaf(leaf, out);
}
