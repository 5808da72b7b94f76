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
#define OP_F64		0x0400u	/* same, and on Intel 66 changes nothing (SDM 2D A.2.5, f64) */
#define OP_O64		0x0008u	/* #UD outside 64-bit mode */
#define OP_CPL0		0x0010u	/* #GP(0) unless CPL is 0 */
#define OP_PROT		0x0020u	/* #UD in real and virtual-8086 mode */
#define OP_MODRM	0x0040u	/* a ModRM byte follows though no operand says so */
#define OP_MEMORY	0x0080u	/* #UD for a register operand */
/* Who may execute x87, MMX and SSE instructions: fpu_check(). */
#define OP_X87		0x010000u	/* waits for pending exceptions */
#define OP_X87_NOWAIT	0x020000u
#define OP_MMX		0x040000u
#define OP_SSE		0x080000u
#define OP_XSAVE	0x100000u
#define OP_FPU		(OP_X87 | OP_X87_NOWAIT | OP_MMX | OP_SSE | OP_XSAVE)
#define OP_UMIP		0x800000u	/* #GP(0) above CPL 0 if CR4.UMIP */
#define OP_CR		0x1000000u	/* #UD for a control register that is not there */
#define OP_DR		0x2000000u	/* same, debug register */
#define OP_REGISTER	0x200000u	/* #UD for a memory operand */
#define OP_UNALIGNED	0x400000u	/* 16 bytes of memory need no alignment */

/* struct opcode .by */
enum by {
	BY_NOTHING,
	BY_REG,		/* 8 rows: ModRM.reg */
	BY_RM,		/* 8 rows: ModRM.rm */
	BY_MOD,		/* 2 rows: memory, register */
	BY_PREFIX,	/* 4 rows: none, 66, F3, F2 */
	BY_64,		/* 2 rows: other modes, 64-bit mode */
	BY_L		/* 2 rows: VEX.L */
};

/* An instruction that is still to be written: #UD, and counted. */
handler op_gap;
/* One of an extension that CPUID does not show. */
handler op_absent;
extern const struct opcode opcode_d8[2], opcode_d9[2], opcode_da[2], opcode_db[2];
extern const struct opcode opcode_dc[2], opcode_dd[2], opcode_de[2], opcode_df[2];

/* Operand encodings.  b, w, d, v, y, z as in the SDM; NO ends the list. */
enum encoding {
	NO,
	Eb, Ew, Ed, Ev,		/* ModRM.rm, register or memory */
	Exd,			/* MOVSXD: 32 bits; Intel has 16 for a 16-bit operand */
	Ey,			/* 32 bits, 64 with REX.W */
	Gb, Gw, Gv, Gy,		/* ModRM.reg */
	Gd,
	Rv, Ry,			/* ModRM.rm, always a register */
	M, Mb, Mw, Md, Mv, Mq,	/* memory; M has no size of its own */
	My, Mt, Mx,		/* 4 or 8, 10, 16 bytes */
	Mw_Rd,			/* 16 bits of memory, 32 of a register */
	Pq, Qd, Qq, Nq,		/* MMX: reg; rm, 4 or 8 bytes of memory; rm, never memory */
	Vx, Wd, Wq, Wx, Ux,	/* XMM: reg; rm, 4, 8 or 16 bytes; rm, never memory */
	Ms,			/* register (size v) or 16 bits of memory: SMSW, SLDT, MOV Sreg */
	Sw,			/* ModRM.reg, segment register; the last with a ModRM */
	By,			/* VEX.vvvv */
	Zb, Zv,			/* low three bits of the opcode */
	Ib, Iw, Iz, Iv,		/* immediate; Iz sign-extends 32 bits to 64 */
	sIb,			/* 8 bits, sign-extended */
	Ib2,			/* a second immediate, 8 bits (ENTER) */
	Jb, Jz,			/* relative to the next instruction */
	Ap,			/* selector:offset in the instruction */
	Ob, Ov,			/* memory at an offset in the instruction */
	AL, AX, CL, DX, rAX, eAX, ONE,	/* eAX: 32 bits at most (IN, OUT) */
	Xb, Xv			/* strings: only the size matters */
};

#endif /* SOFTNVMM_CPU_OPTABLE_H */
