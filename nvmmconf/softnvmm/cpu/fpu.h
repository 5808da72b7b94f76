/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * x87, MMX and SSE registers, in struct cpu's FXSAVE image (SDM 1, table
 * 10-2).  The image is the register file itself: ST(i) is stored in stack
 * order, so a new TOP moves the registers; the tag word is the abridged one.
 */
#ifndef SOFTNVMM_CPU_FPU_H
#define SOFTNVMM_CPU_FPU_H

#include <string.h>

#include "optable.h"

/* Offsets into the image. */
#define FX_FCW		0u
#define FX_FSW		2u
#define FX_FTW		4u	/* 8 bits: 1 is not empty */
#define FX_FOP		6u
#define FX_FIP		8u
#define FX_FDP		16u
#define FX_MXCSR	24u
#define FX_MXCSR_MASK	28u
#define FX_ST		32u
#define FX_XMM		160u
#define FX_END		416u	/* behind XMM15; the rest is reserved or software's */

/* Status word: exceptions, then what is made of them (SDM 1, 8.1.3). */
#define FSW_IE		0x0001u
#define FSW_DE		0x0002u
#define FSW_OE		0x0008u
#define FSW_UE		0x0010u
#define FSW_PE		0x0020u
#define FSW_SF		0x0040u
#define FSW_ES		0x0080u
#define FSW_C0		0x0100u
#define FSW_C1		0x0200u
#define FSW_C2		0x0400u
#define FSW_TOP		0x3800u
#define FSW_C3		0x4000u
#define FSW_B		0x8000u
#define FSW_EXCEPTIONS	0x003Fu

#define FCW_MASKS	0x003Fu
#define FCW_RESERVED	0x0040u	/* reads as one */
#define FCW_VALID	0x1F3Fu

#define MXCSR_DEFAULT	0x1F80u
#define MXCSR_VALID	0xFFFFu	/* with DAZ */

#define XCR0_X87	1u
#define XCR0_SSE	2u

/* A register of the x87: the double-extended format (SDM 1, 4.2.2). */
struct f80 {
	uint64_t m;		/* with its integer bit */
	uint16_t se;		/* sign and exponent */
};

#define F80_EXP_MAX	0x7FFFu
#define F80_BIAS	16383
#define F80_INTEGER	(UINT64_C(1) << 63)
#define F80_QUIET	(UINT64_C(1) << 62)

/* An XMM register, or an MMX one with q[1] 0. */
struct vec {
	uint64_t q[2];
};

static inline uint16_t
fx_get16(const struct cpu *cpu, unsigned at)
{
	return (uint16_t)(cpu->fxsave[at] | cpu->fxsave[at + 1] << 8);
}

static inline void
fx_set16(struct cpu *cpu, unsigned at, unsigned value)
{
	cpu->fxsave[at] = (uint8_t)value;
	cpu->fxsave[at + 1] = (uint8_t)(value >> 8);
}

static inline uint64_t
fx_get64(const struct cpu *cpu, unsigned at)
{
	uint64_t value = 0;
	unsigned i;

	for (i = 8; i-- > 0;)
		value = value << 8 | cpu->fxsave[at + i];
	return value;
}

static inline void
fx_set64(struct cpu *cpu, unsigned at, uint64_t value)
{
	unsigned i;

	for (i = 0; i < 8; i++, value >>= 8)
		cpu->fxsave[at + i] = (uint8_t)value;
}

static inline uint32_t
fx_mxcsr(const struct cpu *cpu)
{
	return (uint32_t)fx_get64(cpu, FX_MXCSR);
}

static inline unsigned
fpu_top(const struct cpu *cpu)
{
	return fx_get16(cpu, FX_FSW) >> 11 & 7;
}

/* --- fpu.c --- */
void fpu_check(struct exec *, unsigned flags);
void fpu_set_top(struct cpu *, unsigned top);
/* ES and B follow from the exceptions and their masks. */
void fpu_summary(struct cpu *);
void fpu_raise(struct cpu *, unsigned exceptions);
bool fpu_masked(const struct cpu *, unsigned exceptions);
/* FIP, FDP and FOP of an instruction that is no control instruction. */
void fpu_last(struct exec *);
struct f80 fpu_st(const struct cpu *, unsigned i);
void fpu_set_st(struct cpu *, unsigned i, struct f80);
bool fpu_empty(const struct cpu *, unsigned i);
void fpu_tag(struct cpu *, unsigned i, bool valid);
void fpu_init(struct cpu *);

void fpu_enter_mmx(struct cpu *);

/* --- x87_convert.c: *exceptions gets FSW bits, *up whether it rounded up --- */
bool f80_unsupported(struct f80);
struct f80 f80_widen(uint64_t bits, unsigned fraction, unsigned exponent_bits,
    unsigned *exceptions);
uint64_t f80_narrow(struct cpu *, struct f80, unsigned fraction, unsigned exponent_bits,
    unsigned *exceptions, bool *up);
uint64_t f80_to_integer(struct cpu *, struct f80, unsigned size, bool truncate,
    unsigned *exceptions, bool *up);

/* Operand i as a vector: register of any kind, or memory. */
struct vec get_vec(struct exec *, unsigned i);
/* Ends the instruction: nothing of it may fault after this. */
void put_vec(struct exec *, unsigned i, struct vec);
/* A memory operand of any length up to a page, checked for its use. */
void mem_span(struct exec *, unsigned len, unsigned align, enum access, struct span *);

#endif /* SOFTNVMM_CPU_FPU_H */
