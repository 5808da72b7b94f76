/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of the hypervisor share.
 *
 * There are two halves, as on NetBSD.  The "library" half works on the
 * caller's structures, the comm page and the list of areas.  The "kernel"
 * half (names soft_k*) is reached where libnvmm would make a system call; it
 * returns an errno, and knows machines and vCPUs by number only.
 */
#ifndef SOFTNVMM_INTERNAL_H
#define SOFTNVMM_INTERNAL_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Only what the public headers declare leaves the shared object. */
#pragma GCC visibility push(default)
#include <nvmm.h>
#include <softnvmm.h>
#pragma GCC visibility pop

#include "cpu/cpu.h"
#include "faults.h"

#define SOFT_PAGE_SIZE		UINT64_C(4096)
#define SOFT_PAGE_MASK		(SOFT_PAGE_SIZE - 1)

#define SOFT_MAX_MACHINES	128	/* K-CAP-3 */
#define SOFT_MAX_VCPUS		256	/* K-CAP-4 */
#define SOFT_MAX_HMAPS		32	/* K-MEM-6 */
#define SOFT_MAX_CPUIDS		32	/* K-CAP-10 */

/* The host that this hypervisor runs on: ours to say (K-CAP-8, K-CAP-9). */
#define SOFT_XCR0_MASK		UINT64_C(0x3)
#define SOFT_MXCSR_MASK		UINT32_C(0xFFFF)	/* unless NVMM_SOFT_HOST */

#define SOFT_RFLAGS_TF		(UINT64_C(1) << 8)
#define SOFT_RFLAGS_IF		(UINT64_C(1) << 9)
#define SOFT_RFLAGS_DF		(UINT64_C(1) << 10)
#define SOFT_RFLAGS_RF		(UINT64_C(1) << 16)
#define SOFT_CR0_PE		(UINT64_C(1) << 0)
#define SOFT_CR0_ET		(UINT64_C(1) << 4)
#define SOFT_CR0_NE		(UINT64_C(1) << 5)
#define SOFT_CR0_NW		(UINT64_C(1) << 29)
#define SOFT_CR0_CD		(UINT64_C(1) << 30)
#define SOFT_CR0_PG		(UINT64_C(1) << 31)
#define SOFT_CR4_PSE		(UINT64_C(1) << 4)
#define SOFT_CR4_PAE		(UINT64_C(1) << 5)
#define SOFT_CR4_OSXSAVE	(UINT64_C(1) << 18)
#define SOFT_CR4_PCIDE		(UINT64_C(1) << 17)
#define SOFT_EFER_LME		(UINT64_C(1) << 8)
#define SOFT_EFER_LMA		(UINT64_C(1) << 10)
#define SOFT_EFER_SVME		(UINT64_C(1) << 12)

/* ---- which hypervisor (profile.c) -------------------------------------- */

/* A set of quirks or of faults. */
struct soft_set {
	uint64_t word[3];
};

static inline bool
soft_in(const struct soft_set *set, unsigned n)
{
	return (set->word[n / 64] >> (n % 64)) & 1;
}

/* Known deviations from the SDM, the APM and libnvmm(3).  Names, meaning and
 * the profiles that have them: soft_quirks[] in quirk.c. */
enum soft_quirk {
	SOFT_Q_RETURN_OVERWRITES,
	SOFT_Q_STOP_LOST,
	SOFT_Q_EXITSTATE_ZERO,
	SOFT_Q_VCPU_EXISTS_EBUSY,
	SOFT_Q_HVA_NESTED,
	SOFT_Q_HVA_UNCHECKED,
	SOFT_Q_HVA_FAIL_KEEPS_SLOT,
	SOFT_Q_GPA_REFUSAL_ABORTS,
	SOFT_Q_GPA_UNMAP_ERRNO,
	SOFT_Q_GPA_UNMAP_TOP,
	SOFT_Q_RESET_TAGS,
	SOFT_Q_MXCSR_BY_IMAGE,
	SOFT_Q_TSC_STALE,
	SOFT_Q_TSC_OFFSET,
	SOFT_Q_EVENT_SCRATCH,
	SOFT_Q_EXCP_0_3,
	SOFT_Q_CP_NO_ERROR,
	SOFT_Q_PAGE_IN,
	SOFT_Q_NMI_STAYS_BLOCKED,
	SOFT_Q_INT_N_TWICE,
	SOFT_Q_NMI_READY_EARLY,
	SOFT_Q_EFER_BY_KERNEL,
	SOFT_Q_CR8_SPILL,
	SOFT_Q_CR8_WIDE,
	SOFT_Q_CR0_CACHE_BITS,
	SOFT_Q_CR0_LEAVES_LONG,
	SOFT_Q_LAUNCH_FLAG,
	SOFT_Q_PDPTES_HELD,
	SOFT_Q_TASK_SWITCH_INVALID,
	SOFT_Q_NO_DECODE_ASSISTS,
	SOFT_Q_CPUID_64BIT,
	SOFT_Q_CPUID_EXIT_LATE,
	SOFT_Q_CPUID_HV_RAW,
	SOFT_Q_CPUID_KHZ_RAW,
	SOFT_Q_CPUID_X87_SIZE,
	SOFT_Q_INVD_INVALID,
	SOFT_Q_XSETBV_64BIT,
	SOFT_Q_NO_SINGLE_STEP,
	SOFT_Q_ASSIST_SHADOW,
	SOFT_Q_ASSIST_RF,
	SOFT_Q_INS_DEVICE_FIRST,
	SOFT_Q_GM_PIECEWISE,
	SOFT_Q_WALK_TABLES_ONLY,
	SOFT_Q_WALK_PAT,
	SOFT_Q_WALK_PS_NO_PSE,
	SOFT_Q_WALK_NO_PSE36,
	SOFT_Q_WALK_PAE_2M,
	SOFT_Q_WALK_LARGE_47,
	SOFT_Q_GM_LINEAR_64,
	SOFT_Q_IO_PREFIX_5,
	SOFT_Q_SEG_BY_LMA,
	SOFT_Q_LIMIT_SCALED,
	SOFT_Q_IO_INDEX_64,
	SOFT_Q_IO_BATCH_LIMIT,
	SOFT_Q_MEM_ONE_CALLBACK,
	SOFT_Q_MEM_FETCH_15,
	SOFT_Q_MEM_RIP_64,
	SOFT_Q_MEM_IMM_UNSIGNED,
	SOFT_Q_MEM_MOVZX_HIGH,
	SOFT_Q_MEM_CMPS_SWAPPED,
	SOFT_Q_MEM_INDEX_64,
	SOFT_Q_MEM_REP_ANY,
	SOFT_Q_MEM_COUNT_UPPER,
	SOFT_Q_MEM_REPNE_ALWAYS,
	SOFT_NQUIRKS
};

struct soft_vcpu;

/* How one part of the state moves between the comm page and the vCPU. */
struct soft_group {
	void (*commit)(struct soft_vcpu *, const struct nvmm_x64_state *);
	void (*provide)(struct soft_vcpu *, struct nvmm_x64_state *);
};
#define SOFT_NGROUPS	7		/* bits of NVMM_X64_STATE_ALL */

struct soft_model;

/* A backend of the kernel: svm.c, vmx.c. */
struct soft_vendor {
	const char *name;
	bool intel;			/* CPUID's leaves: kernel spec 7 */
	uint64_t vcpu_conf_support;	/* K-CAP-7 */
	const struct soft_group *groups;	/* SOFT_NGROUPS, in bit order */
	/* Turns the processor's exit into NVMM's.  False: dealt with here, as
	 * in a kernel; go on unless the return check says otherwise. */
	bool (*exit)(struct soft_vcpu *, const struct cpu_exit *,
	    struct nvmm_vcpu_exit *);
	/* May the guest be entered as it is, with the event that is armed?
	 * False: no, with this hwcode. */
	bool (*enter)(struct soft_vcpu *, uint64_t *hwcode);
	/* What is always intercepted, and what a window for NMIs is made of. */
	uint32_t (*intercepts)(const struct soft_model *);
	uint32_t (*nmi_window)(const struct soft_model *);
	uint64_t bad_state;		/* hwcode when the processor refuses */
	uint32_t cpuid_basic_max, cpuid_extended_max;
};

struct soft_profile {
	const char *name, *summary;
	unsigned bit;			/* in soft_switch.profiles */
	uint32_t version;		/* K-CAP-1 */
	bool has_stop;			/* L-VER-2 */
	bool has_cmps;			/* the memory assist takes A6, A7 (7.3) */
	const struct soft_vendor *vendor;
	uint32_t max_vcpus;
	uint64_t max_ram;
	uint64_t cr4_mask;		/* K-SET-3 */
	uint32_t cpuid_hypervisor_max;	/* K-CPUID-14 */
	uint32_t cpuid_7_ebx, cpuid_7_edx, cpuid_80000001_edx;
	bool cpuid_counts;		/* CPUID tells the number of vCPUs (7, DF) */
};

/* What a machine is for life. */
struct soft_model {
	const struct soft_profile *profile;
	struct soft_set quirks, faults;
	bool chaos;			/* chaos.c */
	uint64_t chaos_seed;
	const struct soft_host *host;
};

/* A row of the tables of quirks and faults. */
struct soft_switch {
	const char *name, *summary;
	unsigned profiles;		/* quirks: those that have it */
	unsigned where;			/* quirks: those it can be chosen on; 0: all */
};
extern const struct soft_switch soft_quirks[SOFT_NQUIRKS];
extern const struct soft_switch soft_faults[SOFT_NFAULTS];

/* Bits of soft_switch.profiles. */
#define SOFT_IDEAL	0x01u
#define SOFT_V1_SVM	0x02u
#define SOFT_V1_VMX	0x04u
#define SOFT_V2_SVM	0x08u
#define SOFT_V2_VMX	0x10u
#define SOFT_V3_SVM	0x20u
#define SOFT_V3_VMX	0x40u

#define SOFT_QUIRK(model, q)	soft_in(&(model)->quirks, (q))
#define SOFT_FAULT(model, f)	__builtin_expect(soft_in(&(model)->faults, (f)), 0)

/* From the environment.  0, or EINVAL and a problem noted. */
int soft_model_read(struct soft_model *);
void soft_problem_clear(void);

extern const struct soft_vendor soft_svm, soft_vmx, soft_neutral;

bool soft_vmx_enter(struct soft_vcpu *, uint64_t *hwcode);

/* ---- host.c: the machine below the hypervisor ------------------------------- */

struct soft_host_cpuid {
	uint32_t leaf, subleaf, out[4];
};

struct soft_host {
	enum cpu_vendor vendor;		/* whose processor it is */
	uint32_t mxcsr_mask;
	uint64_t misc_enable;
	bool has_arch_capabilities;
	uint64_t arch_capabilities;
	/* No rows: our own processor answers. */
	struct soft_host_cpuid *cpuid;
	size_t ncpuid;
};

/* From the environment, of the vendor that the backend is for unless a file says
 * another; lives for ever.  0, or EINVAL and a problem noted. */
int soft_host_read(enum cpu_vendor, const struct soft_host **);
void soft_host_cpuid(const struct soft_host *, uint32_t leaf, uint32_t subleaf,
    uint32_t out[4]);
void soft_problem(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- chaos.c: what varies from run to run, by NVMM_SOFT_CHAOS ---------------- */

int soft_chaos_read(struct soft_model *);
void soft_chaos_begin(struct soft_vcpu *);
/* Instructions until the next return check, `most` without chaos. */
uint32_t soft_chaos_slice(struct soft_vcpu *, uint32_t most);
/* Will this entry see the stop word only when it ends? */
bool soft_chaos_hides_stop(struct soft_vcpu *);
/* Does the return check end the run with NONE?  `done`: with `reason` made. */
bool soft_chaos_returns(struct soft_vcpu *, bool done, uint64_t reason);

/* ---- the kernel's objects ----------------------------------------------- */

/* Guest memory: what hva_map made, under softnvmm's own address, so that the
 * guest keeps it when the process unmaps its view (L-HVA-3). */
struct soft_object {
	unsigned refs;			/* under the machine's map_lock */
	uint8_t *host;
	size_t size;
};

struct soft_hmap {
	bool used;
	uintptr_t hva;
	size_t size;
	struct soft_object *object;	/* NULL: size 0 */
};

struct soft_segment {
	uint64_t gpa, size;
	uint32_t access;		/* CPU_ACCESS_* == PROT_* */
	uint8_t *host;
	struct soft_object *object;
};

struct soft_machine {
	/* Shared by vCPU operations and gpa_map/gpa_unmap, exclusive for
	 * hva_map/hva_unmap, destroy and ctl (kernel spec 2.3). */
	pthread_rwlock_t lock;
	bool present;
	uint32_t id;
	pid_t pid;
	time_t time;
	struct soft_model model;

	struct soft_hmap hmaps[SOFT_MAX_HMAPS];

	/* The guest's physical space.  Held for reading while instructions
	 * execute, a slice at a time; so gpa_unmap waits for one slice at most
	 * (K-MEM-24) and no vCPU ever sees a page that has gone. */
	pthread_rwlock_t map_lock;
	unsigned map_generation;
	struct soft_segment *segments;	/* sorted, disjoint */
	size_t nsegments, asegments;
	/* A bit a page that the kernel has filled in, or NULL: SOFT_Q_PAGE_IN. */
	uint8_t *filled;

	pthread_mutex_t vcpus_lock;	/* of the array, not what it points to */
	struct soft_vcpu *vcpus[SOFT_MAX_VCPUS];
	unsigned nvcpus;		/* atomic */
};

/* A vCPU's comm page, and what else is kept where it can be found from the
 * caller's struct nvmm_vcpu alone. */
struct soft_page {
	struct nvmm_comm_page comm;	/* first: kernel spec section 0 */
	struct nvmm_vcpu_exit exit;
	bool has_stop;
	uint64_t undecodable_mem;
	bool single_step;		/* an assist did an instruction under TF */
};
_Static_assert(sizeof(struct soft_page) <= 4096, "the comm page is one page");

struct soft_cpuid {
	bool used;
	struct nvmm_vcpu_conf_cpuid conf;
};

struct soft_vcpu {
	pthread_mutex_t lock;		/* kernel spec 2.3: one operation a time */
	unsigned waiting, turns;	/* who waits for it; how often it was taken */
	bool present;
	uint32_t id;
	struct soft_machine *machine;
	const struct soft_model *model;	/* the machine's */
	struct soft_page *page;

	struct cpu cpu;
	bool evt_pending;
	/* cpu.inject is a single-step trap, and this comes next (SDM 3A 6.9). */
	bool stepping;
	struct cpu_event after_step;
	unsigned map_generation;
	uint64_t chaos;			/* chaos.c: state of the sequence */
	uint64_t entry_error;		/* hwcode of an entry that failed */
	uint64_t committed;		/* groups, since the last entry */
	unsigned interrupt;		/* nvmm_soft_interrupt(): checks to go */
	bool interrupt_stops, interrupt_stops_late;
	struct {
		bool launched;		/* the driver thinks so (quirk 12) */
		bool entered;		/* it is so */
		bool mov_ss;		/* the shadow blocks NMIs too */
		bool long_entry;	/* entry control, when PG has gone (13) */
	} vmx;

	/* Kernel spec 11: the guest's TSC is the host's plus an offset, which is
	 * computed at entry when `wanted`. */
	struct {
		bool wanted;
		uint64_t value;		/* last set, or at the last run's end */
		uint64_t offset;
		uint64_t given;		/* SOFT_Q_TSC_OFFSET: by getstate */
	} tsc;

	struct soft_cpuid cpuids[SOFT_MAX_CPUIDS];
};

/* ---- library.c, machine.c, vcpu.c --------------------------------------- */

/* 0 or EBADF (L-INIT-6). */
int soft_opened(void);
pid_t soft_owner(void);			/* 0: root */

/* -1 with errno, or 0: what a system call gives its caller. */
int soft_return(int error);
/* Kernel copyin and copyout: EFAULT rather than a crash. */
int soft_copy(void *to, const void *from, size_t);

/* Found: locked (and for a vCPU its machine shared).  Else an errno in the
 * order of kernel spec 2.2. */
int soft_machine_get(uint32_t machid, bool exclusive, struct soft_machine **);
void soft_machine_put(struct soft_machine *);
int soft_vcpu_get(uint32_t machid, uint32_t cpuid, struct soft_machine **,
    struct soft_vcpu **);
void soft_vcpu_put(struct soft_machine *, struct soft_vcpu *);
/* The machine goes: every vCPU with it.  Machine held exclusively. */
void soft_vcpus_destroy(struct soft_machine *);
unsigned soft_vcpus_count(const struct soft_machine *);

/* What an assist ends with that has done an instruction, or a part of one. */
int soft_assist_commit(struct nvmm_machine *, struct nvmm_vcpu *, bool done);
/* The caller's comm page, or NULL if its structures name none. */
struct nvmm_comm_page *soft_comm(const struct nvmm_machine *,
    const struct nvmm_vcpu *);

/* ---- memory.c, areas.c --------------------------------------------------- */

/* System calls: 0 or an errno. */
int soft_khva_map(uint32_t machid, uintptr_t hva, size_t);
int soft_khva_unmap(uint32_t machid, uintptr_t hva, size_t);
int soft_kgpa_map(uint32_t machid, uintptr_t hva, uint64_t gpa, size_t,
    int prot);
int soft_kgpa_unmap(uint32_t machid, uint64_t gpa, size_t);

struct soft_areas;
struct soft_areas *soft_areas_create(const struct soft_model *);
void soft_areas_destroy(struct soft_areas *);
const struct soft_model *soft_areas_model(const struct nvmm_machine *);

/* Of a machine whose model is known.  0 or ENOMEM. */
int soft_memory_create(struct soft_machine *);
/* Drops all memory.  Machine held exclusively, or not yet known to anyone. */
void soft_memory_destroy(struct soft_machine *);
uint64_t soft_memory_size(const struct soft_machine *);
/* struct cpu_bus: page.  `arg` is the vCPU. */
uint8_t *soft_memory_page(void *arg, uint64_t gpa, uint32_t *access);
/* The kernel's answer to a nested page fault: true, the page is there now. */
bool soft_memory_fill(struct soft_vcpu *, uint64_t gpa, uint32_t access);

/* ---- state.c ---------------------------------------------------------------- */

void soft_state_reset(const struct soft_model *, struct nvmm_x64_state *);
void soft_state_commit(struct soft_vcpu *, uint64_t flags);
void soft_state_provide(struct soft_vcpu *, uint64_t flags);
extern const struct soft_group soft_common_groups[SOFT_NGROUPS];
/* CR8 as the caller sees it. */
uint64_t soft_cr8(const struct soft_vcpu *);
/* Those of SVM, which copies nearly everything; VMX's begin with them. */
void soft_crs_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_crs_provide(struct soft_vcpu *, struct nvmm_x64_state *);
void soft_segs_provide(struct soft_vcpu *, struct nvmm_x64_state *);
void soft_segs_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_gprs_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_gprs_provide(struct soft_vcpu *, struct nvmm_x64_state *);
void soft_fpu_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_fpu_provide(struct soft_vcpu *, struct nvmm_x64_state *);
void soft_drs_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_drs_provide(struct soft_vcpu *, struct nvmm_x64_state *);
void soft_msrs_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_msrs_provide(struct soft_vcpu *, struct nvmm_x64_state *);
void soft_intr_commit(struct soft_vcpu *, const struct nvmm_x64_state *);
void soft_intr_provide(struct soft_vcpu *, struct nvmm_x64_state *);

/* ---- run.c, exit.c, msr.c, cpuid.c, inject.c ------------------------------- */

uint64_t soft_tsc_now(void);
uint64_t soft_tsc_guest(void *vcpu);	/* struct cpu_bus: tsc */
void soft_tsc_set(struct soft_vcpu *, uint64_t);

/* One MSR that the kernel answers itself. */
struct soft_msr {
	uint32_t msr;
	bool read, write;		/* handled here; else it exits */
	uint64_t value;			/* read; writes are ignored */
};
/* Exits that both backends make alike. */
void soft_exit_hlt(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *);
void soft_exit_io(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *);
void soft_exit_memory(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *);
void soft_exit_insn(struct nvmm_vcpu_exit *, uint64_t reason, uint64_t npc);
void soft_exit_invalid(struct nvmm_vcpu_exit *, uint64_t hwcode);
void soft_exit_xsetbv(struct soft_vcpu *, const struct cpu_exit *);
/* Exits that no backend treats in its own way.  True: e is to be reported. */
bool soft_exit_common(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *, const struct soft_msr *);
void soft_exit_shutdown(struct soft_vcpu *, struct nvmm_vcpu_exit *);

/* The table ends with .msr == 0.  False: done in the kernel. */
bool soft_exit_rdmsr(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *, const struct soft_msr *);
bool soft_exit_wrmsr(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *, const struct soft_msr *);

bool soft_exit_cpuid(struct soft_vcpu *, const struct cpu_exit *,
    struct nvmm_vcpu_exit *);
int soft_cpuid_configure(struct soft_vcpu *,
    const struct nvmm_vcpu_conf_cpuid *);

int soft_inject(struct soft_vcpu *);	/* comm.event; 0 or EINVAL */
/* A single-step trap has been delivered: what waited behind it is next. */
void soft_event_stepped(struct soft_vcpu *);
void soft_event_drop(struct soft_vcpu *);	/* what soft_inject() armed */
/* cpu.inject did not arrive and is to be delivered again. */
void soft_event_interrupted(struct soft_vcpu *);
void soft_inject_gp(struct soft_vcpu *);
void soft_inject_ud(struct soft_vcpu *);
/* After an instruction that was done for the processor: #DB if TF is set. */
void soft_single_step(struct soft_vcpu *);

/* ---- walk.c: the library in the guest's memory (L-WALK, L-GM) --------------- */

/* State must have been fetched.  0 or EFAULT. */
int soft_walk(struct nvmm_machine *, const struct nvmm_x64_state *,
    gvaddr_t, gpaddr_t *, nvmm_prot_t *);
int soft_guest_read(struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t,
    void *, size_t);
int soft_guest_write(struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t,
    const void *, size_t);
/* What soft_guest_write() would fail with; nothing is touched. */
int soft_guest_probe(struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t,
    size_t, bool write);
/* Segment and offset to linear address: L-IO-9, L-IO-10. */
int soft_linear(const struct soft_model *, const struct nvmm_x64_state *,
    unsigned seg, uint64_t offset, size_t size, gvaddr_t *);
/* Whether its type allows reading, or writing: L-IO-10. */
bool soft_segment_type(const struct soft_model *,
    const struct nvmm_x64_state *, unsigned seg, bool write);

/* ---- mem_decode.c: what the memory assist makes of an instruction ----------- */

enum soft_op {
	SOFT_OP_MOV, SOFT_OP_OR, SOFT_OP_AND, SOFT_OP_SUB, SOFT_OP_XOR,
	SOFT_OP_CMP, SOFT_OP_TEST, SOFT_OP_XCHG, SOFT_OP_MOVZX,
	SOFT_OP_MOVS, SOFT_OP_CMPS, SOFT_OP_STOS, SOFT_OP_LODS
};

enum soft_source { SOFT_FROM_MEM, SOFT_FROM_REG, SOFT_FROM_IMM };

struct soft_insn {
	enum soft_op op;
	enum soft_source source;	/* FROM_MEM: a register is the destination */
	uint8_t length;
	uint8_t operand_size;		/* of the register side */
	uint8_t memory_size;		/* of the memory side; differs for MOVZX */
	uint8_t address_size;
	bool rex;
	bool repe, repne;		/* F3, F2 */
	unsigned seg;			/* of RSI */
	unsigned reg;
	uint64_t imm;
	/* Where the one memory operand is: for SOFT_Q_MEM_ONE_CALLBACK. */
	bool has_address;
	unsigned address_seg;
	uint64_t address;		/* in the segment */
};

/* 0, or ENODEV (L-MEM-3). */
int soft_decode(const struct soft_model *, const struct nvmm_x64_state *,
    const uint8_t *bytes, size_t size, struct soft_insn *);

static inline uint64_t
soft_size_mask(unsigned bytes)
{
	return bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * bytes)) - 1;
}

#endif /* SOFTNVMM_INTERNAL_H */
