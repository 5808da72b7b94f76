/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * NVMM_SOFT_CHAOS: what it may do and what it may not.
 */
#include "scene.h"

/* again: inc bx; out 0x80,al; loop again; hlt */
#define LOOP	"\x43\xE6\x80\xE2\xFB\xF4"

TEST(bad_seeds)
{
	static const char *const bad[] = {
		"x", "-1", "+1", "0x10", "1 ", " 1", "1,2",
		"99999999999999999999999"
	};
	struct nvmm_capability cap;
	struct nvmm_machine mach;
	size_t i;

	CHECK(nvmm_init() == 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("NVMM_SOFT_CHAOS", bad[i], 1);
		FAILS(EINVAL, nvmm_init());
		FAILS(EINVAL, nvmm_capability(&cap));
		FAILS(EINVAL, nvmm_machine_create(&mach));
		CHECK(strstr(nvmm_soft_problem(), "NVMM_SOFT_CHAOS") != NULL);
		CHECK(strstr(nvmm_soft_problem(), bad[i]) != NULL);
	}
	setenv("NVMM_SOFT_CHAOS", "18446744073709551615", 1);
	SAME(0, nvmm_machine_create(&mach));
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

/* Prints every return of run: with a seed, always the same. */
TEST(trace)
{
	struct vm vm;
	unsigned none = 0, io = 0;

	scene(&vm, CODE(LOOP));
	set_gpr(&vm, NVMM_X64_GPR_RCX, 40);
	do {
		CHECK(nvmm_vcpu_run(&vm.mach, &vm.vcpu) == 0);
		see("reason", vm.vcpu.exit->reason);
		see("rip", gpr(&vm, NVMM_X64_GPR_RIP));
		none += vm.vcpu.exit->reason == NVMM_VCPU_EXIT_NONE;
		if (vm.vcpu.exit->reason == NVMM_VCPU_EXIT_IO) {
			io++;
			handle(&vm);
		}
		CHECK(none < 10000);
	} while (vm.vcpu.exit->reason != NVMM_VCPU_EXIT_HALTED);
	SAME(40, io);				/* none lost, none twice */
	SAME(40, gpr(&vm, NVMM_X64_GPR_RBX));
	SAME(0, gpr(&vm, NVMM_X64_GPR_RCX));
	SAME(ENTRY + 6, gpr(&vm, NVMM_X64_GPR_RIP));
	if (getenv("NVMM_SOFT_CHAOS") != NULL)
		CHECK(none > 0);
	else
		SAME(0, none);
	vm_close(&vm);
}

/* A stop is used up by the run that it ends or by the exit that came first. */
TEST(stop_is_seen)
{
	struct vm vm;
	unsigned runs = 0, stopped = 0;

	scene(&vm, CODE("\xEB\xFE"));
	while (stopped < 20 && runs < 10000) {
		CHECK(nvmm_vcpu_stop(&vm.vcpu) == 0);
		CHECK(nvmm_vcpu_run(&vm.mach, &vm.vcpu) == 0);
		SAME(0, *vm.vcpu.stop);
		runs++;
		if (vm.vcpu.exit->reason == NVMM_VCPU_EXIT_STOPPED)
			stopped++;
		else
			SAME(NVMM_VCPU_EXIT_NONE, vm.vcpu.exit->reason);
	}
	SAME(20, stopped);
	vm_close(&vm);
}

/* vCPUs of one machine do not run in step. */
TEST(vcpus_differ)
{
	struct nvmm_vcpu other;
	unsigned i, same = 0;
	struct vm vm;

	scene(&vm, CODE("\x43\xEB\xFD"));		/* inc bx; again */
	CHECK(nvmm_vcpu_create(&vm.mach, 1, &other) == 0);
	*other.state = *get_state(&vm, ALL);
	CHECK(nvmm_vcpu_setstate(&vm.mach, &other, ALL) == 0);
	put_state(&vm, ALL);
	for (i = 0; i < 50; i++) {
		CHECK(nvmm_vcpu_run(&vm.mach, &vm.vcpu) == 0);
		CHECK(nvmm_vcpu_run(&vm.mach, &other) == 0);
		CHECK(nvmm_vcpu_getstate(&vm.mach, &other, ALL) == 0);
		same += gpr(&vm, NVMM_X64_GPR_RBX) ==
		    other.state->gprs[NVMM_X64_GPR_RBX];
	}
	CHECK(same < 25);
	CHECK(nvmm_vcpu_destroy(&vm.mach, &other) == 0);
	vm_close(&vm);
}
