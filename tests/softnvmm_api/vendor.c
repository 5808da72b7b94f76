/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Whose processor a guest finds: what CPUID names, and what SYSENTER in 64-bit
 * mode does, which Intel has and AMD refuses (test_vendor.py).
 */
#include "scene.h"

#define TARGET	0x1800u

static void
cpuid(struct vm *vm, uint32_t leaf, uint64_t r[4])
{
	struct nvmm_x64_state *st = get_state(vm, ALL);

	st->gprs[NVMM_X64_GPR_RAX] = leaf;
	st->gprs[NVMM_X64_GPR_RCX] = 0;
	st->gprs[NVMM_X64_GPR_RIP] = ENTRY;
	put_state(vm, NVMM_X64_STATE_GPRS);
	SAME(NVMM_VCPU_EXIT_HALTED, run(vm));
	st = get_state(vm, ALL);
	r[0] = st->gprs[NVMM_X64_GPR_RAX];
	r[1] = st->gprs[NVMM_X64_GPR_RBX];
	r[2] = st->gprs[NVMM_X64_GPR_RCX];
	r[3] = st->gprs[NVMM_X64_GPR_RDX];
}

TEST(vendor)
{
	struct nvmm_x64_state *st;
	struct vm vm;
	uint64_t r[4];

	scene(&vm, CODE("\x0F\xA2\xF4"));	/* cpuid; hlt */
	cpuid(&vm, 0, r);
	printf("%.4s%.4s%.4s %llx\n", (char *)&r[1], (char *)&r[3], (char *)&r[2],
	    (unsigned long long)r[0]);
	cpuid(&vm, 0x80000000, r);
	printf("%llx\n", (unsigned long long)r[0]);

	memcpy(vm.ram + ENTRY, "\x0F\x34", 2);	/* sysenter */
	vm.ram[TARGET] = 0xF4;
	long_mode(&vm);				/* no IDT: #UD is SHUTDOWN */
	st = get_state(&vm, ALL);
	st->gprs[NVMM_X64_GPR_RIP] = ENTRY;
	st->msrs[NVMM_X64_MSR_SYSENTER_CS] = 8;
	st->msrs[NVMM_X64_MSR_SYSENTER_EIP] = TARGET;
	put_state(&vm, NVMM_X64_STATE_GPRS | NVMM_X64_STATE_MSRS);
	printf("%s\n", run(&vm) == NVMM_VCPU_EXIT_HALTED ? "sysenter" : "#UD");
	vm_close(&vm);
}
