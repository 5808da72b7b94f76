/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What becomes of mappings that others cut, replace or fill in (spec kernel 3
 * and 8.3, libnvmm 4.7).
 */
#include "vm.h"

#define RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)

/* The library keeps areas from overlapping; through the list of `other` the
 * kernel is asked about the guest of `vm`. */
static void
open_other(struct nvmm_machine *other, nvmm_machid_t *own, struct vm *vm)
{
	CHECK(nvmm_machine_create(other) == 0);
	*own = other->machid;
	other->machid = vm->mach.machid;
}

static void
close_other(struct nvmm_machine *other, nvmm_machid_t own)
{
	other->machid = own;
	CHECK(nvmm_machine_destroy(other) == 0);
}

TEST(part_of_a_mapping_is_cut_out)
{
	struct nvmm_machine other;
	nvmm_machid_t own;
	struct vm vm;

	/* mov al,[0x7000]; mov ah,[0x9000]; hlt; mov al,[0x8000] */
	VM_OPEN(&vm, "\xA0\x00\x70\x8A\x26\x00\x90\xF4\xA0\x00\x80");
	vm.ram[0x7000] = 0x11;
	vm.ram[0x8000] = 0x22;
	vm.ram[0x9000] = 0x33;
	open_other(&other, &own, &vm);
	CHECK(nvmm_gpa_map(&other, (uintptr_t)vm.ram + 0x8000, 0x8000, PAGE,
	    RWX) == 0);
	SAME(0, nvmm_gpa_unmap(&other, (uintptr_t)vm.ram + 0x8000, 0x8000,
	    PAGE));						/* K-MEM-20 */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	SAME(0x3311, gpr(&vm, NVMM_X64_GPR_RAX));
	SAME(NVMM_VCPU_EXIT_MEMORY, run(&vm));			/* K-MEM-23 */
	SAME(0x8000, vm.vcpu.exit->u.mem.gpa);
	close_other(&other, own);
	vm_close(&vm);
}

/*
 * On VMX an NMI cannot be delivered into a page that is not filled in (kernel
 * 8.3).  Vectors and stack are, once the guest has touched them; the vectors
 * are not any more when their page is mapped anew.
 */
static void
nmi_after(bool anew, uint64_t reason)
{
	struct nvmm_machine other;
	nvmm_machid_t own;
	struct vm vm;

	setenv("NVMM_SOFT_PROFILE", "v2-vmx", 1);
	VM_OPEN(&vm, "\xA0\x00\x00\x50\xF4\xF4");	/* al=[0]; push ax; hlt */
	SAME(NVMM_VCPU_EXIT_HALTED, run(&vm));
	open_other(&other, &own, &vm);
	if (anew)
		CHECK(nvmm_gpa_map(&other, (uintptr_t)vm.ram, 0, PAGE,
		    RWX) == 0);				/* K-MEM-16 */
	vm.vcpu.event->type = NVMM_VCPU_EVENT_INTR;
	vm.vcpu.event->vector = 2;
	CHECK(nvmm_vcpu_inject(&vm.mach, &vm.vcpu) == 0);
	SAME(reason, run(&vm));
	if (anew)
		SAME(33, vm.vcpu.exit->u.inv.hwcode);
	close_other(&other, own);
	vm_close(&vm);
}

TEST(a_filled_page_takes_an_nmi)	{ nmi_after(false, NVMM_VCPU_EXIT_HALTED); }
TEST(a_page_mapped_anew_is_not_filled)	{ nmi_after(true, NVMM_VCPU_EXIT_INVALID); }

TEST(area_rights_are_those_given)
{
	static const int given[] = {
		PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, RWX
	};
	static const nvmm_prot_t want[] = {
		NVMM_PROT_READ, NVMM_PROT_READ | NVMM_PROT_WRITE,
		NVMM_PROT_READ | NVMM_PROT_EXEC,
		NVMM_PROT_READ | NVMM_PROT_WRITE | NVMM_PROT_EXEC
	};
	nvmm_prot_t prot;
	uintptr_t hva;
	struct vm vm;
	size_t i;

	VM_OPEN(&vm, "\xF4");
	for (i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		CHECK(nvmm_gpa_map(&vm.mach, (uintptr_t)vm.ram,
		    RAM_SIZE + i * PAGE, PAGE, given[i]) == 0);
		SAME(0, nvmm_gpa_to_hva(&vm.mach, RAM_SIZE + i * PAGE, &hva,
		    &prot));
		SAME(want[i], prot);				/* L-GPA-5 */
	}
	vm_close(&vm);
}
