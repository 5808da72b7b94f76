/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Shared by the files of the processor and by nobody else.
 *
 * One struct exec lives for one cpu_run().  An instruction works on the
 * registers in struct cpu directly; what it started from is kept in
 * exec.start, and a fault or an exit in its middle puts that back.  So an
 * instruction routine never has to undo anything, and the only rule for
 * memory is: the write that may fault comes last.
 */
#ifndef SOFTNVMM_CPU_INTERNAL_H
#define SOFTNVMM_CPU_INTERNAL_H

#include <setjmp.h>
#include <stddef.h>

#include "cpu.h"

/* RFLAGS (SDM 1, 3.4.3). */
#define FLAG_CF		0x00000001u
#define FLAG_ONE	0x00000002u
#define FLAG_PF		0x00000004u
#define FLAG_AF		0x00000010u
#define FLAG_ZF		0x00000040u
#define FLAG_SF		0x00000080u
#define FLAG_TF		0x00000100u
#define FLAG_IF		0x00000200u
#define FLAG_DF		0x00000400u
#define FLAG_OF		0x00000800u
#define FLAG_IOPL	0x00003000u
#define FLAG_NT		0x00004000u
#define FLAG_RF		0x00010000u
#define FLAG_VM		0x00020000u
#define FLAG_AC		0x00040000u
#define FLAG_VIF	0x00080000u
#define FLAG_VIP	0x00100000u
#define FLAG_ID		0x00200000u
#define FLAG_EXIST	0x003F7FD7u
#define FLAG_STATUS	(FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define CR0_PE		0x00000001u
#define CR0_MP		0x00000002u
#define CR0_EM		0x00000004u
#define CR0_TS		0x00000008u
#define CR0_ET		0x00000010u
#define CR0_NE		0x00000020u
#define CR0_WP		0x00010000u
#define CR0_AM		0x00040000u
#define CR0_NW		0x20000000u
#define CR0_CD		0x40000000u
#define CR0_PG		0x80000000u

#define CR4_FSGSBASE	0x00010000u
#define CR4_SMEP	0x00100000u
#define CR4_SMAP	0x00200000u
#define CR4_TSD		0x00000004u
#define CR4_DE		0x00000008u
#define CR4_PSE		0x00000010u
#define CR4_PAE		0x00000020u
#define CR4_PGE		0x00000080u
#define CR4_PCE		0x00000100u
#define CR4_OSFXSR	0x00000200u
#define CR4_UMIP	0x00000800u
#define CR4_OSXSAVE	0x00040000u
/* The bits that this processor has: TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT ... */
#define CR4_VALID	(0x000007FCu | CR4_UMIP | CR4_FSGSBASE | CR4_OSXSAVE | \
	CR4_SMEP | CR4_SMAP)

#define EFER_SCE	0x00000001u
#define EFER_LME	0x00000100u
#define EFER_LMA	0x00000400u
#define EFER_NXE	0x00000800u
#define EFER_VALID	(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

#define DR6_BS		0x00004000u

#define PHYS_BITS	48
#define PHYS_MASK	((UINT64_C(1) << PHYS_BITS) - 1)

enum exception {
	EXC_DE = 0, EXC_DB = 1, EXC_NMI = 2, EXC_BP = 3, EXC_OF = 4, EXC_BR = 5,
	EXC_UD = 6, EXC_NM = 7, EXC_DF = 8, EXC_TS = 10, EXC_NP = 11,
	EXC_SS = 12, EXC_GP = 13, EXC_PF = 14, EXC_MF = 16, EXC_AC = 17
};

/* The type of a segment: code and data; of system segments and gates. */
#define DESC_ACCESSED	0x1u
#define DESC_RW		0x2u	/* code: readable; data: writable */
#define DESC_DOWN	0x4u	/* code: conforming; data: expand-down */
#define DESC_CODE	0x8u
#define SYS_TSS16	0x1u
#define SYS_LDT		0x2u
#define SYS_CALL_GATE16	0x4u
#define SYS_TASK_GATE	0x5u
#define SYS_TSS32	0x9u
#define SYS_CALL_GATE32	0xCu
#define TSS_BUSY	0x2u
#define TSS_32		0x8u

/*
 * Whose access it is (SDM 3A 4.6): the program's, at CPL; the processor's on
 * the stack of an inner level; the processor's on a system structure.
 */
enum rank { RANK_CPL, RANK_SUPERVISOR, RANK_SYSTEM };

/* How memory is used.  A read-modify-write is checked as a write. */
enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

/* Host memory behind a guest operand, in two pieces if it crosses a page. */
struct span {
	uint8_t *part[2];
	unsigned len[2];
};

enum operand_kind {
	OPERAND_NONE, OPERAND_REG, OPERAND_HIGH, OPERAND_SREG, OPERAND_MEM, OPERAND_IMM,
	OPERAND_MM, OPERAND_XMM
};

struct operand {
	uint8_t kind;		/* enum operand_kind; HIGH: AH, CH, DH, BH */
	uint8_t size;		/* bytes */
	uint8_t reg;
};

struct exec;
typedef void handler(struct exec *);

/* A row of the decode tables: see optable.c. */
struct opcode {
	handler *execute;	/* NULL: not an instruction */
	uint32_t flags;		/* OP_* */
	uint8_t operand[3];	/* enum encoding */
	uint8_t by;		/* enum by: what the sub-table is indexed by */
	const struct opcode *table;
};

/* An instruction, decoded. */
struct insn {
	const struct opcode *op;
	uint32_t flags;		/* OP_* of the rows that led to op */
	uint8_t bytes[15], len;
	uint8_t opcode;		/* last opcode byte */
	uint8_t rex;
	uint8_t rep;		/* 0, 0xF2, 0xF3: the last one counts */
	bool lock, prefix66, prefix67;
	int8_t override;	/* enum cpu_seg_index, or -1 */
	uint8_t osize, asize;	/* bytes */
	bool vex;		/* with L, and vvvv as a register */
	uint8_t vex_l, vvvv;
	uint8_t modrm_at;	/* of bytes */
	bool has_modrm;
	uint8_t mod, reg, rm;	/* reg and rm with REX.R and REX.B added */
	uint8_t seg;		/* memory operand: segment and offset */
	uint64_t ea;
	bool sp_based;		/* ea has RSP in it: POP */
	struct operand operand[3];
	uint64_t imm, imm2;
};

struct exec {
	struct cpu *cpu;
	struct cpu_exit *exit;
	uint64_t budget;
	jmp_buf unwind;

	struct insn in;
	uint64_t next_rip;
	struct span rmw;	/* from get_rmw() to put() */
	uint64_t rmw_old;	/* what it held */

	/* The state at the start of this instruction or iteration. */
	struct state {
		uint64_t gpr[CPU_NGPR], rip, rflags;
		struct cpu_seg seg[CPU_NSEG];
	} start;

	/* A task switch that is not complete: what an exit goes back to. */
	struct {
		bool active;
		struct state start;
		struct cpu_seg tr, ldtr;
		uint64_t cr0, cr3, dr7;
		struct span busy[2];
		uint8_t type[2];
	} switching;

	/* What the instruction asks for at its end. */
	bool shadow;		/* interrupt shadow for the next one */
	enum {
		TRAP_BY_OLD_TF,		/* single-step if TF was set before */
		TRAP_BY_NEW_TF,		/* SYSCALL, SYSRET: if TF is set now */
		TRAP_BY_NOTHING		/* INT n, task switch */
	} trap_by;
	bool hold_traps;	/* MOV SS, POP SS: all debug traps wait */
	bool keep_rf;		/* IRET loads RF */
	bool nmi_unblock;	/* IRET has begun */
	bool debug_fault;	/* the #DB on its way is general detect: RF */
	unsigned data_hits;	/* data breakpoints met, as in DR6 */
	bool cr8_written;	/* to be reported once RIP has moved */

	struct cpu_event pending;	/* raised, not yet looked at */
	struct cpu_event delivering;
	bool delivering_insn;		/* by INT n, INT3, INTO: EXT stays 0 */
	bool delivering_int_n;		/* same, and gate DPL is checked */

	/* Instruction fetch: the page that RIP is in. */
	const uint8_t *fetch_host;
	uint64_t fetch_page;
};

enum unwind { UNWIND_NONE, UNWIND_EVENT, UNWIND_EXIT, UNWIND_RETRY };

/* --- run.c --- */
_Noreturn void fault(struct exec *, enum exception, uint32_t);
_Noreturn void leave(struct exec *, enum cpu_exit_reason);
/* As the guest sees it #UD; counted, so that the gap is known. */
_Noreturn void unimplemented(struct exec *);
/* The interrupted state becomes what restarts would start from. */
void checkpoint(struct exec *);
bool should_stop(struct exec *);
/* A locked write came too late: the instruction starts again. */
_Noreturn void retry(struct exec *);

#define ud(x)		fault((x), EXC_UD, 0)
#define gp0(x)		fault((x), EXC_GP, 0)

/* --- decode.c --- */
void decode(struct exec *);
extern const struct opcode opcode_map_1[256], opcode_map_0f[256];
extern const struct opcode opcode_map_0f38[256], opcode_map_0f3a[256];
extern const struct opcode opcode_vex_0f38[256], opcode_vex_0f3a[256];
uint64_t get(struct exec *, unsigned);
uint64_t get_rmw(struct exec *, unsigned);
void put(struct exec *, unsigned, uint64_t);

/* --- paging.c --- */
uint64_t translate(struct exec *, uint64_t linear, enum access, enum rank);
uint8_t *physical(struct exec *, uint64_t gpa, uint32_t access);
void check_pdptes(struct exec *, uint64_t cr3);

/* --- tlb.c --- */
void tlb_flush(struct cpu *);
void tlb_flush_local(struct cpu *);
void tlb_flush_page(struct cpu *, uint64_t linear);
const struct cpu_tlb_entry *tlb_find(struct cpu *, uint64_t linear);
void tlb_insert(struct cpu *, uint64_t linear, const struct cpu_tlb_entry *);

/* --- span.c --- */
void span_of(struct exec *, uint64_t linear, unsigned len, enum access,
    enum rank, struct span *);
uint64_t span_load(const struct span *, unsigned at, unsigned len);
void span_store(const struct span *, unsigned at, unsigned len, uint64_t);
/* Locked: writes if the old value is still there. */
bool span_exchange(const struct span *, unsigned len, uint64_t old, uint64_t value);
bool span_exchange16(const struct span *, const uint64_t old[2], const uint64_t value[2]);
void system_span(struct exec *, uint64_t linear, unsigned len, enum access, struct span *);
uint64_t read_system(struct exec *, uint64_t linear, unsigned len);
void update_system(struct exec *, uint64_t linear, uint8_t clear, uint8_t set);

/* --- segment.c --- */
bool segment_allows(const struct cpu *, const struct cpu_seg *, uint64_t off,
    unsigned len, enum access);
uint64_t linear_address(struct exec *, unsigned seg, uint64_t off,
    unsigned len, enum access);
uint64_t mem_read(struct exec *, unsigned seg, uint64_t off, unsigned len);
void mem_write(struct exec *, unsigned seg, uint64_t off, unsigned len, uint64_t);
void load_data_segment(struct exec *, unsigned seg, uint16_t sel);
/* Real and virtual-8086 mode. */
void set_real_segment(struct cpu *, unsigned seg, uint16_t sel);

/* Bytes of the offset of a far pointer in memory: AMD has no 64-bit ones. */
static inline unsigned
far_offset_size(const struct exec *x)
{
	return x->in.osize == 8 && x->cpu->vendor == CPU_AMD ? 4 : x->in.osize;
}

/* --- descriptor.c --- */
struct descriptor {
	struct cpu_seg seg;
	uint64_t at;		/* linear address */
	uint64_t raw;
};
/* GDT or LDT lookup; error is the selector without RPL. */
void read_descriptor(struct exec *, uint16_t sel, enum exception, struct descriptor *);
void mark_accessed(struct exec *, struct descriptor *);

/* --- tss.c --- */
struct stack {
	struct cpu_seg ss;
	uint64_t sp;
	unsigned width;		/* bytes of SP in use */
	enum rank rank;
	uint32_t error;		/* of #SS where a frame does not fit */
};
void current_stack(const struct cpu *, struct stack *);
void stack_of_level(struct exec *, unsigned cpl, struct stack *);
void stack_of_level64(struct exec *, unsigned cpl, unsigned ist, struct stack *);
void stack_push(struct exec *, struct stack *, unsigned size, uint64_t);
void use_stack(struct cpu *, const struct stack *);

/* --- far.c --- */
void return_code(struct exec *, uint16_t sel, struct descriptor *);
void return_stack(struct exec *, uint16_t sel, unsigned cpl, bool to64);
void drop_segments(struct cpu *, unsigned cpl);

/* --- task.c --- */
void task_transfer(struct exec *, uint16_t sel, struct descriptor *, bool call);
void task_return(struct exec *);
void task_event(struct exec *, uint16_t sel, uint64_t flags);
void task_undo(struct exec *);

/* --- stack.c --- */
unsigned stack_size(const struct cpu *);
void push(struct exec *, unsigned size, uint64_t);
uint64_t pop(struct exec *, unsigned size);
uint64_t stack_peek(struct exec *, uint64_t disp, unsigned size);
void stack_release(struct exec *, uint64_t bytes);

/* --- integer.c --- */
/* The flags of CMP. */
void compare(struct exec *, uint64_t, uint64_t, unsigned size);

/* --- control.c --- */
void set_rip(struct exec *, uint64_t, unsigned osize);

/* --- debug.c --- */
void debug_instruction(struct exec *);
void debug_data(struct exec *, uint64_t linear, unsigned len, bool write);
_Noreturn void debug_exception(struct exec *, uint64_t cause);

/* --- msr.c --- */
bool pat_allowed(uint64_t);

/* --- event.c --- */
void deliver(struct exec *);
bool next_event(struct exec *);
void check_v86_iopl(struct exec *);

/* --- handlers, by file; names are the SDM's --- */
#define HANDLERS(X)							\
	/* integer.c */							\
	X(add) X(or) X(adc) X(sbb) X(and) X(sub) X(xor) X(cmp) X(test)	\
	X(inc) X(dec) X(neg) X(not) X(mul) X(imul) X(imul2) X(imul3)	\
	X(div) X(idiv) X(xadd) X(cmpxchg) X(cmpxchg8b)			\
	X(cbw) X(cwd)							\
	/* decimal.c */							\
	X(daa) X(das) X(aaa) X(aas) X(aam) X(aad)			\
	/* move.c */							\
	X(mov) X(movzx) X(movsx) X(lea) X(xchg) X(bswap) X(movbe)	\
	X(cmovcc) X(setcc) X(xlat) X(nop) X(clflush) X(lahf) X(sahf)		\
	X(clc) X(stc) X(cmc) X(cld) X(std)				\
	/* shift.c */							\
	X(rol) X(ror) X(rcl) X(rcr) X(shl) X(shr) X(sar) X(shld) X(shrd)\
	/* bit.c */							\
	X(bt) X(bts) X(btr) X(btc) X(bsf) X(bsr) X(popcnt)		\
	/* bmi.c */							\
	X(lzcnt) X(tzcnt) X(andn) X(blsr) X(blsmsk) X(blsi) X(bextr)	\
	X(bzhi) X(pdep) X(pext) X(mulx) X(rorx) X(sarx) X(shlx) X(shrx)	\
	X(adcx) X(adox) X(crc32)					\
	/* fpu.c */							\
	X(fwait)							\
	/* fpu_state.c */						\
	X(fninit) X(fnclex) X(fldcw) X(fnstcw) X(fnstsw) X(ldmxcsr)	\
	X(stmxcsr) X(fnstenv) X(fldenv) X(fnsave) X(frstor) X(fxsave)	\
	X(fxrstor) X(xsave) X(xsaveopt) X(xrstor) X(xgetbv) X(emms)	\
	/* x87_move.c */						\
	X(fld) X(fld_m80) X(fld_st) X(fild) X(fld_constant) X(fst)	\
	X(fstp) X(fstp_m80) X(fst_st) X(fstp_st) X(fist) X(fistp)	\
	X(fisttp) X(fxch) X(fcmovcc) X(fabs) X(fchs) X(fxam) X(ffree)	\
	X(ffreep) X(fincstp) X(fdecstp) X(fnop)				\
	/* sse_move.c */						\
	X(movv) X(movq_low) X(movss) X(movsd) X(movlps) X(movhlps)	\
	X(movhps) X(movhps_store) X(movddup) X(movsldup) X(movshdup)	\
	X(maskmov) X(pand) X(pandn) X(por) X(pxor) X(pshufd) X(pshuflw)	\
	X(pshufhw) X(shufps) X(shufpd) X(punpcklbw) X(punpcklwd)	\
	X(punpckldq) X(punpcklqdq) X(punpckhbw) X(punpckhwd)		\
	X(punpckhdq) X(punpckhqdq) X(pinsrw) X(pextrw) X(pmovmskb)	\
	X(movmskps) X(movmskpd)						\
	/* simd_integer.c */						\
	X(paddb) X(paddw) X(paddd) X(paddq) X(psubb) X(psubw) X(psubd)	\
	X(psubq) X(paddsb) X(paddsw) X(psubsb) X(psubsw) X(paddusb)	\
	X(paddusw) X(psubusb) X(psubusw) X(pcmpeqb) X(pcmpeqw)		\
	X(pcmpeqd) X(pcmpgtb) X(pcmpgtw) X(pcmpgtd) X(pminub) X(pmaxub)	\
	X(pminsw) X(pmaxsw) X(pavgb) X(pavgw) X(pmullw) X(pmulhw)	\
	X(pmulhuw) X(pmuludq) X(pmaddwd) X(psadbw) X(packsswb)		\
	X(packuswb) X(packssdw) X(psrlw) X(psrld) X(psrlq) X(psraw)	\
	X(psrad) X(psllw) X(pslld) X(psllq) X(pslldq) X(psrldq)		\
	/* string.c */							\
	X(movs) X(cmps) X(stos) X(lods) X(scas)				\
	/* control.c */							\
	X(jcc) X(jmp) X(jmp_indirect) X(call) X(call_indirect) X(ret)	\
	X(ret_imm) X(loop) X(loope) X(loopne) X(jrcxz) X(bound)		\
	/* far.c */							\
	X(jmp_far) X(jmp_far_m) X(call_far) X(call_far_m) X(retf) X(retf_imm) \
	/* stack.c */							\
	X(push) X(pop) X(pusha) X(popa) X(pushf) X(popf)		\
	X(enter) X(leave) X(push_sreg) X(pop_sreg)			\
	/* segment.c */							\
	X(mov_from_sreg) X(mov_to_sreg) X(load_far_pointer)		\
	X(lgdt) X(lidt) X(sgdt) X(sidt)					\
	/* descriptor.c */						\
	X(lldt) X(ltr) X(sldt) X(str)					\
	X(lar) X(lsl) X(verr) X(verw) X(arpl)				\
	/* event.c */							\
	X(int_n) X(int3) X(into) X(icebp)				\
	/* iret.c */							\
	X(iret)								\
	/* debug.c */							\
	X(mov_from_dr) X(mov_to_dr)					\
	/* system.c */							\
	X(mov_from_cr) X(mov_to_cr)					\
	X(clts) X(lmsw) X(smsw) X(cli) X(sti) X(stac) X(clac)		\
	X(invlpg) X(wbinvd) X(fence) X(rdtsc)				\
	/* syscall.c */							\
	X(swapgs) X(syscall) X(sysret) X(sysenter) X(sysexit)		\
	X(rdfsbase) X(rdgsbase) X(wrfsbase) X(wrgsbase)			\
	/* msr.c */							\
	X(rdmsr) X(wrmsr)						\
	/* intercept.c */						\
	X(hlt) X(cpuid) X(xsetbv) X(invd) X(monitor) X(mwait)		\
	X(vmmcall) X(svm) X(vmcall) X(vmx) X(rdpmc) X(rdtscp)		\
	X(in) X(out) X(ins) X(outs)

#define X(name)	handler op_##name;
HANDLERS(X)
#undef X

/* --- small things used everywhere --- */
static inline bool
intel(const struct cpu *cpu)
{
	return cpu->vendor == CPU_INTEL;
}

static inline bool
protected_mode(const struct cpu *cpu)
{
	return (cpu->cr0 & CR0_PE) != 0;
}

static inline bool
long_mode(const struct cpu *cpu)
{
	return (cpu->efer & EFER_LMA) != 0;
}

static inline bool
v86_mode(const struct cpu *cpu)
{
	return protected_mode(cpu) && (cpu->rflags & FLAG_VM) && !long_mode(cpu);
}

/* Selectors are paragraphs, not descriptors. */
static inline bool
real_segments(const struct cpu *cpu)
{
	return !protected_mode(cpu) || v86_mode(cpu);
}

static inline bool
mode64(const struct cpu *cpu)
{
	return long_mode(cpu) && cpu->seg[CPU_CS].l;
}

static inline uint64_t
mask_of(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

static inline uint64_t
sign_of(unsigned size)
{
	return UINT64_C(1) << (size * 8 - 1);
}

static inline uint64_t
sign_extend(uint64_t value, unsigned size)
{
	uint64_t sign = sign_of(size);

	return ((value & mask_of(size)) ^ sign) - sign;
}

/* Bits 63:47 all equal (SDM 1, 3.3.7.1). */
static inline bool
canonical(uint64_t address)
{
	return (address >> 47) == 0 || (address >> 47) == 0x1FFFF;
}

/* Writes of 8 and 16 bits keep the rest; of 32 bits clear it (SDM 1, 3.4.1.1). */
static inline void
set_gpr(struct cpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
	if (size >= 4)
		cpu->gpr[reg] = value & mask_of(size);
	else
		cpu->gpr[reg] = (cpu->gpr[reg] & ~mask_of(size)) |
		    (value & mask_of(size));
}

static inline void
set_flags(struct cpu *cpu, uint64_t which, uint64_t value)
{
	cpu->rflags = (cpu->rflags & ~which) | (value & which);
}

/* SF, ZF and PF of a result. */
static inline uint64_t
flags_of(uint64_t result, unsigned size)
{
	uint64_t f = 0;
	unsigned low = result & 0xFF;

	result &= mask_of(size);
	if (result == 0)
		f |= FLAG_ZF;
	if (result & sign_of(size))
		f |= FLAG_SF;
	low ^= low >> 4;
	low ^= low >> 2;
	low ^= low >> 1;
	if ((low & 1) == 0)
		f |= FLAG_PF;
	return f;
}

/* The condition in the low four bits of Jcc, SETcc, CMOVcc (SDM 2D B.1.4.7). */
static inline bool
condition(const struct cpu *cpu, unsigned cc)
{
	uint64_t f = cpu->rflags;
	bool sf = (f & FLAG_SF) != 0, of = (f & FLAG_OF) != 0, r;

	switch ((cc >> 1) & 7) {
	case 0: r = of; break;
	case 1: r = (f & FLAG_CF) != 0; break;
	case 2: r = (f & FLAG_ZF) != 0; break;
	case 3: r = (f & (FLAG_CF | FLAG_ZF)) != 0; break;
	case 4: r = sf; break;
	case 5: r = (f & FLAG_PF) != 0; break;
	case 6: r = sf != of; break;
	default: r = (f & FLAG_ZF) != 0 || sf != of; break;
	}
	return r != (cc & 1);
}

#endif /* SOFTNVMM_CPU_INTERNAL_H */
