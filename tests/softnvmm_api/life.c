/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Opening, capability, machines and vCPUs, with every errno (spec libnvmm 4.1
 * to 4.3, kernel 1 and 2).
 */
#include "vm.h"

static void
profile(const char *name)
{
	setenv("NVMM_SOFT_PROFILE", name, 1);
}

TEST(before_init)
{
	struct nvmm_capability cap;
	struct nvmm_machine mach, old;
	struct nvmm_ctl_mach_info info = { 0 };

	memset(&mach, 0x5A, sizeof(mach));
	old = mach;
	FAILS(EBADF, nvmm_capability(&cap));	/* L-INIT-6 */
	FAILS(EBADF, nvmm_machine_create(&mach));
	CHECK(memcmp(&mach, &old, sizeof(mach)) == 0);
	FAILS(EBADF, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)));
}

TEST(init_twice)
{
	SAME(0, nvmm_init());	/* L-INIT-1 */
	SAME(0, nvmm_init());
	SAME(0, nvmm_root_init());
}

TEST(capability)
{
	struct nvmm_capability cap;
	static const uint64_t none[6];

	CHECK(nvmm_init() == 0);
	memset(&cap, 0xFF, sizeof(cap));
	SAME(0, nvmm_capability(&cap));
	SAME(2, cap.version);			/* K-CAP-1, L-VER-1 */
	SAME(1008, cap.state_size);		/* K-CAP-2 */
	SAME(128, cap.max_machines);		/* K-CAP-3 */
	SAME(256, cap.max_vcpus);		/* K-CAP-4 */
	SAME(UINT64_C(0x2000000000), cap.max_ram);	/* K-CAP-5 */
	SAME(0, cap.arch.mach_conf_support);	/* K-CAP-6 */
	SAME(NVMM_CAP_ARCH_VCPU_CONF_CPUID, cap.arch.vcpu_conf_support);	/* K-CAP-7 */
	SAME(3, cap.arch.xcr0_mask);		/* K-CAP-8 */
	CHECK(cap.arch.mxcsr_mask != 0);	/* K-CAP-9 */
	SAME(32, cap.arch.conf_cpuid_maxops);	/* K-CAP-10 */
	CHECK(memcmp(cap.arch.rsvd, none, sizeof(none)) == 0);
}

TEST(profile_is_read_each_time)
{
	struct nvmm_capability cap;
	struct nvmm_machine mach;

	CHECK(nvmm_init() == 0);
	profile("v1-svm");
	SAME(0, nvmm_capability(&cap));
	SAME(1, cap.version);
	profile("v2-svm");
	SAME(0, nvmm_capability(&cap));
	SAME(2, cap.version);
	SAME(0, strlen(nvmm_soft_problem()));

	profile("v9-z80");
	FAILS(EINVAL, nvmm_capability(&cap));
	CHECK(strstr(nvmm_soft_problem(), "v9-z80") != NULL);
	FAILS(EINVAL, nvmm_machine_create(&mach));
	FAILS(EINVAL, nvmm_init());
	profile("");
	SAME(0, nvmm_machine_create(&mach));
	SAME(0, strlen(nvmm_soft_problem()));
	setenv("NVMM_SOFT_FAULT", "io-npc-off-by-one,no-such-fault", 1);
	FAILS(EINVAL, nvmm_capability(&cap));
	CHECK(strstr(nvmm_soft_problem(), "no-such-fault") != NULL);
	SAME(0, nvmm_machine_destroy(&mach));
}

TEST(lists)
{
	enum nvmm_soft_kind kinds[] = {
		NVMM_SOFT_PROFILE, NVMM_SOFT_QUIRK, NVMM_SOFT_FAULT
	};
	const char *name, *summary;
	size_t i, n;

	for (i = 0; i < 3; i++) {
		for (n = 0; nvmm_soft_list(kinds[i], n, &name, &summary) == 0;
		    n++)
			CHECK(*name != '\0' && *summary != '\0');
		CHECK(n >= 2);
		SAME(ENOENT, errno);
	}
}

TEST(machine_ids)
{
	struct nvmm_machine m[128], one;
	struct nvmm_vcpu vcpu;
	size_t i;

	CHECK(nvmm_init() == 0);
	for (i = 0; i < 128; i++) {
		SAME(0, nvmm_machine_create(&m[i]));
		SAME(i, m[i].machid);
	}
	FAILS(ENOBUFS, nvmm_machine_create(&one));	/* K-MACH-2 */
	SAME(0, nvmm_machine_destroy(&m[7]));
	SAME(0, nvmm_machine_destroy(&m[3]));
	FAILS(ENOENT, nvmm_machine_destroy(&m[3]));	/* K-MACH-4 */
	FAILS(ENOENT, nvmm_vcpu_create(&m[3], 0, &vcpu));
	SAME(0, nvmm_machine_create(&m[3]));
	SAME(3, m[3].machid);			/* K-MACH-1 */
	SAME(0, nvmm_machine_create(&m[7]));
	SAME(7, m[7].machid);

	one = m[0];
	one.machid = 128;			/* K-MACH-3 */
	FAILS(EINVAL, nvmm_machine_destroy(&one));
	FAILS(EINVAL, nvmm_vcpu_create(&one, 0, &vcpu));
	FAILS(EINVAL, nvmm_hva_map(&one, 0x1000, 0x1000));
	FAILS(EINVAL, nvmm_hva_unmap(&one, 0x1000, 0x1000));	/* L-MACH-3 */
	for (i = 0; i < 128; i++)
		SAME(0, nvmm_machine_destroy(&m[i]));
}

TEST(machine_configure)
{
	struct nvmm_machine mach;
	uint64_t op, conf[8] = { 0 };

	CHECK(nvmm_init() == 0);
	CHECK(nvmm_machine_create(&mach) == 0);
	for (op = 0; op < 300; op += 50)
		FAILS(EINVAL, nvmm_machine_configure(&mach, op, conf));	/* L-MACH-4, K-MACH-8 */
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(vcpu_errnos)
{
	nvmm_machid_t id;
	struct vm vm;
	struct nvmm_vcpu v, w;

	VM_OPEN(&vm, "\xF4");
	FAILS(EBUSY, nvmm_vcpu_create(&vm.mach, 0, &v));	/* K-VCPU-2 */
	FAILS(EINVAL, nvmm_vcpu_create(&vm.mach, 256, &v));	/* K-VCPU-1 */
	SAME(0, nvmm_vcpu_create(&vm.mach, 255, &v));		/* K-VCPU-3 */
	SAME(255, v.cpuid);
	SAME(0, nvmm_vcpu_create(&vm.mach, 17, &w));
	SAME(0, nvmm_vcpu_destroy(&vm.mach, &v));
	FAILS(ENOENT, nvmm_vcpu_destroy(&vm.mach, &v));		/* K-VCPU-4 */
	FAILS(ENOENT, nvmm_vcpu_run(&vm.mach, &v));
	FAILS(ENOENT, nvmm_vcpu_getstate(&vm.mach, &v, NVMM_X64_STATE_ALL));
	v.cpuid = 256;
	FAILS(EINVAL, nvmm_vcpu_run(&vm.mach, &v));
	FAILS(EINVAL, nvmm_vcpu_destroy(&vm.mach, &v));

	/* K-MACH-5: a machine takes its vCPUs with it. */
	CHECK(nvmm_machine_destroy(&vm.mach) == 0);
	FAILS(ENOENT, nvmm_vcpu_run(&vm.mach, &w));
	FAILS(ENOENT, nvmm_vcpu_getstate(&vm.mach, &w, NVMM_X64_STATE_ALL));
	FAILS(ENOENT, nvmm_vcpu_destroy(&vm.mach, &w));
	id = vm.mach.machid;
	CHECK(nvmm_machine_create(&vm.mach) == 0);
	SAME(id, vm.mach.machid);
	FAILS(ENOENT, nvmm_vcpu_destroy(&vm.mach, &w));
	SAME(0, nvmm_vcpu_create(&vm.mach, w.cpuid, &v));
	CHECK(nvmm_machine_destroy(&vm.mach) == 0);
}

TEST(callbacks_kept_by_create)
{
	struct nvmm_assist_callbacks cbs = { NULL, NULL };
	struct nvmm_machine mach;
	struct nvmm_vcpu v;

	memset(&v, 0x5A, sizeof(v));
	CHECK(nvmm_init() == 0);
	CHECK(nvmm_machine_create(&mach) == 0);
	CHECK(nvmm_vcpu_create(&mach, 4, &v) == 0);
	CHECK((uintptr_t)v.cbs.io == UINT64_C(0x5A5A5A5A5A5A5A5A));	/* L-VCPU-1 */
	CHECK(nvmm_vcpu_configure(&mach, &v, NVMM_VCPU_CONF_CALLBACKS,
	    &cbs) == 0);
	CHECK(v.cbs.io == NULL && v.cbs.mem == NULL);
	CHECK(nvmm_vcpu_destroy(&mach, &v) == 0);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(configure)
{
	struct nvmm_vcpu_conf_cpuid c;
	struct nvmm_vcpu_conf_tpr tpr = { .exit_changed = 1 };
	struct nvmm_vcpu gone;
	struct vm vm;
	uint32_t i;

	VM_OPEN(&vm, "\xF4");
	memset(&c, 0, sizeof(c));
#define CONF(op, p)	nvmm_vcpu_configure(&vm.mach, &vm.vcpu, (op), (p))
	FAILS(EINVAL, CONF(199, &c));				/* K-CONF-1, L-VCPU-6 */
	FAILS(EINVAL, CONF(202, &c));
	FAILS(EINVAL, CONF(1, &c));
	FAILS(EFAULT, CONF(NVMM_VCPU_CONF_CPUID, NULL));	/* K-CONF-10 */
	FAILS(EFAULT, CONF(NVMM_VCPU_CONF_CPUID, (void *)8));
	FAILS(EINVAL, CONF(NVMM_VCPU_CONF_TPR, &tpr));		/* K-CONF-8 */
	gone = vm.vcpu;
	gone.cpuid = 9;
	FAILS(EINVAL, nvmm_vcpu_configure(&vm.mach, &gone, 199, &c));
	FAILS(ENOENT, nvmm_vcpu_configure(&vm.mach, &gone, 200, &c));

	c.mask = c.exit = 1;
	FAILS(EINVAL, CONF(NVMM_VCPU_CONF_CPUID, &c));		/* K-CONF-2 */
	c.exit = 0;
	c.u.mask.set.ecx = c.u.mask.del.ecx = 0x100;
	FAILS(EINVAL, CONF(NVMM_VCPU_CONF_CPUID, &c));		/* K-CONF-3 */
	c.mask = 0;
	c.exit = 1;
	SAME(0, CONF(NVMM_VCPU_CONF_CPUID, &c));		/* K-CONF-4 */
	for (i = 1; i < 32; i++) {
		c.leaf = i;
		SAME(0, CONF(NVMM_VCPU_CONF_CPUID, &c));
	}
	c.leaf = 32;
	FAILS(ENOBUFS, CONF(NVMM_VCPU_CONF_CPUID, &c));		/* K-CONF-5 */
	c.leaf = 5;
	SAME(0, CONF(NVMM_VCPU_CONF_CPUID, &c));		/* K-CONF-6 */
	c.exit = 0;
	SAME(0, CONF(NVMM_VCPU_CONF_CPUID, &c));		/* K-CONF-7 */
	SAME(0, CONF(NVMM_VCPU_CONF_CPUID, &c));
	c.exit = 1;
	c.leaf = 32;
	SAME(0, CONF(NVMM_VCPU_CONF_CPUID, &c));
	vm_close(&vm);
}

TEST(ctl)
{
	struct nvmm_ctl_mach_info info, *page;
	struct vm vm;
	uint8_t *more = spare(4 * PAGE);

	VM_OPEN(&vm, "\xF4");
	CHECK(nvmm_hva_map(&vm.mach, (uintptr_t)more, 4 * PAGE) == 0);
	memset(&info, 0, sizeof(info));
	info.machid = vm.mach.machid;
	SAME(0, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)));	/* L-CTL-1, K-MACH-9 */
	SAME(1, info.nvcpus);
	SAME(RAM_SIZE + 4 * PAGE, info.nram);
	SAME(getpid(), info.pid);
	CHECK(info.time != 0);
	FAILS(EINVAL, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, 31));	/* K-MACH-10 */
	FAILS(EINVAL, nvmm_ctl(1, &info, sizeof(info)));
	info.machid = 100;
	FAILS(ENOENT, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)));
	info.machid = 128;
	FAILS(EINVAL, nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)));
	FAILS(EFAULT, nvmm_ctl(NVMM_CTL_MACH_INFO, NULL, sizeof(info)));
	/* What cannot be written is the kernel's EFAULT too. */
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page->machid = vm.mach.machid;
	CHECK(mprotect(page, 4096, PROT_READ) == 0);
	FAILS(EFAULT, nvmm_ctl(NVMM_CTL_MACH_INFO, page, sizeof(*page)));
	munmap(page, 4096);
	vm_close(&vm);
}

TEST(root_owner_has_no_pid)
{
	struct nvmm_ctl_mach_info info = { 0 };
	struct nvmm_machine mach;

	CHECK(nvmm_root_init() == 0);
	CHECK(nvmm_machine_create(&mach) == 0);
	info.machid = mach.machid;
	CHECK(nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)) == 0);
	SAME(0, info.pid);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

TEST(dump)
{
	struct vm vm;

	VM_OPEN(&vm, "\xF4");
	SAME(0, nvmm_vcpu_dump(&vm.mach, &vm.vcpu));
	vm_close(&vm);
}
