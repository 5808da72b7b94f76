/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The vocabulary of the decode tables: optable.c writes it, decode.c reads it.
 * Letters are those of SDM 2D, A.2.
 */
#ifndef SOFTNVMM_CPU_OPTABLE_H
#define SOFTNVMM_CPU_OPTABLE_H

#include "internal.h"

/* struct opcode .flags */
#define OP_LOCK		0x0001u	/* LOCK allowed if the first operand is memory */
#define OP_D64		0x0002u	/* operand size 64 by default in 64-bit mode */
#define OP_I64		0x0004u	/* #UD in 64-bit mode */
#define OP_O64		0x0008u	/* #UD outside 64-bit mode */
#define OP_CPL0		0x0010u	/* #GP(0) unless CPL is 0 */
#define OP_PROT		0x0020u	/* #UD in real and virtual-8086 mode */
#define OP_MODRM	0x0040u	/* a ModRM byte follows though no operand says so */
#define OP_MEMORY	0x0080u	/* #UD for a register operand */

/* struct opcode .by */
enum by {
	BY_NOTHING,
	BY_REG,		/* 8 rows: ModRM.reg */
	BY_RM,		/* 8 rows: ModRM.rm */
	BY_MOD,		/* 2 rows: memory, register */
	BY_PREFIX,	/* 4 rows: none, 66, F3, F2 */
	BY_64		/* 2 rows: other modes, 64-bit mode */
};

/* Operand encodings.  b, w, d, v, y, z as in the SDM; NO ends the list. */
enum encoding {
	NO,
	Eb, Ew, Ed, Ev,		/* ModRM.rm, register or memory */
	Gb, Gw, Gv, Gy,		/* ModRM.reg */
	Rv, Ry,			/* ModRM.rm, always a register */
	M, Mb, Mw, Mv, Mq,	/* memory; M has no size of its own */
	Ms,			/* register (size v) or 16 bits of memory: SMSW, SLDT, MOV Sreg */
	Sw,			/* ModRM.reg, segment register */
	Zb, Zv,			/* low three bits of the opcode */
	Ib, Iw, Iz, Iv,		/* immediate; Iz sign-extends 32 bits to 64 */
	sIb,			/* 8 bits, sign-extended */
	Ib2,			/* a second immediate, 8 bits (ENTER) */
	Jb, Jz,			/* relative to the next instruction */
	Ap,			/* selector:offset in the instruction */
	Ob, Ov,			/* memory at an offset in the instruction */
	AL, CL, DX, rAX, eAX, ONE,	/* eAX: 32 bits at most (IN, OUT) */
	Xb, Xv			/* strings: only the size matters */
};

#endif /* SOFTNVMM_CPU_OPTABLE_H */
