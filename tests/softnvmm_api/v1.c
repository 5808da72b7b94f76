/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Version 1 (NetBSD 9): no stop word, no STOPPED.  Built against nvmm.h as
 * version 1 and as version 2; run with the profile v1-svm.
 */
#include "vm.h"

TEST(version)
{
	struct nvmm_capability cap;

	CHECK(nvmm_init() == 0);
	CHECK(nvmm_capability(&cap) == 0);
	SAME(1, cap.version);		/* L-VER-1 */
}

#if NVMM_USER_VERSION == 1
_Static_assert(sizeof(struct nvmm_vcpu) == 48, "a version 1 client");

TEST(struct_is_48_bytes)
{
	struct {
		struct nvmm_vcpu vcpu;
		uint64_t after;
	} v = { .after = UINT64_C(0x1122334455667788) };
	struct nvmm_machine mach;

	CHECK(nvmm_init() == 0);
	CHECK(nvmm_machine_create(&mach) == 0);
	CHECK(nvmm_vcpu_create(&mach, 0, &v.vcpu) == 0);
	SAME(UINT64_C(0x1122334455667788), v.after);	/* L-VER-2 */
	CHECK(nvmm_vcpu_destroy(&mach, &v.vcpu) == 0);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}
#else
TEST(no_stop)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	FAILS(ENOSYS, nvmm_vcpu_stop(&vm.vcpu));
	vm.mach.pages[0]->stop = 1;		/* no such word: not looked at */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));	/* K-RUN-9 */
	SAME(1, vm.mach.pages[0]->stop);
	vm_close(&vm);
}

TEST(profiles_side_by_side)
{
	struct vm v1, v2;

	VM_OPEN(&v1, "\xF4");
	setenv("NVMM_SOFT_PROFILE", "v2-svm", 1);
	VM_OPEN(&v2, "\xF4");
	FAILS(ENOSYS, nvmm_vcpu_stop(&v1.vcpu));
	SAME(0, nvmm_vcpu_stop(&v2.vcpu));
	SAME(NVMM_VCPU_EXIT_HALTED, run(&v1));
	SAME(NVMM_VCPU_EXIT_STOPPED, run(&v2));
	vm_close(&v1);
	vm_close(&v2);
}

TEST(cr4_is_not_masked)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	get_state(&vm, NVMM_X64_STATE_ALL)->crs[NVMM_X64_CR_CR4] = 1u << 24;
	put_state(&vm, NVMM_X64_STATE_CRS);
	CHECK(nvmm_vcpu_run(&vm.mach, &vm.vcpu) == 0);
	SAME(1u << 24, get_state(&vm, NVMM_X64_STATE_CRS)->crs[NVMM_X64_CR_CR4]);
	vm_close(&vm);
}
#endif

TEST(hlt)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	vm_close(&vm);
}
