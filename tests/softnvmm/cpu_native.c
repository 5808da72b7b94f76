/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The interpreter against the processor that this runs on.
 *
 *	cpu_native SEED COUNT
 *
 * Makes COUNT instances of user-mode 64-bit instruction forms: encoding,
 * registers, flags and memory by chance.  Each one runs here natively, in a
 * child process, and in the interpreter at CPL 3 with paging, at the same
 * addresses.  Registers, memory, the flags that the SDM defines, and for
 * faults vector, error code, CR2 and RIP must agree.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "cpu.h"

/* Linear addresses, on both sides. */
#define CODE		UINT64_C(0x10000000)
#define DATA		UINT64_C(0x20000000)
#define DATA_SIZE	0x2000u
#define CONTEXT		0x30000000

#define AT		0x800u		/* the instruction, in the code page */
#define TAKEN_FWD	(AT + 0x60)	/* targets of its branch */
#define TAKEN_BACK	(AT - 0x60)

#define CF 0x001u
#define PF 0x004u
#define AF 0x010u
#define ZF 0x040u
#define SF 0x080u
#define DF 0x400u
#define OF 0x800u
#define STATUS (CF | PF | AF | ZF | SF | OF)

/* --- forms --- */

enum modrm { NOM, RM, EXT, PLUS };
enum size { SB, SV, SQ, SN };	/* 8; 16, 32, 64; 16, 64; fixed */
enum imm { I0, I1, I2, IZ, IV, IE };	/* IE: ENTER's 16 + 8 */
enum undefined { U0, ULOGIC, UMUL, UALL, UBT, UBS, USHIFT, USAR, UROT, USHD };

#define LOCKABLE	0x0001u
#define MEM_ONLY	0x0002u
#define REG_ONLY	0x0004u
#define STRING		0x0008u
#define BIT_OFFSET	0x0010u
#define BRANCH		0x0020u	/* relative */
#define INDIRECT	0x0040u
#define DIVIDE		0x0080u
#define COMPARE		0x0100u
#define COUNT_CL	0x0200u
#define RETURN		0x0400u
#define NO_LOCK_TEST	0x0800u
#define POPS_FLAGS	0x1000u
#define NO_ACCESS	0x2000u	/* LEA, NOP */
#define PREFIX_F3	0x4000u
#define FRAME		0x8000u
#define ZEXT_SHORT	0x10000u	/* count at most the operand size */

struct form {
	const char *name;
	uint8_t op[3], oplen;
	enum modrm modrm;
	uint8_t ext;
	enum size size;
	enum imm imm;
	uint32_t flags;
	enum undefined undefined;
};

#define F1(n, a, m, e, s, i, f, u)	{ n, { a }, 1, m, e, s, i, f, u }
#define F2(n, b, m, e, s, i, f, u)	{ n, { 0x0F, b }, 2, m, e, s, i, f, u }
#define F3(n, b, c, m, e, s, i, f, u)	{ n, { 0x0F, b, c }, 3, m, e, s, i, f, u }

#define ALU(n, at, ext, lock, u)					\
	F1(n " Eb,Gb", at, RM, 0, SB, I0, lock, u),			\
	F1(n " Ev,Gv", at + 1, RM, 0, SV, I0, lock, u),			\
	F1(n " Gb,Eb", at + 2, RM, 0, SB, I0, 0, u),			\
	F1(n " Gv,Ev", at + 3, RM, 0, SV, I0, 0, u),			\
	F1(n " AL,Ib", at + 4, NOM, 0, SB, I1, 0, u),			\
	F1(n " rAX,Iz", at + 5, NOM, 0, SV, IZ, 0, u),			\
	F1(n " Eb,Ib", 0x80, EXT, ext, SB, I1, lock, u),		\
	F1(n " Ev,Iz", 0x81, EXT, ext, SV, IZ, lock, u),		\
	F1(n " Ev,sIb", 0x83, EXT, ext, SV, I1, lock, u)
#define SHIFT(n, ext, u)						\
	F1(n " Eb,Ib", 0xC0, EXT, ext, SB, I1, 0, u),			\
	F1(n " Ev,Ib", 0xC1, EXT, ext, SV, I1, 0, u),			\
	F1(n " Eb,1", 0xD0, EXT, ext, SB, I0, 0, u),			\
	F1(n " Ev,1", 0xD1, EXT, ext, SV, I0, 0, u),			\
	F1(n " Eb,CL", 0xD2, EXT, ext, SB, I0, COUNT_CL, u),		\
	F1(n " Ev,CL", 0xD3, EXT, ext, SV, I0, COUNT_CL, u)
#define UNARY(n, ext, f, u)						\
	F1(n " Eb", 0xF6, EXT, ext, SB, I0, f, u),			\
	F1(n " Ev", 0xF7, EXT, ext, SV, I0, f, u)
#define BITS(n, op, ext, lock)						\
	F2(n " Ev,Gv", op, RM, 0, SV, I0, lock | BIT_OFFSET, UBT),	\
	F2(n " Ev,Ib", 0xBA, EXT, ext, SV, I1, lock, UBT)
#define CC4(X, a) X(a), X((a) + 1), X((a) + 2), X((a) + 3)
#define CC16(X) CC4(X, 0), CC4(X, 4), CC4(X, 8), CC4(X, 12)
#define JCC8(c)  F1("Jcc rel8 " #c, 0x70 + (c), NOM, 0, SN, I1, BRANCH, U0)
#define JCC32(c) F2("Jcc rel32 " #c, 0x80 + (c), NOM, 0, SN, IZ, BRANCH, U0)
#define SETCC(c) F2("SETcc " #c, 0x90 + (c), EXT, 0, SB, I0, 0, U0)
#define CMOV(c)  F2("CMOVcc " #c, 0x40 + (c), RM, 0, SV, I0, 0, U0)
#define STR(n, op, f)							\
	F1(n "B", op, NOM, 0, SB, I0, STRING | (f), U0),		\
	F1(n "W/D/Q", op + 1, NOM, 0, SV, I0, STRING | (f), U0)

static const struct form forms[] = {
	ALU("ADD", 0x00, 0, LOCKABLE, U0), ALU("OR", 0x08, 1, LOCKABLE, ULOGIC),
	ALU("ADC", 0x10, 2, LOCKABLE, U0), ALU("SBB", 0x18, 3, LOCKABLE, U0),
	ALU("AND", 0x20, 4, LOCKABLE, ULOGIC), ALU("SUB", 0x28, 5, LOCKABLE, U0),
	ALU("XOR", 0x30, 6, LOCKABLE, ULOGIC), ALU("CMP", 0x38, 7, 0, U0),
	SHIFT("ROL", 0, UROT), SHIFT("ROR", 1, UROT), SHIFT("RCL", 2, UROT),
	SHIFT("RCR", 3, UROT), SHIFT("SHL", 4, USHIFT), SHIFT("SHR", 5, USHIFT),
	SHIFT("SAL", 6, USHIFT), SHIFT("SAR", 7, USAR),
	UNARY("NOT", 2, LOCKABLE, U0), UNARY("NEG", 3, LOCKABLE, U0),
	UNARY("MUL", 4, 0, UMUL), UNARY("IMUL", 5, 0, UMUL),
	UNARY("DIV", 6, DIVIDE, UALL), UNARY("IDIV", 7, DIVIDE, UALL),
	F1("TEST Eb,Ib", 0xF6, EXT, 0, SB, I1, 0, ULOGIC),
	F1("TEST Ev,Iz", 0xF7, EXT, 0, SV, IZ, 0, ULOGIC),
	F1("TEST Eb,Ib alias", 0xF6, EXT, 1, SB, I1, 0, ULOGIC),
	F1("TEST Eb,Gb", 0x84, RM, 0, SB, I0, 0, ULOGIC),
	F1("TEST Ev,Gv", 0x85, RM, 0, SV, I0, 0, ULOGIC),
	F1("TEST AL,Ib", 0xA8, NOM, 0, SB, I1, 0, ULOGIC),
	F1("TEST rAX,Iz", 0xA9, NOM, 0, SV, IZ, 0, ULOGIC),
	F1("INC Eb", 0xFE, EXT, 0, SB, I0, LOCKABLE, U0),
	F1("DEC Eb", 0xFE, EXT, 1, SB, I0, LOCKABLE, U0),
	F1("INC Ev", 0xFF, EXT, 0, SV, I0, LOCKABLE, U0),
	F1("DEC Ev", 0xFF, EXT, 1, SV, I0, LOCKABLE, U0),
	F1("XCHG Eb,Gb", 0x86, RM, 0, SB, I0, LOCKABLE, U0),
	F1("XCHG Ev,Gv", 0x87, RM, 0, SV, I0, LOCKABLE, U0),
	F1("XCHG rAX,Zv", 0x90, PLUS, 0, SV, I0, 0, U0),
	F1("MOV Eb,Gb", 0x88, RM, 0, SB, I0, 0, U0),
	F1("MOV Ev,Gv", 0x89, RM, 0, SV, I0, 0, U0),
	F1("MOV Gb,Eb", 0x8A, RM, 0, SB, I0, 0, U0),
	F1("MOV Gv,Ev", 0x8B, RM, 0, SV, I0, 0, U0),
	F1("MOV Zb,Ib", 0xB0, PLUS, 0, SB, I1, 0, U0),
	F1("MOV Zv,Iv", 0xB8, PLUS, 0, SV, IV, 0, U0),
	F1("MOV Eb,Ib", 0xC6, EXT, 0, SB, I1, 0, U0),
	F1("MOV Ev,Iz", 0xC7, EXT, 0, SV, IZ, 0, U0),
	F1("MOV Ev,CS", 0x8C, EXT, 1, SV, I0, 0, U0),
	F1("MOV Ev,SS", 0x8C, EXT, 2, SV, I0, 0, U0),
	F1("MOV Ev,DS", 0x8C, EXT, 3, SV, I0, 0, U0),
	F1("MOV Ev,6 (#UD)", 0x8C, EXT, 6, SV, I0, 0, U0),
	F1("LEA", 0x8D, RM, 0, SV, I0, MEM_ONLY | NO_ACCESS, U0),
	F1("MOVSXD", 0x63, RM, 0, SV, I0, 0, U0),
	F2("MOVZX Gv,Eb", 0xB6, RM, 0, SV, I0, 0, U0),
	F2("MOVZX Gv,Ew", 0xB7, RM, 0, SV, I0, 0, U0),
	F2("MOVSX Gv,Eb", 0xBE, RM, 0, SV, I0, 0, U0),
	F2("MOVSX Gv,Ew", 0xBF, RM, 0, SV, I0, 0, U0),
	F1("PUSH Zv", 0x50, PLUS, 0, SQ, I0, 0, U0),
	F1("POP Zv", 0x58, PLUS, 0, SQ, I0, 0, U0),
	F1("PUSH Iz", 0x68, NOM, 0, SQ, IZ, 0, U0),
	F1("PUSH sIb", 0x6A, NOM, 0, SQ, I1, 0, U0),
	F1("PUSH Ev", 0xFF, EXT, 6, SQ, I0, 0, U0),
	F1("POP Ev", 0x8F, EXT, 0, SQ, I0, 0, U0),
	F2("PUSH FS", 0xA0, NOM, 0, SQ, I0, 0, U0),
	F1("PUSHF", 0x9C, NOM, 0, SQ, I0, 0, U0),
	F1("POPF", 0x9D, NOM, 0, SQ, I0, POPS_FLAGS, U0),
	F1("ENTER", 0xC8, NOM, 0, SQ, IE, FRAME, U0),
	F1("LEAVE", 0xC9, NOM, 0, SQ, I0, FRAME, U0),
	F1("IMUL Gv,Ev,Iz", 0x69, RM, 0, SV, IZ, 0, UMUL),
	F1("IMUL Gv,Ev,sIb", 0x6B, RM, 0, SV, I1, 0, UMUL),
	F2("IMUL Gv,Ev", 0xAF, RM, 0, SV, I0, 0, UMUL),
	F1("CBW/CWDE/CDQE", 0x98, NOM, 0, SV, I0, 0, U0),
	F1("CWD/CDQ/CQO", 0x99, NOM, 0, SV, I0, 0, U0),
	F1("SAHF", 0x9E, NOM, 0, SN, I0, 0, U0), F1("LAHF", 0x9F, NOM, 0, SN, I0, 0, U0),
	F1("CMC", 0xF5, NOM, 0, SN, I0, 0, U0), F1("CLC", 0xF8, NOM, 0, SN, I0, 0, U0),
	F1("STC", 0xF9, NOM, 0, SN, I0, 0, U0), F1("CLD", 0xFC, NOM, 0, SN, I0, 0, U0),
	F1("STD", 0xFD, NOM, 0, SN, I0, 0, U0),
	F1("XLAT", 0xD7, NOM, 0, SN, I0, STRING, U0),
	F2("XADD Eb,Gb", 0xC0, RM, 0, SB, I0, LOCKABLE, U0),
	F2("XADD Ev,Gv", 0xC1, RM, 0, SV, I0, LOCKABLE, U0),
	F2("CMPXCHG Eb,Gb", 0xB0, RM, 0, SB, I0, LOCKABLE | COMPARE, U0),
	F2("CMPXCHG Ev,Gv", 0xB1, RM, 0, SV, I0, LOCKABLE | COMPARE, U0),
	F2("CMPXCHG8B/16B", 0xC7, EXT, 1, SV, I0, LOCKABLE | COMPARE | MEM_ONLY, U0),
	BITS("BT", 0xA3, 4, 0), BITS("BTS", 0xAB, 5, LOCKABLE),
	BITS("BTR", 0xB3, 6, LOCKABLE), BITS("BTC", 0xBB, 7, LOCKABLE),
	F2("BSF", 0xBC, RM, 0, SV, I0, 0, UBS), F2("BSR", 0xBD, RM, 0, SV, I0, 0, UBS),
	F2("POPCNT", 0xB8, RM, 0, SV, I0, PREFIX_F3, U0),
	F2("SHLD Ev,Gv,Ib", 0xA4, RM, 0, SV, I1, ZEXT_SHORT, USHD),
	F2("SHLD Ev,Gv,CL", 0xA5, RM, 0, SV, I0, COUNT_CL | ZEXT_SHORT, USHD),
	F2("SHRD Ev,Gv,Ib", 0xAC, RM, 0, SV, I1, ZEXT_SHORT, USHD),
	F2("SHRD Ev,Gv,CL", 0xAD, RM, 0, SV, I0, COUNT_CL | ZEXT_SHORT, USHD),
	{ "BSWAP", { 0x0F, 0xC8 }, 2, PLUS, 0, SV, I0, 0, U0 },
	F3("MOVBE Gv,Mv", 0x38, 0xF0, RM, 0, SV, I0, MEM_ONLY, U0),
	F3("MOVBE Mv,Gv", 0x38, 0xF1, RM, 0, SV, I0, MEM_ONLY, U0),
	CC16(SETCC), CC16(CMOV), CC16(JCC8), CC16(JCC32),
	F1("LOOPNE", 0xE0, NOM, 0, SN, I1, BRANCH, U0),
	F1("LOOPE", 0xE1, NOM, 0, SN, I1, BRANCH, U0),
	F1("LOOP", 0xE2, NOM, 0, SN, I1, BRANCH, U0),
	F1("JRCXZ", 0xE3, NOM, 0, SN, I1, BRANCH, U0),
	F1("CALL rel32", 0xE8, NOM, 0, SN, IZ, BRANCH, U0),
	F1("JMP rel32", 0xE9, NOM, 0, SN, IZ, BRANCH, U0),
	F1("JMP rel8", 0xEB, NOM, 0, SN, I1, BRANCH, U0),
	F1("CALL Ev", 0xFF, EXT, 2, SN, I0, INDIRECT, U0),
	F1("JMP Ev", 0xFF, EXT, 4, SN, I0, INDIRECT, U0),
	F1("RET", 0xC3, NOM, 0, SN, I0, RETURN, U0),
	F1("RET Iw", 0xC2, NOM, 0, SN, I2, RETURN, U0),
	STR("MOVS", 0xA4, 0), STR("CMPS", 0xA6, 0), STR("STOS", 0xAA, 0),
	STR("LODS", 0xAC, 0), STR("SCAS", 0xAE, 0),
	F2("NOP Ev", 0x1F, EXT, 0, SV, I0, NO_ACCESS, U0),
	F2("PREFETCH", 0x18, EXT, 1, SN, I0, MEM_ONLY | NO_ACCESS, U0),
	F1("INT3", 0xCC, NOM, 0, SN, I0, 0, U0),
	F1("HLT (#GP)", 0xF4, NOM, 0, SN, I0, NO_LOCK_TEST, U0),
	F1("CLI (#GP)", 0xFA, NOM, 0, SN, I0, 0, U0),
	F1("IN AL,DX (#GP)", 0xEC, NOM, 0, SN, I0, NO_LOCK_TEST, U0),
	F2("UD2", 0x0B, NOM, 0, SN, I0, 0, U0),
	F2("CLTS (#GP)", 0x06, NOM, 0, SN, I0, NO_LOCK_TEST, U0),
	F2("WRMSR (#GP)", 0x30, NOM, 0, SN, I0, NO_LOCK_TEST, U0),
	F1("PUSH ES (#UD)", 0x06, NOM, 0, SN, I0, 0, U0),
	F1("AAA (#UD)", 0x37, NOM, 0, SN, I0, 0, U0),
};
#define NFORMS (sizeof(forms) / sizeof(forms[0]))

/* --- chance --- */

static uint64_t state;

static uint64_t
rnd(void)
{
	uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);	/* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

static unsigned
below(unsigned n)
{
	return (unsigned)(rnd() % n);
}

static bool
once_in(unsigned n)
{
	return below(n) == 0;
}

/* Values near the edges of every width come up often. */
static uint64_t
value(void)
{
	switch (below(4)) {
	case 0: return rnd();
	case 1: return (uint64_t)0 - below(3) + below(3);
	case 2: return (UINT64_C(1) << below(64)) - below(3);
	default: return rnd() >> below(64);
	}
}

/* --- one instance --- */

struct instance {
	const struct form *form;
	unsigned variant;	/* for the count of what was tried */
	unsigned osize, asize;
	bool memory, locked;
	uint8_t code[24];
	unsigned len;
	unsigned reg, rm;	/* fields */
	uint64_t target;
	uint32_t used;		/* registers in the address */
	uint64_t gpr[16], flags;
	uint8_t data[DATA_SIZE];
	uint32_t undefined;
	int ignore;		/* a register that the SDM leaves undefined, or -1 */
	bool undefined_all;
};

struct result {
	int vector;		/* -1: completed */
	uint64_t error, cr2;
	uint64_t gpr[16], flags, rip;
	uint8_t data[DATA_SIZE];
};

static unsigned
access_size(const struct instance *t)
{
	const struct form *f = t->form;

	if (strcmp(f->name, "MOVZX Gv,Eb") == 0 || strcmp(f->name, "MOVSX Gv,Eb") == 0)
		return 1;
	if (strcmp(f->name, "MOVZX Gv,Ew") == 0 || strcmp(f->name, "MOVSX Gv,Ew") == 0 ||
	    strncmp(f->name, "MOV Ev,CS", 8) == 0)
		return 2;
	if (strcmp(f->name, "MOVSXD") == 0)
		return 4;
	if (f->op[1] == 0xC7 && f->oplen == 2)
		return t->osize == 8 ? 16 : 8;
	return t->osize;
}

static void
emit(struct instance *t, uint8_t b)
{
	t->code[t->len++] = b;
}

static void
emit_value(struct instance *t, uint64_t v, unsigned n)
{
	while (n-- > 0) {
		emit(t, (uint8_t)v);
		v >>= 8;
	}
}

static uint64_t
pick_target(struct instance *t)
{
	unsigned size = access_size(t);
	uint64_t at;

	/* Into the page that is not there; vendors differ on a short MOVSXD. */
	if (once_in(24) && !(t->form->op[0] == 0x63 && t->osize == 2))
		return DATA + DATA_SIZE - below(2 * size);
	at = DATA + 0x1000 - 64 + below(128);
	if (size == 16)		/* CMPXCHG16B wants alignment, mostly */
		at &= ~UINT64_C(15) | (once_in(8) ? 15 : 0);
	return at;
}

static unsigned
imm_bytes(const struct instance *t)
{
	switch (t->form->imm) {
	case I1: return 1;
	case I2: return 2;
	case IZ: return t->osize == 2 && t->form->size != SN ? 2 : 4;
	case IV: return t->osize;
	case IE: return 3;
	default: return 0;
	}
}

/* ModRM, SIB and displacement of an operand at t->target; sets registers. */
static void
emit_memory(struct instance *t, unsigned rexb, unsigned rexx, unsigned spare, uint64_t segment)
{
	unsigned style = below(5), base, index = 4, scale = below(4);
	uint64_t want = t->target - segment, disp;
	uint8_t reg = (uint8_t)((t->reg & 7) << 3);

	if (style == 4) {		/* RIP-relative */
		emit(t, reg | 5);
		disp = want - (CODE + AT + t->len + 4 + imm_bytes(t));
		emit_value(t, disp, 4);
		return;
	}
	if (style == 3) {		/* an absolute address, through SIB */
		emit(t, reg | 4);
		emit(t, 0x25);
		if (rexx)		/* then index 4 is R12 */
			t->gpr[12] = 0;
		emit_value(t, want, 4);
		return;
	}
	do
		base = below(8) | rexb << 3;
	while (base == spare);
	if ((base & 7) == 4 || once_in(2)) {
		do
			index = below(8) | rexx << 3;
		while (index == base || index == spare);
	}
	/* style: mod.  [rBP] and [R13] need a displacement. */
	if (style == 0 && (base & 7) == 5)
		style = 1;
	disp = style == 1 ? (uint64_t)(int8_t)rnd() : style == 2 ? (uint64_t)(int32_t)rnd() : 0;
	emit(t, (uint8_t)(style << 6 | reg | (index != 4 || (base & 7) == 4 ? 4 : (base & 7))));
	if (index != 4 || (base & 7) == 4)
		emit(t, (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7)));
	emit_value(t, disp, style == 1 ? 1 : style == 2 ? 4 : 0);
	t->used = 1u << base | (index != 4 ? 1u << index : 0);
	t->gpr[base] = want - disp - (index != 4 ? t->gpr[index] << scale : 0);
	if (t->asize == 4)		/* what is above 32 bits must not matter */
		t->gpr[base] += rnd() << 32;
	else if (once_in(100))
		t->gpr[base] ^= UINT64_C(1) << 60;	/* not canonical */
}

static void
emit_imm(struct instance *t)
{
	const struct form *f = t->form;
	unsigned n = imm_bytes(t);
	uint64_t v = value();

	if (f->flags & BRANCH) {
		uint64_t to = once_in(2) ? TAKEN_FWD : TAKEN_BACK;

		v = to - (AT + t->len + n);
	} else if (f->imm == IE) {
		v = below(64) | (uint64_t)(once_in(2) ? below(6) : 0) << 16;
	} else if (f->imm == I2) {
		v = below(64);
	} else if (f->flags & ZEXT_SHORT) {
		v = t->osize == 2 ? below(17) : rnd();
	}
	emit_value(t, v, n);
}

static void
emit_prefixes(struct instance *t, bool *gs)
{
	static const uint8_t ignored[] = { 0x2E, 0x36, 0x3E, 0x26 };
	const struct form *f = t->form;

	if (once_in(8))
		emit(t, ignored[below(4)]);
	if (t->osize == 2 && f->size != SN)
		emit(t, 0x66);
	if (t->asize == 4)
		emit(t, 0x67);
	if (t->locked)
		emit(t, 0xF0);
	if (f->flags & PREFIX_F3)
		emit(t, 0xF3);
	else if ((f->flags & STRING) && f->size != SN && below(3))
		emit(t, once_in(2) ? 0xF2 : 0xF3);
	*gs = t->memory && t->asize == 8 && once_in(16);
	if (*gs)
		emit(t, 0x65);
	if (once_in(64))	/* up to, and over, 15 bytes */
		while (t->len < 12)
			emit(t, 0x2E);
}

/* Registers that a form has a special use for. */
static void
prepare_registers(struct instance *t)
{
	const struct form *f = t->form;
	unsigned i;

	for (i = 0; i < 16; i++)
		t->gpr[i] = value();
	t->gpr[CPU_RSP] = DATA + 0x1000 - 64 + below(128);
	if (f->flags & STRING) {
		uint64_t high = t->asize == 4 ? rnd() << 32 : 0;

		t->gpr[CPU_RSI] = (DATA + 0x1000 - 256 + below(512)) + high;
		t->gpr[CPU_RDI] = (DATA + 0x1000 - 256 + below(512)) + high;
		if (once_in(16))
			t->gpr[CPU_RDI] = DATA + DATA_SIZE - below(64) + high;
		t->gpr[CPU_RCX] = below(20) + high;
		t->gpr[CPU_RBX] = DATA + 0x1000 + high;
	}
	if (f->flags & FRAME)
		t->gpr[CPU_RBP] = DATA + 0x1000 - 64 + below(128);
	if ((f->flags & BRANCH) && once_in(2))
		t->gpr[CPU_RCX] = below(3) + (t->asize == 4 ? rnd() << 32 : 0);
	if ((f->flags & DIVIDE) && !once_in(4))
		t->gpr[CPU_RDX] = once_in(2) ? 0 : t->gpr[CPU_RAX] >> 63 ? ~UINT64_C(0) : 0;
	if (f->flags & COUNT_CL)
		t->gpr[CPU_RCX] = f->flags & ZEXT_SHORT && t->osize == 2 ? below(17) : rnd();
}

static void
store(struct instance *t, uint64_t at, uint64_t v, unsigned n)
{
	for (; n-- > 0; v >>= 8, at++)
		if (at >= DATA && at < DATA + DATA_SIZE)
			t->data[at - DATA] = (uint8_t)v;
}

static uint64_t
load(const struct instance *t, uint64_t at, unsigned n)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < n; i++)
		if (at + i >= DATA && at + i < DATA + DATA_SIZE)
			v |= (uint64_t)t->data[at + i - DATA] << (8 * i);
	return v;
}

/* Memory and accumulator, once the address is known. */
static void
prepare_memory(struct instance *t)
{
	const struct form *f = t->form;
	bool free_acc = !(t->used & (1u << CPU_RAX | 1u << CPU_RDX));
	uint64_t branch = CODE + (once_in(2) ? TAKEN_FWD : TAKEN_BACK);

	if (f->flags & RETURN)
		store(t, t->gpr[CPU_RSP], branch, 8);
	if (f->flags & POPS_FLAGS)	/* not TF, NT, AC; IF must not change */
		store(t, t->gpr[CPU_RSP], rnd() & (STATUS | DF | 0x200), 8);
	if (f->flags & INDIRECT) {
		if (t->memory)
			store(t, t->target, branch, 8);
		else
			t->gpr[t->rm] = branch;
	}
	if ((f->flags & COMPARE) && t->memory && free_acc && once_in(2)) {
		unsigned size = access_size(t);

		if (f->op[1] == 0xC7) {
			t->gpr[CPU_RAX] = load(t, t->target, size / 2);
			t->gpr[CPU_RDX] = load(t, t->target + size / 2, size / 2);
		} else {
			t->gpr[CPU_RAX] = load(t, t->target, size);
		}
	} else if ((f->flags & COMPARE) && !t->memory && once_in(2)) {
		t->gpr[CPU_RAX] = t->gpr[t->rm];
	}
}

/* Which flags and registers are not defined, now that all values are known. */
static void
undefined(struct instance *t)
{
	const struct form *f = t->form;
	unsigned bits = 8 * t->osize, count = 1;

	t->undefined = 0;
	t->ignore = -1;
	if (f->flags & COUNT_CL)
		count = t->gpr[CPU_RCX] & 0xFF;
	else if (f->imm == I1)
		count = t->code[t->len - 1];
	count &= t->osize == 8 ? 63 : 31;
	switch (f->undefined) {
	case ULOGIC: t->undefined = AF; break;
	case UMUL: t->undefined = SF | ZF | AF | PF; break;
	case UALL: t->undefined = STATUS; break;
	case UBT: t->undefined = OF | SF | AF | PF; break;
	case UBS: t->undefined = STATUS & ~ZF; t->ignore = (int)t->reg; break;
	case USHIFT:
		if (count >= bits)
			t->undefined |= CF;
		/* FALLTHROUGH */
	case USAR: case USHD:
		t->undefined_all = f->undefined == USHD && count > bits;
		if (count != 0)
			t->undefined |= AF;
		/* FALLTHROUGH */
	case UROT:
		if (count > 1)
			t->undefined |= OF;
		break;
	default:
		break;
	}
	if (f->oplen == 2 && (f->op[1] & 0xF8) == 0xC8 && t->osize == 2)
		t->ignore = (int)t->rm;		/* BSWAP with 16 bits */
}

static void
choose_sizes(struct instance *t)
{
	static const uint8_t v[] = { 2, 4, 8 }, q[] = { 2, 8 };

	switch (t->form->size) {
	case SB: t->osize = 1; break;
	case SV: t->osize = v[t->variant % 3]; break;
	case SQ: t->osize = q[t->variant % 2]; break;
	default: t->osize = 8; break;
	}
	t->asize = once_in(6) ? 4 : 8;
}

/* variant: 12 for a form: size, memory or register, lock. */
static void
make(struct instance *t, unsigned form, unsigned variant)
{
	const struct form *f = &forms[form];
	unsigned rex, rexr = 0, rexx = 0, rexb = 0, spare = 99, i;
	bool gs;

	memset(t, 0, offsetof(struct instance, data));
	t->form = f;
	t->variant = variant;
	choose_sizes(t);
	if (f->modrm == RM || f->modrm == EXT)
		t->memory = (variant / 3) % 2 == 0;
	if (f->flags & MEM_ONLY)
		t->memory = true;
	/* LOCK where it is not allowed is #UD, and tried now and then. */
	t->locked = (variant / 6) % 2 == 1 && !(f->flags & (NO_LOCK_TEST | BRANCH)) &&
	    (((f->flags & LOCKABLE) && t->memory) || once_in(8));
	prepare_registers(t);
	for (i = DATA_SIZE / 2 - 512; i < DATA_SIZE / 2 + 512; i++)
		t->data[i] = (uint8_t)rnd();

	emit_prefixes(t, &gs);
	rex = t->osize == 8 && f->size == SV ? 0x48 : once_in(2) ? 0x40 : 0;
	if (rex != 0) {
		rexr = below(2);
		rexb = below(2);
		rexx = t->memory ? below(2) : 0;
		if (f->modrm == NOM)
			rexr = rexb = 0;
		emit(t, (uint8_t)(rex | rexr << 2 | rexx << 1 | rexb));
	}
	for (i = 0; i < f->oplen; i++)
		emit(t, f->op[i]);
	t->reg = f->modrm == EXT ? f->ext : (below(8) | rexr << 3);
	t->rm = below(8) | rexb << 3;
	if (f->modrm == PLUS)
		t->code[t->len - 1] |= t->rm & 7;
	if (f->flags & BIT_OFFSET && t->memory) {
		/* The bit must stay in the scratch pages. */
		uint64_t keep = t->osize == 8 ? 0 : ~UINT64_C(0) << (8 * t->osize);
		uint64_t bit = (uint64_t)0 - 2000 + below(4000);

		spare = t->reg;
		t->gpr[spare] = (t->gpr[spare] & keep) | (bit & ~keep);
	}
	if (f->modrm == RM || f->modrm == EXT) {
		if (t->memory) {
			t->target = pick_target(t);
			if (spare != 99 && t->target > DATA + DATA_SIZE - 64)
				t->target -= 0x1000;
			emit_memory(t, rexb, rexx, spare, gs ? DATA : 0);
		} else {
			emit(t, (uint8_t)(0xC0 | (t->reg & 7) << 3 | (t->rm & 7)));
		}
	}
	emit_imm(t);
	prepare_memory(t);
	t->flags = 0x202 | (rnd() & STATUS) | ((f->flags & STRING) ? rnd() & DF : 0);
	undefined(t);
}

/* --- natively --- */

struct context {
	uint64_t gpr[16], flags, host_rsp, code, after, taken;
};

#define STRINGIFY(x)	#x
#define STR1(x)		STRINGIFY(x)
#define CTX(n)		STR1(CONTEXT) "+" #n

void native_enter(void);
extern char native_exit[], native_unwind[];

__asm__(
"	.text\n"
"	.globl native_enter, native_exit, native_unwind\n"
"native_enter:\n"
"	pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
"	movq %rsp, " CTX(136) "\n"
"	pushq " CTX(128) "\n popfq\n"
"	movq " CTX(0) ", %rax\n movq " CTX(8) ", %rcx\n movq " CTX(16) ", %rdx\n"
"	movq " CTX(24) ", %rbx\n movq " CTX(32) ", %rsp\n movq " CTX(40) ", %rbp\n"
"	movq " CTX(48) ", %rsi\n movq " CTX(56) ", %rdi\n movq " CTX(64) ", %r8\n"
"	movq " CTX(72) ", %r9\n movq " CTX(80) ", %r10\n movq " CTX(88) ", %r11\n"
"	movq " CTX(96) ", %r12\n movq " CTX(104) ", %r13\n movq " CTX(112) ", %r14\n"
"	movq " CTX(120) ", %r15\n"
"	jmp *" CTX(144) "\n"
"native_exit:\n"	/* RIP is already kept by the stub that came here */
"	movq %rax, " CTX(0) "\n movq %rcx, " CTX(8) "\n movq %rdx, " CTX(16) "\n"
"	movq %rbx, " CTX(24) "\n movq %rsp, " CTX(32) "\n movq %rbp, " CTX(40) "\n"
"	movq %rsi, " CTX(48) "\n movq %rdi, " CTX(56) "\n movq %r8, " CTX(64) "\n"
"	movq %r9, " CTX(72) "\n movq %r10, " CTX(80) "\n movq %r11, " CTX(88) "\n"
"	movq %r12, " CTX(96) "\n movq %r13, " CTX(104) "\n movq %r14, " CTX(112) "\n"
"	movq %r15, " CTX(120) "\n"
"	movq " CTX(136) ", %rsp\n"
"	pushfq\n popq " CTX(128) "\n"
"native_unwind:\n"
"	movq " CTX(136) ", %rsp\n"
"	cld\n"
"	popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
"	ret\n");

static struct result native_result;
static struct context *const context = (struct context *)(uintptr_t)CONTEXT;

static void
on_signal(int number, siginfo_t *info, void *arg)
{
	static const int order[16] = {
		REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15
	};
	ucontext_t *uc = arg;
	greg_t *r = uc->uc_mcontext.gregs;
	unsigned i;

	(void)number;
	(void)info;
	native_result.vector = (int)r[REG_TRAPNO];
	native_result.error = (uint64_t)r[REG_ERR];
	native_result.cr2 = (uint64_t)r[REG_CR2];
	for (i = 0; i < 16; i++)
		native_result.gpr[i] = (uint64_t)r[order[i]];
	native_result.flags = (uint64_t)r[REG_EFL];
	native_result.rip = (uint64_t)r[REG_RIP];
	r[REG_RIP] = (greg_t)(uintptr_t)native_unwind;
	r[REG_EFL] = 0x202;
}

static void
map_at(uint64_t at, size_t size, int prot)
{
	void *p = mmap((void *)(uintptr_t)at, size, prot,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
}

static void
native_setup(void)
{
	static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS };
	static uint8_t stack[65536];
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	unsigned i;

	map_at(CODE, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC);
	map_at(DATA, DATA_SIZE, PROT_READ | PROT_WRITE);
	map_at(CONTEXT, 0x1000, PROT_READ | PROT_WRITE);
	sigaltstack(&ss, NULL);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
	syscall(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, DATA);
}

/*
 * Where an instruction may go on: says so and leaves.  The stub must not touch
 * flags: MOV imm32 to memory, then JMP through memory.
 */
static void
write_stub(uint8_t *at, uint64_t rip)
{
	uint32_t where = CONTEXT + offsetof(struct context, after);
	uint32_t leave = CONTEXT + offsetof(struct context, taken);
	uint32_t value32 = (uint32_t)rip;

	memcpy(at, "\x48\xC7\x04\x25", 4);	/* MOV qword [where], rip */
	memcpy(at + 4, &where, 4);
	memcpy(at + 8, &value32, 4);
	memcpy(at + 12, "\xFF\x24\x25", 3);	/* JMP [leave] */
	memcpy(at + 15, &leave, 4);
}

static void
run_native(const struct instance *t, struct result *r)
{
	uint8_t *code = (uint8_t *)(uintptr_t)CODE;

	memset(code, 0xCC, 0x1000);
	memcpy(code + AT, t->code, t->len);
	write_stub(code + AT + t->len, CODE + AT + t->len);
	write_stub(code + TAKEN_FWD, CODE + TAKEN_FWD);
	write_stub(code + TAKEN_BACK, CODE + TAKEN_BACK);
	memcpy((void *)(uintptr_t)DATA, t->data, DATA_SIZE);
	memcpy(context->gpr, t->gpr, sizeof(t->gpr));
	context->flags = t->flags;
	context->code = CODE + AT;
	context->taken = (uint64_t)(uintptr_t)native_exit;
	native_result.vector = -1;
	native_enter();
	if (native_result.vector < 0) {
		memcpy(native_result.gpr, context->gpr, sizeof(t->gpr));
		native_result.flags = context->flags;
		native_result.rip = context->after;
	}
	*r = native_result;
	memcpy(r->data, (void *)(uintptr_t)DATA, DATA_SIZE);
}

/* --- interpreted --- */

/* Guest-physical pages. */
#define G_PML4	0x1000u
#define G_PDPT	0x2000u
#define G_PD	0x3000u
#define G_PT	0x5000u		/* code, then data */
#define G_IDT	0x7000u
#define G_GDT	0x8000u
#define G_TSS	0x8800u
#define G_STACK	0xA000u		/* grows down from here */
#define G_HLT	0xA000u
#define G_CODE	0xB000u
#define G_DATA	0xC000u
#define G_KPDPT	0xE000u		/* for what is not the user's */
#define G_KPD	0xF000u
#define G_KPT	0x10000u
#define G_SIZE	0x11000u
/* Where all of it is mapped for the supervisor: as far up as Linux is. */
#define KERNEL	UINT64_C(0xFFFF800000000000)

static uint8_t guest[G_SIZE];

static uint8_t *
guest_page(void *arg, uint64_t gpa, uint32_t *access)
{
	(void)arg;
	if (gpa >= G_SIZE)
		return NULL;
	*access = CPU_ACCESS_READ | CPU_ACCESS_WRITE | CPU_ACCESS_EXEC;
	return guest + gpa;
}

static uint64_t
guest_tsc(void *arg)
{
	(void)arg;
	return 0;
}

static const struct cpu_bus guest_bus = { guest_page, guest_tsc };

static void
poke(uint32_t at, uint64_t v)
{
	memcpy(guest + at, &v, 8);
}

static void
guest_setup(struct cpu *cpu)
{
	unsigned i;

	memset(cpu, 0, sizeof(*cpu));
	cpu->bus = &guest_bus;
	cpu_reset(cpu);
	poke(G_PML4, G_PDPT | 7);
	poke(G_PDPT, G_PD | 7);
	poke(G_PD + 8 * (CODE >> 21), G_PT | 7);
	poke(G_PD + 8 * (DATA >> 21), (G_PT + 0x1000) | 7);
	poke(G_PT, G_CODE | 7);
	poke(G_PT + 0x1000, G_DATA | 7);
	poke(G_PT + 0x1008, (G_DATA + 0x1000) | 7);
	poke(G_PML4 + 8 * 256, G_KPDPT | 3);
	poke(G_KPDPT, G_KPD | 3);
	poke(G_KPD, G_KPT | 3);
	for (i = 0; i < G_SIZE / 4096; i++)
		poke(G_KPT + 8 * i, i << 12 | 3);
	for (i = 0; i < 256; i++) {
		uint64_t dpl = i == 3 || i == 4 ? 3 : 0, off = G_HLT + i;

		poke(G_IDT + 16 * i, off | 0x10 << 16 | (UINT64_C(0x8E00) | dpl << 13) << 32);
		poke(G_IDT + 16 * i + 8, KERNEL >> 32);
	}
	memset(guest + G_HLT, 0xF4, 256);
	poke(G_GDT + 0x10, UINT64_C(0x00AF9B000000FFFF));
	poke(G_TSS + 4, KERNEL + G_STACK);
	guest[G_TSS + 0x66] = 0x68;	/* no I/O bitmap */

	cpu->cr0 = 0x80010001;
	cpu->cr3 = G_PML4;
	cpu->cr4 = 0x20;
	cpu->efer = 0xD01;
	cpu->gdtr.base = KERNEL + G_GDT;
	cpu->idtr.base = KERNEL + G_IDT;
	cpu->idtr.limit = 0xFFF;
	cpu->tr = (struct cpu_seg){ .selector = 0x40, .type = 11, .p = true,
	    .limit = 0x67, .base = KERNEL + G_TSS };
}

static void
user_segments(struct cpu *cpu)
{
	static const struct cpu_seg null_data = { .dpl = 3 };
	unsigned i;

	for (i = 0; i < CPU_NSEG; i++)
		cpu->seg[i] = null_data;
	cpu->seg[CPU_CS] = (struct cpu_seg){ .selector = 0x33, .type = 11, .dpl = 3,
	    .s = true, .p = true, .l = true, .g = true, .limit = 0xFFFFFFFF };
	cpu->seg[CPU_SS] = (struct cpu_seg){ .selector = 0x2B, .type = 3, .dpl = 3,
	    .s = true, .p = true, .db = true, .g = true, .limit = 0xFFFFFFFF };
	cpu->seg[CPU_GS].base = DATA;
}

static uint64_t
frame(uint64_t at)
{
	uint64_t v;

	memcpy(&v, guest + at, 8);
	return v;
}

static bool
run_interpreter(struct cpu *cpu, const struct instance *t, struct result *r)
{
	struct cpu_exit exit;
	uint64_t sp;

	/* 0F A2 is CPUID, which always exits: where the native side has stubs. */
	memset(guest + G_CODE, 0xCC, 0x1000);
	memcpy(guest + G_CODE + AT, t->code, t->len);
	memcpy(guest + G_CODE + AT + t->len, "\x0F\xA2", 2);
	memcpy(guest + G_CODE + TAKEN_FWD, "\x0F\xA2", 2);
	memcpy(guest + G_CODE + TAKEN_BACK, "\x0F\xA2", 2);
	memcpy(guest + G_DATA, t->data, DATA_SIZE);
	memcpy(cpu->gpr, t->gpr, sizeof(t->gpr));
	user_segments(cpu);
	cpu->rflags = t->flags;
	cpu->rip = CODE + AT;
	/* Small budgets, so that REP is left and entered again. */
	do
		cpu_run(cpu, 1 + below(7), &exit);
	while (exit.reason == CPU_EXIT_BUDGET);

	memcpy(r->gpr, cpu->gpr, sizeof(r->gpr));
	memcpy(r->data, guest + G_DATA, DATA_SIZE);
	r->vector = -1;
	r->flags = cpu->rflags;
	r->rip = cpu->rip;
	if (exit.reason == CPU_EXIT_CPUID)
		return true;
	if (exit.reason != CPU_EXIT_HLT || cpu->rip - KERNEL - G_HLT >= 256)
		return false;
	r->vector = (int)(cpu->rip - KERNEL - G_HLT);
	r->cr2 = cpu->cr2;
	sp = cpu->gpr[CPU_RSP] - KERNEL;
	r->error = 0;
	if (G_STACK - sp == 48) {
		r->error = frame(sp);
		sp += 8;
	}
	r->rip = frame(sp);
	r->flags = frame(sp + 16);
	r->gpr[CPU_RSP] = frame(sp + 24);
	return true;
}

/* --- comparing --- */

static const char *const reg_names[] = {
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"
};

static bool
differ(const struct instance *t, const struct result *n, const struct result *s, bool say)
{
	uint64_t flags = (STATUS | DF | 0x200) & ~(uint64_t)(n->vector < 0 ? t->undefined : 0);
	bool bad = false;
	unsigned i;

#define DIFFER(what, a, b) do {						\
	if ((a) != (b)) {						\
		bad = true;						\
		if (say)						\
			printf("  %s: native %#llx, here %#llx\n", what,	\
			    (unsigned long long)(a), (unsigned long long)(b));	\
	}								\
} while (0)
	DIFFER("vector", (uint64_t)n->vector, (uint64_t)s->vector);
	DIFFER("rip", n->rip, s->rip);
	for (i = 0; i < 16; i++)
		if ((int)i != t->ignore)
			DIFFER(reg_names[i], n->gpr[i], s->gpr[i]);
	DIFFER("rflags", n->flags & flags, s->flags & flags);
	if (n->vector == 14) {
		DIFFER("cr2", n->cr2, s->cr2);
		/* Linux says "present" for all of its own half. */
		DIFFER("error", n->error & (n->cr2 >> 63 ? ~UINT64_C(1) : ~UINT64_C(0)), s->error);
	}
	for (i = 0; i < DATA_SIZE; i++) {
		char what[32];

		snprintf(what, sizeof(what), "[%#x]", (unsigned)DATA + i);
		DIFFER(what, n->data[i], s->data[i]);
	}
	return bad;
}

static void
report(const struct instance *t, const struct result *n, const struct result *s)
{
	unsigned i;

	printf("MISMATCH %s osize %u asize %u:", t->form->name, t->osize, t->asize);
	for (i = 0; i < t->len; i++)
		printf(" %02X", t->code[i]);
	printf("\n  flags %#llx target %#llx", (unsigned long long)t->flags,
	    (unsigned long long)t->target);
	for (i = 0; i < 16; i++)
		printf(" %s=%#llx", reg_names[i], (unsigned long long)t->gpr[i]);
	printf("\n");
	differ(t, n, s, true);
}

static int
compare_all(uint64_t seed, unsigned long count)
{
	static struct instance t;
	static struct result native, soft;
	static unsigned tried[NFORMS];
	static struct cpu cpu;
	unsigned long i, bad = 0, faults = 0;
	unsigned f, forms_tried = 0;

	native_setup();
	guest_setup(&cpu);
	state = seed;
	for (i = 0; i < count; i++) {
		bool ran;

		f = (unsigned)(i % NFORMS);
		do
			make(&t, f, (unsigned)(i / NFORMS) % 12);
		while (t.undefined_all);
		run_native(&t, &native);
		ran = run_interpreter(&cpu, &t, &soft);
		tried[f]++;
		faults += native.vector >= 0;
		if ((!ran || differ(&t, &native, &soft, false)) && bad++ < 20)
			report(&t, &native, &soft);
	}
	for (f = 0; f < NFORMS; f++) {
		forms_tried += tried[f] != 0;
		if (tried[f] == 0)
			printf("NEVER TRIED %s\n", forms[f].name);
	}
	printf("instances %lu faults %lu forms %u of %u mismatches %lu unimplemented %llu\n",
	    count, faults, forms_tried, (unsigned)NFORMS, bad,
	    (unsigned long long)cpu.unimplemented);
	fflush(stdout);
	return bad != 0;
}

int
main(int argc, char **argv)
{
	int status;
	pid_t child;

	if (argc != 3) {
		fprintf(stderr, "usage: cpu_native seed count\n");
		return 2;
	}
	fflush(stdout);
	child = fork();
	if (child < 0) {
		perror("fork");
		return 3;
	}
	if (child == 0)
		_exit(compare_all(strtoull(argv[1], NULL, 0), strtoul(argv[2], NULL, 0)));
	if (waitpid(child, &status, 0) != child)
		return 3;
	if (WIFSIGNALED(status)) {
		printf("the child died of signal %d\n", WTERMSIG(status));
		return 4;
	}
	return WEXITSTATUS(status);
}
