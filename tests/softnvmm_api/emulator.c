/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * An emulator's NVMM support in small: every function, constant and member
 * that such a client uses, in what C11 and C++ have in common.  It compiles
 * as user version 1 and 2 and runs a guest that makes it use most of them.
 */
#include <sys/mman.h>

#include <errno.h>
#include <nvmm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEED(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__,	\
		    #cond, errno);					\
		exit(1);						\
	}								\
} while (0)

/* An emulator keeps segment attributes as a descriptor's second word. */
#define FLAG_TYPE	__BITS(8, 11)
#define FLAG_S		__BIT(12)
#define FLAG_DPL	__BITS(14, 13)
#define FLAG_P		__BIT(15)
#define FLAG_AVL	__BIT(20)
#define FLAG_L		__BIT(21)
#define FLAG_DB		__BIT(22)
#define FLAG_G		__BIT(23)

#if !defined(NVMM_X64_CR_XCR0) || !defined(NVMM_X64_MSR_PAT)
#error "indexes are macros"
#endif
#if NVMM_X64_NSEG != 10 || NVMM_X64_NGPR != 18 || NVMM_X64_NCR != 6 || \
    NVMM_X64_NDR != 6 || NVMM_X64_NMSR != 11
#error "counts"
#endif

struct segment {
	uint32_t selector, limit;
	uint64_t base;
	uint64_t flags;
};

struct processor {
	struct segment seg[NVMM_X64_NSEG];
	uint64_t gpr[NVMM_X64_NGPR], cr[NVMM_X64_NCR], dr[NVMM_X64_NDR];
	uint64_t msr[NVMM_X64_NMSR];
	uint16_t fcw, fsw, fop;
	uint8_t tags[8];
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16], xmm[16][16];
	uint64_t rflags, tpr;
	bool shadow, int_window, nmi_window, pending;
};

static struct nvmm_capability cap;
static struct nvmm_machine mach;
static struct nvmm_vcpu vcpu;
static struct processor cpu;
static uint8_t *ram;
static char console[16];
static size_t console_len;
static unsigned mem_reads, mem_writes;

#define RAM_SIZE	0x10000u
#define ENTRY		0x1000u

static void
segment_out(struct nvmm_x64_state_seg *to, const struct segment *from)
{
	to->selector = (uint16_t)from->selector;
	to->limit = from->limit;
	to->base = from->base;
	to->attrib.type = (uint16_t)__SHIFTOUT(from->flags, FLAG_TYPE) & 0xF;
	to->attrib.s = (uint16_t)__SHIFTOUT(from->flags, FLAG_S) & 1;
	to->attrib.dpl = (uint16_t)__SHIFTOUT(from->flags, FLAG_DPL) & 3;
	to->attrib.p = (uint16_t)__SHIFTOUT(from->flags, FLAG_P) & 1;
	to->attrib.avl = (uint16_t)__SHIFTOUT(from->flags, FLAG_AVL) & 1;
	to->attrib.l = (uint16_t)__SHIFTOUT(from->flags, FLAG_L) & 1;
	to->attrib.def = (uint16_t)__SHIFTOUT(from->flags, FLAG_DB) & 1;
	to->attrib.g = (uint16_t)__SHIFTOUT(from->flags, FLAG_G) & 1;
}

static void
segment_in(struct segment *to, const struct nvmm_x64_state_seg *from)
{
	to->selector = from->selector;
	to->limit = from->limit;
	to->base = from->base;
	to->flags = __SHIFTIN((uint64_t)from->attrib.type, FLAG_TYPE) |
	    __SHIFTIN((uint64_t)from->attrib.s, FLAG_S) |
	    __SHIFTIN((uint64_t)from->attrib.dpl, FLAG_DPL) |
	    __SHIFTIN((uint64_t)from->attrib.p, FLAG_P) |
	    __SHIFTIN((uint64_t)from->attrib.avl, FLAG_AVL) |
	    __SHIFTIN((uint64_t)from->attrib.l, FLAG_L) |
	    __SHIFTIN((uint64_t)from->attrib.def, FLAG_DB) |
	    __SHIFTIN((uint64_t)from->attrib.g, FLAG_G);
}

#define ALL_GROUPS	(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS |	\
			 NVMM_X64_STATE_CRS | NVMM_X64_STATE_DRS |	\
			 NVMM_X64_STATE_MSRS | NVMM_X64_STATE_INTR |	\
			 NVMM_X64_STATE_FPU)

static void
registers_in(void)
{
	const struct nvmm_x64_state *st;
	size_t i;

	NEED(nvmm_vcpu_getstate(&mach, &vcpu, ALL_GROUPS) == 0);
	NEED(ALL_GROUPS == NVMM_X64_STATE_ALL);
	st = vcpu.state;
	for (i = 0; i < NVMM_X64_NSEG; i++)
		segment_in(&cpu.seg[i], &st->segs[i]);
	memcpy(cpu.gpr, st->gprs, sizeof(cpu.gpr));
	memcpy(cpu.cr, st->crs, sizeof(cpu.cr));
	memcpy(cpu.dr, st->drs, sizeof(cpu.dr));
	memcpy(cpu.msr, st->msrs, sizeof(cpu.msr));
	cpu.fcw = st->fpu.fx_cw;
	cpu.fsw = st->fpu.fx_sw;
	cpu.fop = st->fpu.fx_opcode;
	for (i = 0; i < __arraycount(cpu.tags); i++)
		cpu.tags[i] = !((st->fpu.fx_tw >> i) & 1);
	cpu.fip = st->fpu.fx_ip.fa_64;
	cpu.fdp = st->fpu.fx_dp.fa_64;
	cpu.mxcsr = st->fpu.fx_mxcsr;
	cpu.mxcsr_mask = st->fpu.fx_mxcsr_mask;
	NEED(sizeof(cpu.st) == sizeof(st->fpu.fx_87_ac));
	memcpy(cpu.st, st->fpu.fx_87_ac, sizeof(cpu.st));
	for (i = 0; i < __arraycount(cpu.xmm); i++)
		memcpy(cpu.xmm[i], &st->fpu.fx_xmm[i].xmm_bytes[0], 16);
	cpu.shadow = st->intr.int_shadow;
	cpu.int_window = st->intr.int_window_exiting;
	cpu.nmi_window = st->intr.nmi_window_exiting;
	cpu.pending = st->intr.evt_pending;
}

static void
registers_out(void)
{
	struct nvmm_x64_state *st = vcpu.state;
	size_t i;

	for (i = 0; i < NVMM_X64_NSEG; i++)
		segment_out(&st->segs[i], &cpu.seg[i]);
	memcpy(st->gprs, cpu.gpr, sizeof(cpu.gpr));
	memcpy(st->crs, cpu.cr, sizeof(cpu.cr));
	memcpy(st->drs, cpu.dr, sizeof(cpu.dr));
	memcpy(st->msrs, cpu.msr, sizeof(cpu.msr));
	st->intr.int_shadow = cpu.shadow;
	st->intr.int_window_exiting = cpu.int_window;
	st->intr.nmi_window_exiting = cpu.nmi_window;
	st->fpu.fx_cw = cpu.fcw;
	st->fpu.fx_sw = cpu.fsw;
	st->fpu.fx_opcode = cpu.fop;
	st->fpu.fx_tw = 0;
	st->fpu.fx_zero = 0;
	for (i = 0; i < __arraycount(cpu.tags); i++)
		st->fpu.fx_tw |= (uint8_t)(!cpu.tags[i] << i);
	st->fpu.fx_ip.fa_64 = cpu.fip;
	st->fpu.fx_dp.fa_64 = cpu.fdp;
	st->fpu.fx_mxcsr = cpu.mxcsr & cap.arch.mxcsr_mask;
	st->fpu.fx_mxcsr_mask = cap.arch.mxcsr_mask;
	memcpy(st->fpu.fx_87_ac, cpu.st, sizeof(cpu.st));
	for (i = 0; i < __arraycount(cpu.xmm); i++)
		memcpy(&st->fpu.fx_xmm[i].xmm_bytes[0], cpu.xmm[i], 16);
	NEED(nvmm_vcpu_setstate(&mach, &vcpu, ALL_GROUPS) == 0);
}

static void
on_io(struct nvmm_io *io)
{
	NEED(io->mach == &mach && io->vcpu == &vcpu && io->size <= 4);
	if (io->in)
		memset(io->data, 0x5A, io->size);
	else if (io->port == 0xE9 && console_len < sizeof(console) - 1)
		console[console_len++] = (char)io->data[0];
}

static void
on_mem(struct nvmm_mem *mem)
{
	NEED(mem->mach == &mach && mem->vcpu == &vcpu);
	NEED(mem->gpa >= RAM_SIZE && mem->size == 1);
	if (mem->write) {
		mem_writes++;
	} else {
		mem_reads++;
		memset(mem->data, 0x77, mem->size);
	}
}

static void
open_all(void)
{
	struct nvmm_assist_callbacks cbs;
	struct nvmm_vcpu_conf_cpuid cpuid;
	struct nvmm_vcpu_conf_tpr tpr;
	uintptr_t hva;
	nvmm_prot_t prot;

	NEED(nvmm_init() == 0 && nvmm_root_init() == 0);
	NEED(nvmm_capability(&cap) == 0);
	if (cap.version != NVMM_KERN_VERSION) {
		fprintf(stderr, "errno would be %d\n", EPROGMISMATCH);
		exit(1);
	}
	NEED(cap.state_size == sizeof(struct nvmm_x64_state));
	NEED(cap.max_machines > 0 && cap.max_vcpus > 0);
	NEED(cap.max_ram > RAM_SIZE && (cap.arch.xcr0_mask & 3) == 3);
	NEED(cap.arch.conf_cpuid_maxops > 0 &&
	    cap.arch.mach_conf_support == 0 &&
	    (cap.arch.vcpu_conf_support & NVMM_CAP_ARCH_VCPU_CONF_CPUID) != 0);
	NEED(nvmm_machine_create(&mach) == 0);
	NEED(nvmm_machine_configure(&mach, NVMM_MACH_CONF_MD_BEGIN, NULL) == -1);
	NEED(nvmm_vcpu_create(&mach, 0, &vcpu) == 0 && vcpu.cpuid == 0);

	memset(&cpuid, 0, sizeof(cpuid));
	cpuid.mask = 1;
	cpuid.exit = 0;
	cpuid.leaf = 1;
	cpuid.u.mask.set.edx = 1u << 12;	/* an emulator's MTRRs */
	cpuid.u.mask.del.ecx = 1u << 31;
	cpuid.u.mask.set.eax = cpuid.u.mask.set.ebx = cpuid.u.mask.set.ecx = 0;
	cpuid.u.mask.del.eax = cpuid.u.mask.del.ebx = cpuid.u.mask.del.edx = 0;
	NEED(nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_CPUID, &cpuid) == 0);
	cbs.io = on_io;
	cbs.mem = on_mem;
	NEED(nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &cbs) == 0);
	if (cap.arch.vcpu_conf_support & NVMM_CAP_ARCH_VCPU_CONF_TPR) {
		memset(&tpr, 0, sizeof(tpr));
		tpr.exit_changed = 1;
		NEED(nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_TPR, &tpr) == 0);
	}

	ram = (uint8_t *)mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(ram != MAP_FAILED);
	NEED(nvmm_hva_map(&mach, (uintptr_t)ram, RAM_SIZE) == 0);
	NEED(nvmm_gpa_map(&mach, (uintptr_t)ram, 0, RAM_SIZE,
	    PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
	NEED(nvmm_gpa_to_hva(&mach, 0x123, &hva, &prot) == 0 &&
	    hva == (uintptr_t)ram + 0x123 &&
	    prot == (NVMM_PROT_READ | NVMM_PROT_WRITE | NVMM_PROT_EXEC));
}

static void
close_all(void)
{
	struct nvmm_ctl_mach_info info;

	memset(&info, 0, sizeof(info));
	info.machid = mach.machid;
	NEED(nvmm_ctl(NVMM_CTL_MACH_INFO, &info, sizeof(info)) == 0);
	NEED(info.nvcpus == 1 && info.nram == RAM_SIZE && info.pid >= 0 &&
	    info.time != 0);
	NEED(nvmm_vcpu_dump(&mach, &vcpu) == 0);
	NEED(nvmm_gpa_unmap(&mach, (uintptr_t)ram, 0, RAM_SIZE) == 0);
	NEED(nvmm_hva_unmap(&mach, (uintptr_t)ram, RAM_SIZE) == 0);
	NEED(nvmm_vcpu_destroy(&mach, &vcpu) == 0);
	NEED(nvmm_machine_destroy(&mach) == 0);
}

static void
skip(uint64_t npc)
{
	NEED(nvmm_vcpu_getstate(&mach, &vcpu, NVMM_X64_STATE_GPRS) == 0);
	vcpu.state->gprs[NVMM_X64_GPR_RIP] = npc;
	NEED(nvmm_vcpu_setstate(&mach, &vcpu, NVMM_X64_STATE_GPRS) == 0);
}

static void
inject(unsigned type, uint8_t vector)
{
	struct nvmm_vcpu_event *event = vcpu.event;

	event->type = type;
	event->vector = vector;
	event->u.excp.error = 0;
	NEED(nvmm_vcpu_inject(&mach, &vcpu) == 0);
}

/* Takes the vCPU once round the loop; false: the guest halted with CX = 0. */
static bool
once(void)
{
	struct nvmm_vcpu_exit *exit_ = vcpu.exit;

	NEED(nvmm_vcpu_run(&mach, &vcpu) == 0);
	cpu.rflags = exit_->exitstate.rflags;
	cpu.tpr = exit_->exitstate.cr8;
	cpu.shadow = exit_->exitstate.int_shadow;
	cpu.int_window = exit_->exitstate.int_window_exiting;
	cpu.nmi_window = exit_->exitstate.nmi_window_exiting;
	cpu.pending = exit_->exitstate.evt_pending;
	switch (exit_->reason) {
	case NVMM_VCPU_EXIT_NONE:
	case NVMM_VCPU_EXIT_TPR_CHANGED:
	case NVMM_VCPU_EXIT_NMI_READY:
		break;
#if NVMM_USER_VERSION >= 2
	case NVMM_VCPU_EXIT_STOPPED:
		break;
#endif
	case NVMM_VCPU_EXIT_MEMORY:
		NEED(exit_->u.mem.gpa == 0x12345 &&
		    (exit_->u.mem.prot & NVMM_PROT_EXEC) == 0 &&
		    exit_->u.mem.inst_len <= sizeof(exit_->u.mem.inst_bytes));
		NEED(nvmm_assist_mem(&mach, &vcpu) == 0);
		break;
	case NVMM_VCPU_EXIT_IO:
		NEED(exit_->u.io.port == 0xE9 && exit_->u.io.npc > ENTRY &&
		    exit_->u.io.operand_size == 1 && !exit_->u.io.str &&
		    !exit_->u.io.rep && exit_->u.io.seg <= NVMM_X64_SEG_GS &&
		    exit_->u.io.address_size <= 8);
		NEED(nvmm_assist_io(&mach, &vcpu) == 0);
		break;
	case NVMM_VCPU_EXIT_RDMSR:
		NEED(exit_->u.rdmsr.msr == 0x1B);
		skip(exit_->u.rdmsr.npc);
		break;
	case NVMM_VCPU_EXIT_WRMSR:
		NEED(exit_->u.wrmsr.msr == 0x1B && exit_->u.wrmsr.val != 1);
		skip(exit_->u.wrmsr.npc);
		break;
	case NVMM_VCPU_EXIT_MONITOR:
	case NVMM_VCPU_EXIT_MWAIT:
	case NVMM_VCPU_EXIT_CPUID:
		skip(exit_->u.insn.npc);
		break;
	case NVMM_VCPU_EXIT_INT_READY:
		inject(NVMM_VCPU_EVENT_INTR, 0x20);
		break;
	case NVMM_VCPU_EXIT_HALTED:
		return false;
	case NVMM_VCPU_EXIT_SHUTDOWN:
	case NVMM_VCPU_EXIT_INVALID:
	default:
		fprintf(stderr, "exit %#lx, hardware %#lx\n",
		    (unsigned long)exit_->reason,
		    (unsigned long)exit_->u.inv.hwcode);
		exit(1);
	}
	return true;
}

int
main(void)
{
	/* mov al,'!'; out 0xE9,al; in al,0xE9; mov [0x2345],al; or al,[0x2345];
	 * mov ecx,0x1B; rdmsr; wrmsr; sti; nop; nop; hlt */
	static const uint8_t code[] = {
		0xB0, '!', 0xE6, 0xE9, 0xE4, 0xE9, 0xA2, 0x45, 0x23,
		0x0A, 0x06, 0x45, 0x23, 0x66, 0xB9, 0x1B, 0, 0, 0, 0x0F, 0x32,
		0x0F, 0x30, 0xFB, 0x90, 0x90, 0xF4
	};
	static const uint8_t handler[] = { 0xB3, 0x99, 0xCF };	/* mov bl,0x99; iret */
	static const uint8_t vector[] = { 0, 6, 0, 0 };
	gpaddr_t gpa = 0;
	nvmm_prot_t prot = 0;

	NEED(__SHIFTOUT_MASK(FLAG_TYPE) == 0xF && FLAG_DPL == 0x6000);
	NEED(__BITS(63, 0) == UINT64_MAX && __BIT(63) >> 62 == 2);
	open_all();
	memcpy(ram + ENTRY, code, sizeof(code));
	memcpy(ram + 0x600, handler, sizeof(handler));
	memcpy(ram + 4 * 0x20, vector, sizeof(vector));

	registers_in();
	cpu.seg[NVMM_X64_SEG_CS].selector = 0;
	cpu.seg[NVMM_X64_SEG_CS].base = 0;
	cpu.seg[NVMM_X64_SEG_CS].flags = FLAG_P | FLAG_S | __SHIFTIN(0xB, FLAG_TYPE);
	cpu.seg[NVMM_X64_SEG_DS].base = 0x10000;
	cpu.gpr[NVMM_X64_GPR_RIP] = ENTRY;
	cpu.gpr[NVMM_X64_GPR_RSP] = 0x8000;
	cpu.int_window = true;
	registers_out();
	NEED(nvmm_gva_to_gpa(&mach, &vcpu, 0x10000, &gpa, &prot) == 0);
	NEED(gpa == 0x10000 && prot == NVMM_PROT_ALL &&
	    (prot & NVMM_PROT_USER) != 0);
#if NVMM_USER_VERSION >= 2
	NEED(nvmm_vcpu_stop(&vcpu) == 0 && *vcpu.stop != 0);
#endif
	while (once())
		continue;

	registers_in();
	NEED(strcmp(console, "!") == 0);
	NEED(mem_reads == 1 && mem_writes == 1);
	NEED((cpu.gpr[NVMM_X64_GPR_RAX] & 0xFF) == 0x7F);	/* 5A or 77 */
	NEED(cpu.gpr[NVMM_X64_GPR_RCX] == 0x1B);
	NEED((cpu.gpr[NVMM_X64_GPR_RBX] & 0xFF) == 0x99);
	NEED((cpu.rflags & __BIT(9)) != 0 && cpu.tpr == 0 && !cpu.pending);
	NEED(cpu.cr[NVMM_X64_CR_CR0] & 0x10);
	NEED(cpu.dr[NVMM_X64_DR_DR7] == 0x400);
	NEED(cpu.msr[NVMM_X64_MSR_PAT] == UINT64_C(0x0007040600070406));
	close_all();
	return 0;
}
