/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The processor: an x86 interpreter as a hypervisor sees one.
 *
 * This is the whole interface between the two halves of softnvmm.  The
 * processor (this folder) knows nothing of NVMM; the hypervisor (the folder
 * above) knows nothing of instructions.  As with SVM or VMX the hypervisor
 * fills in the register state, says what to intercept, and calls cpu_run(),
 * which executes guest instructions until one is intercepted.  At an
 * intercept RIP stays on the instruction and the exit gives the next RIP;
 * the hypervisor emulates, or advances with cpu_advance().
 *
 * Names are those of the SDM.  "GPA" is a guest physical address.
 */
#ifndef SOFTNVMM_CPU_H
#define SOFTNVMM_CPU_H

#include <stdbool.h>
#include <stdint.h>

enum cpu_gpr {
	CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX, CPU_RSP, CPU_RBP, CPU_RSI, CPU_RDI,
	CPU_R8, CPU_R9, CPU_R10, CPU_R11, CPU_R12, CPU_R13, CPU_R14, CPU_R15,
	CPU_NGPR
};

/* The order of the SDM's sreg field, which is also NVMM's. */
enum cpu_seg_index {
	CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_NSEG
};

/* A segment register with its hidden part. */
struct cpu_seg {
	uint16_t selector;
	uint8_t type;		/* SDM 3A 3.4.5.1 / 3.5, four bits */
	uint8_t dpl;
	bool s, p, avl, l, db, g;
	uint32_t limit;		/* bytes, as hardware caches it */
	uint64_t base;
};

/* Descriptor-table registers keep selector and attributes too, unused by the
 * processor, so that whatever was loaded can be read back. */

/* What a guest-physical page may be used for. */
#define CPU_ACCESS_READ		1u
#define CPU_ACCESS_WRITE	2u
#define CPU_ACCESS_EXEC		4u

/* Which optional intercepts are on; HLT, port I/O, RDMSR/WRMSR outside the
 * direct ones, CPUID, triple fault and nested page faults always are. */
#define CPU_INTERCEPT_INT_WINDOW	0x0001u	/* IF=1 and no shadow, before the next instruction */
#define CPU_INTERCEPT_IRET		0x0002u	/* before IRET executes */
#define CPU_INTERCEPT_NMI_WINDOW	0x0004u	/* NMIs not blocked, before the next instruction */
#define CPU_INTERCEPT_CR8_WRITE		0x0008u	/* MOV to CR8, carried out, then reported */
#define CPU_INTERCEPT_CR_WRITE		0x0010u	/* MOV to CR0 and CR4, not carried out */
#define CPU_INTERCEPT_EFER_WRITE	0x0020u	/* WRMSR EFER, as WRMSR */
#define CPU_INTERCEPT_PAT_WRITE		0x0040u	/* WRMSR PAT, as WRMSR */
#define CPU_INTERCEPT_TASK_SWITCH	0x0080u	/* by a task gate or TSS, not carried out */
/* Instructions that CPUID does not show, reported as UD where the processor
 * would look at them further; without the intercept they are #UD. */
#define CPU_INTERCEPT_SVM		0x0100u	/* VMMCALL, VMRUN ..., RDTSCP */
#define CPU_INTERCEPT_VMX		0x0200u	/* VMCALL, VMLAUNCH ... */
#define CPU_INTERCEPT_RDPMC		0x0400u
/* No intercept: the hypervisor keeps CR8 and takes any value for it. */
#define CPU_CR8_WIDE			0x8000u
/* PDPTEs are registers, which only the guest's writes to CR0, CR3, CR4 load. */
#define CPU_PDPTES_HELD			0x10000u
/* CPUID answers for another processor, which may have more: what of it is not
 * here is counted. */
#define CPU_CPUID_FOREIGN		0x20000u

enum cpu_exit_reason {
	CPU_EXIT_BUDGET,	/* the instruction budget is used up */
	CPU_EXIT_KICKED,	/* *kick was seen non-zero between two instructions */
	CPU_EXIT_HLT,
	CPU_EXIT_IO,
	CPU_EXIT_MEMORY,	/* a GPA that is not mapped, or not for this access */
	CPU_EXIT_SHUTDOWN,	/* triple fault */
	CPU_EXIT_RDMSR,
	CPU_EXIT_WRMSR,
	CPU_EXIT_CPUID,
	CPU_EXIT_XSETBV,
	CPU_EXIT_INVD,
	CPU_EXIT_MONITOR,
	CPU_EXIT_MWAIT,
	CPU_EXIT_CR8_WRITE,
	CPU_EXIT_INT_WINDOW,
	CPU_EXIT_NMI_WINDOW,
	CPU_EXIT_IRET,
	CPU_EXIT_BAD_STATE,	/* the state loaded cannot be entered */
	CPU_EXIT_CR_WRITE,	/* .cr := .value */
	CPU_EXIT_TASK_SWITCH,
	CPU_EXIT_UD
};

struct cpu_exit {
	enum cpu_exit_reason reason;
	uint64_t next_rip;	/* HLT, IO, MSR, CPUID, XSETBV, INVD, MONITOR, MWAIT, CR8 */
	bool event_interrupted;	/* the exit came out of the delivery of .interrupted */
	struct cpu_event {
		enum cpu_event_type {
			CPU_EVENT_NONE, CPU_EVENT_INTR, CPU_EVENT_NMI,
			CPU_EVENT_EXCP, CPU_EVENT_SOFT
		} type;
		uint8_t vector;
		bool has_error;
		uint32_t error;
		/* SOFT: of the instruction that RIP is on; the address
		 * behind it is the return address. */
		uint8_t length;
		bool int_n;	/* SOFT: the gate's DPL counts */
	} interrupted;
	struct {
		bool in, str, rep;
		uint16_t port;
		uint8_t seg;		/* enum cpu_seg_index; meaningful if str */
		uint8_t address_size;	/* bytes */
		uint8_t operand_size;	/* bytes */
	} io;
	struct {
		uint64_t gpa;
		uint32_t access;	/* exactly one CPU_ACCESS_* */
		uint8_t inst_len;	/* 0 for a fetch */
		uint8_t inst_bytes[15];
	} memory;
	uint32_t msr;			/* RDMSR, WRMSR: ECX */
	unsigned cr;			/* CR_WRITE */
	uint64_t value;
};

/* What the processor needs from the machine around it. */
struct cpu_bus {
	/*
	 * Host memory behind one 4 KiB page, or NULL where nothing is mapped;
	 * *access gets the CPU_ACCESS_* rights of the mapping.  The answer may
	 * be cached until cpu_memory_changed().
	 */
	uint8_t *(*page)(void *arg, uint64_t gpa, uint32_t *access);
	/* The time-stamp counter as the guest reads it. */
	uint64_t (*tsc)(void *arg);
};

/* Room for one direct-mapped cache of guest-physical pages. */
#define CPU_PAGE_CACHE	64

/* The translation lookaside buffer: a direct-mapped cache of linear pages. */
#define CPU_TLB		256

struct cpu_tlb_entry {
	uint64_t page;		/* linear address / 4096 */
	uint64_t gpa;
	uint64_t generation;
	bool writable, user, no_execute, global, dirty, large;
};

struct cpu_tlb {
	uint64_t last, all, local;	/* generations */
	uint64_t cr3;			/* what the entries came from */
	uint32_t cr4, efer;
	struct cpu_tlb_entry entry[CPU_TLB];
};

/* Whose processor: where the SDM and the APM differ, both are here. */
enum cpu_vendor { CPU_AMD, CPU_INTEL };

struct cpu {
	enum cpu_vendor vendor;		/* for life; kept by cpu_reset() */
	uint64_t gpr[CPU_NGPR];
	uint64_t rip;
	uint64_t rflags;
	struct cpu_seg seg[CPU_NSEG];
	struct cpu_seg gdtr, idtr, ldtr, tr;
	uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
	uint64_t dr[4], dr6, dr7;
	uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip, pat;
	_Alignas(16) uint8_t fxsave[512];	/* x87 and SSE state, FXSAVE image */

	bool int_shadow;	/* after STI, MOV SS, POP SS: one instruction */
	bool nmi_blocked;	/* from NMI delivery to IRET */
	struct cpu_event inject;	/* delivered before the first instruction of the next cpu_run() */

	uint32_t intercepts;	/* CPU_INTERCEPT_* */
	const volatile int *kick;	/* may be NULL */
	const struct cpu_bus *bus;
	void *bus_arg;

	/* Developer's diagnostics: what this processor does not execute yet. */
	uint64_t unimplemented;		/* count; the guest got #UD */
	uint8_t unimplemented_bytes[15];	/* the last one */
	uint8_t unimplemented_len;

	/* Private to cpu/. */
	struct cpu_private {
		struct {
			uint64_t page;	/* GPA | 1 when valid */
			uint8_t *host;
			uint32_t access;
		} cache[CPU_PAGE_CACHE];
		struct cpu_tlb tlb;
		uint64_t pdpte[4];	/* CPU_PDPTES_HELD */
		bool pdptes_wanted;	/* to be loaded at the next walk */
		bool ss_shadow;	/* the shadow is that of MOV SS or POP SS */
	} private;
};

/* Registers as after RESET (SDM 3A table 10-1); vendor, bus and intercepts are kept. */
void cpu_reset(struct cpu *);

/* Execute at most `budget` instructions.  Fills *exit and returns its reason. */
enum cpu_exit_reason cpu_run(struct cpu *, uint64_t budget, struct cpu_exit *exit);

/* RIP := next_rip as if the instruction had completed: RF and the interrupt
 * shadow are cleared, no single-step trap is raised. */
void cpu_advance(struct cpu *, uint64_t next_rip);

/* Guest-physical mappings changed: forget cached pages. */
void cpu_memory_changed(struct cpu *);

/* What this processor itself answers to CPUID: exactly what it implements.
 * out[] is EAX, EBX, ECX, EDX. */
void cpu_cpuid(enum cpu_vendor, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* MSR accesses that need no hypervisor (the MSR bitmap's clear bits): SYSENTER,
 * STAR ff., FS/GS/KERNELGS base, EFER, PAT, TSC read.  They do not exit;
 * these two are for a hypervisor that carries out one itself.  False: there is
 * no such MSR here, or (write) the value is refused, where hardware has #GP. */
bool cpu_rdmsr(struct cpu *, uint32_t msr, uint64_t *value);
bool cpu_wrmsr(struct cpu *, uint32_t msr, uint64_t value);

/* The same for MOV to CR0 and CR4. */
bool cpu_write_cr(struct cpu *, unsigned cr, uint64_t value);

/* Current privilege level: SS.DPL. */
static inline unsigned
cpu_cpl(const struct cpu *cpu)
{
	return cpu->seg[CPU_SS].dpl;
}

#endif /* SOFTNVMM_CPU_H */
