/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * nvmm_vcpu_dump: spec libnvmm 8.  The format promises nothing.
 */
#include <inttypes.h>
#include <stdio.h>

#include "internal.h"

int
nvmm_vcpu_dump(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	static const char *const gprs[] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"
	};
	static const char *const segs[] = {
		"es", "cs", "ss", "ds", "fs", "gs", "gdt", "idt", "ldt", "tr"
	};
	const struct nvmm_x64_state *st;
	size_t i;

	if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_ALL) == -1)
		return -1;
	st = vcpu->state;
	printf("vcpu %" PRIu32 "\n", vcpu->cpuid);
	for (i = 0; i < sizeof(gprs) / sizeof(gprs[0]); i++)
		printf("  %-6s 0x%016" PRIx64 "\n", gprs[i], st->gprs[i]);
	printf("  rip    0x%016" PRIx64 "\n  rflags 0x%016" PRIx64 "\n",
	    st->gprs[NVMM_X64_GPR_RIP], st->gprs[NVMM_X64_GPR_RFLAGS]);
	for (i = 0; i < NVMM_X64_NSEG; i++)
		printf("  %-3s sel 0x%04x base 0x%016" PRIx64
		    " limit 0x%08" PRIx32 " type %u l %u def %u\n", segs[i],
		    st->segs[i].selector, st->segs[i].base, st->segs[i].limit,
		    st->segs[i].attrib.type, st->segs[i].attrib.l,
		    st->segs[i].attrib.def);
	printf("  efer   0x%016" PRIx64 "\n", st->msrs[NVMM_X64_MSR_EFER]);
	printf("  cr0    0x%016" PRIx64 "\n", st->crs[NVMM_X64_CR_CR0]);
	printf("  cr3    0x%016" PRIx64 "\n", st->crs[NVMM_X64_CR_CR3]);
	printf("  cr4    0x%016" PRIx64 "\n", st->crs[NVMM_X64_CR_CR4]);
	printf("  cr8    0x%016" PRIx64 "\n", st->crs[NVMM_X64_CR_CR8]);
	fflush(stdout);
	return 0;
}
