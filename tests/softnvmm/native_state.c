/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Registers, memory and flags of an instance, so that most of them do
 * something; and what the SDM leaves undefined of the outcome.
 */
#include <string.h>

#include "native_make.h"

/* --- state --- */

/* Numbers of every class; some of no class that is still a number. */
static void
random_st(uint8_t *at)
{
	uint64_t m = rnd() | UINT64_C(1) << 63;
	unsigned se = below(0x8000), n;

	switch (below(9)) {
	case 0: m = se = 0; break;
	case 1: se = 0x7FFF; m = once_in(2) ? UINT64_C(1) << 63 : rnd(); break;
	case 2: se = 0; m = rnd() >> below(64); break;
	case 3: se = 16383 + below(70); m = value() | UINT64_C(1) << 63; break;
	case 4: se = 16383 - 150 + below(300); break;
	case 5: se = 16383 - 1100 + below(2200); m &= ~UINT64_C(0) << below(64); break;
	case 6: m = rnd(); break;
	case 7:		/* half way between two doubles, singles or integers */
		n = below(3) == 0 ? 11 : below(2) ? 40 : 1 + below(63);
		se = 16383 + 63 - n;
		m = (m & ~UINT64_C(0) << n) | UINT64_C(1) << (n - 1);
		break;
	default: se = 16380 + below(66); m &= ~UINT64_C(0) << below(64); break;
	}
	se |= once_in(2) ? 0x8000 : 0;
	memcpy(at, &m, 8);
	memcpy(at + 8, &se, 2);
}

static void
put16(uint8_t *fx, unsigned at, unsigned v)
{
	fx[at] = (uint8_t)v;
	fx[at + 1] = (uint8_t)(v >> 8);
}

void
random_fx(uint8_t *fx)
{
	unsigned masks = once_in(4) ? below(64) : 0x3F, i;
	unsigned fsw = (unsigned)rnd() & (FSW_TOP | FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3);
	uint32_t mxcsr = MXCSR_DEFAULT | ((unsigned)rnd() & 0xE07F);

	memset(fx, 0, 512);
	put16(fx, FX_FCW, FCW_RESERVED | masks | below(4) << 8 | below(4) << 10);
	/* Flags that are unmasked would be pending: seldom. */
	fsw |= (unsigned)rnd() & (once_in(16) ? FSW_EXCEPTIONS : masks);
	if (fsw & ~masks & FSW_EXCEPTIONS)
		fsw |= FSW_ES | FSW_B;
	put16(fx, FX_FSW, fsw);
	fx[FX_FTW] = once_in(3) ? (uint8_t)rnd() : once_in(2) ? 0xFF : 0;
	/* FOP, FIP and FDP 0: AMD loads them only with an exception pending. */
	memcpy(fx + FX_MXCSR, &mxcsr, 4);
	for (i = 0; i < 8; i++)
		random_st(fx + FX_ST + 16 * i);
	for (i = 0; i < 32; i++) {
		uint64_t v = value();

		memcpy(fx + FX_XMM + 8 * i, &v, 8);
	}
}

/* Registers that a form has a special use for. */
void
prepare_registers(struct instance *t)
{
	const struct trait *trait = t->form->trait;
	uint64_t high = t->mode == MODE_16 ? rnd() << 16 : 0;
	unsigned i;

	for (i = 0; i < 16; i++)
		t->gpr[i] = value();
	t->gpr[CPU_RSP] = MIDDLE - 64 + below(128) - data_base(t);
	if (trait->flags & STRING) {
		set_address(t, CPU_RSI, MIDDLE - 256 + below(512));
		set_address(t, CPU_RDI, once_in(16) ? DATA + DATA_SIZE - below(64) :
		    MIDDLE - 256 + below(512));
		t->gpr[CPU_RCX] = below(20) | (rnd() & ~size_mask(t->asize));
		set_address(t, CPU_RBX, MIDDLE);
	}
	if (trait->flags & RDI_DATA)
		set_address(t, CPU_RDI, once_in(16) ? DATA + DATA_SIZE - below(32) :
		    MIDDLE - 64 + below(128));
	if (trait->flags & FRAME)
		t->gpr[CPU_RBP] = (MIDDLE - 64 + below(128) - data_base(t)) | (high & 0xFFFF0000);
	if ((trait->flags & BRANCH) && once_in(2))
		t->gpr[CPU_RCX] = below(3) | (rnd() & ~size_mask(t->asize));
	if ((trait->flags & DIVIDE) && !once_in(4))
		t->gpr[CPU_RDX] = once_in(2) ? 0 : t->gpr[CPU_RAX] >> 63 ? ~UINT64_C(0) : 0;
	if ((trait->flags & DOUBLE_SHIFT) && t->osize == 2)
		t->gpr[CPU_RCX] = below(17);
	if (trait->flags & XFEATURES) {
		t->gpr[CPU_RAX] = (rnd() & ~UINT64_C(0xFFFFFFFF)) | below(4);
		t->gpr[CPU_RDX] = rnd() & ~UINT64_C(0xFFFFFFFF);
	}
	if (trait->flags & XCR)		/* XCR0 itself is the system's */
		t->gpr[CPU_RCX] = 2 + below(1000);
}

/* Images that FXRSTOR, XRSTOR, FRSTOR and FLDENV take, mostly. */
static void
prepare_image(struct instance *t)
{
	handler *h = t->form->op->execute;
	uint64_t at = t->target;
	unsigned i, step = t->osize == 2 ? 2 : 4;
	uint8_t fx[512];

	if (!t->memory)
		return;
	if (h == op_ldmxcsr && !once_in(8))
		store(t, at, MXCSR_DEFAULT | (rnd() & 0xE07F), 4);
	if (h == op_fldcw)
		store(t, at, once_in(2) ? 0x37F | (rnd() & 0xF00) : rnd() & 0x1F3F, 2);
	if (h == op_fxrstor || h == op_xrstor) {
		random_fx(fx);
		if (once_in(8))
			fx[FX_MXCSR + 2] = 1;
		for (i = 0; i < 512; i++)
			store(t, at + i, fx[i], 1);
	}
	if (h == op_xrstor)
		for (i = 512; i < 576; i++)
			store(t, at + i, i == 512 ? below(4) : i == 530 && once_in(8), 1);
	if (h == op_xsave || h == op_xsaveopt)
		store(t, at + 512, below(4), 8);
	if (h == op_frstor || h == op_fldenv) {
		random_fx(fx);
		store(t, at, fx[0] | fx[1] << 8, 2);
		store(t, at + step, fx[2] | fx[3] << 8, 2);
		store(t, at + 2 * step, rnd(), 2);
		for (i = 0; h == op_frstor && i < 8; i++) {
			store(t, at + 7 * step + 10 * i, fx[FX_ST + 16 * i] |
			    (uint64_t)fx[FX_ST + 16 * i + 7] << 56 | rnd() >> 8, 8);
			store(t, at + 7 * step + 10 * i + 8, rnd(), 2);
		}
	}
}

/* The frame of RETF or IRET. */
static void
prepare_return(struct instance *t, uint64_t sp, uint64_t to)
{
	unsigned n = t->osize;

	store(t, sp, to, n);
	store(t, sp + n, code_selector(t), n);
	if (t->form->op->execute != op_iret)
		return;
	store(t, sp + 2 * n, rnd() & (STATUS | DF | 0x200), n);
	store(t, sp + 3 * n, MIDDLE + below(64), n);
	store(t, sp + 4 * n, once_in(4) ? selector() : SEL_DATA, n);
}

/* Memory and accumulator, once the address is known. */
void
prepare_memory(struct instance *t)
{
	const struct form *f = t->form;
	uint32_t flags = f->trait->flags;
	bool free_acc = !(t->used & (1u << CPU_RAX | 1u << CPU_RDX));
	uint64_t branch = code_offset(t);
	uint64_t sp = t->gpr[CPU_RSP] + data_base(t);
	unsigned align, far = t->osize == 8 ? 4 : t->osize;	/* of a far pointer's offset */

	if (flags & RETURN)
		store(t, sp, branch, t->osize);
	if ((flags & FAR_TARGET) && t->memory) {
		store(t, t->target, branch, far);
		store(t, t->target + far, code_selector(t), 2);
	}
	if (flags & FAR_RETURN)
		prepare_return(t, sp, branch);
	if (flags & POPS_FLAGS)	/* not TF, NT, AC; IF must not change */
		store(t, sp, rnd() & (STATUS | DF | 0x200), 8);
	if (flags & POPS_SELECTOR)
		store(t, sp, selector() | rnd() << 16, 8);
	if (flags & FAR_POINTER)
		store(t, t->target + far, selector(), 2);
	if (flags & INDIRECT) {
		if (t->memory)
			store(t, t->target, branch, t->osize);
		else
			t->gpr[t->rm] = branch;
	}
	if (flags & SELECTOR) {
		if (t->memory)
			store(t, t->target, selector(), 2);
		else
			t->gpr[t->rm] = (t->gpr[t->rm] & ~UINT64_C(0xFFFF)) | selector();
	}
	if ((flags & BOUNDS) && !once_in(3)) {
		store(t, t->target, 0 - rnd() % 1000, t->osize);
		store(t, t->target + t->osize, rnd() % 1000, t->osize);
		if (!(t->used & 1u << t->reg))
			t->gpr[t->reg] = 500 - rnd() % 1000;
	}
	if ((flags & COMPARE) && t->memory && free_acc && once_in(2)) {
		unsigned size = access_size(t, &align);

		if (f->op->execute == op_cmpxchg8b) {
			t->gpr[CPU_RAX] = load(t, t->target, size / 2);
			t->gpr[CPU_RDX] = load(t, t->target + size / 2, size / 2);
		} else {
			t->gpr[CPU_RAX] = load(t, t->target, size);
		}
	} else if ((flags & COMPARE) && !t->memory && once_in(2)) {
		t->gpr[CPU_RAX] = t->gpr[t->rm];
	}
	prepare_image(t);
	t->any_cr2 = access_size(t, &align) >= 14;
	t->misaligned = (t->target & (align - 1)) != 0;
	/* The mask is in EDX:EAX: only what both sides have. */
	t->skip = (flags & XFEATURES) && !free_acc;
	if ((f->op->execute == op_fxsave || (flags & XFEATURES)) && t->target >= DATA)
		t->mxcsr_mask = (unsigned)(t->target - DATA) + FX_MXCSR_MASK;
}

/* --- what is not defined, now that all values are known --- */

static unsigned
shift_count(const struct instance *t)
{
	unsigned i, count = 1;

	for (i = 0; i < 3; i++) {
		if (t->form->operand[i] == CL)
			count = t->gpr[CPU_RCX] & 0xFF;
		else if (t->form->operand[i] == Ib)
			count = t->code[t->len - 1];
	}
	return count & (t->osize == 8 && t->form->operand[0] != Eb ? 63 : 31);
}

void
undefined(struct instance *t)
{
	static const uint16_t fixed[] = {
		[ULOGIC] = AF, [UMUL] = SF | ZF | AF | PF, [UALL] = STATUS,
		[UBT] = OF | SF | AF | PF, [UBS] = STATUS & ~ZF,
		[UZCNT] = OF | SF | PF | AF, [UBLS] = AF | PF, [UBEXTR] = AF | SF | PF,
		[UDAA] = OF, [UAAA] = OF | SF | ZF | PF, [UAAM] = OF | AF | CF
	};
	const struct form *f = t->form;
	unsigned bits = f->operand[0] == Eb ? 8 : 8 * t->osize, count = shift_count(t);

	t->ignore = -1;
	switch (f->trait->undefined) {
	case USHIFT:
		if (count >= bits)
			t->undefined |= CF;
		/* FALLTHROUGH */
	case USAR: case USHD:
		t->skip |= f->trait->undefined == USHD && count > bits;
		if (count != 0)
			t->undefined |= AF;
		/* FALLTHROUGH */
	case UROT:
		if (count > 1)
			t->undefined |= OF;
		break;
	default:
		t->undefined = fixed[f->trait->undefined];
		break;
	}
	if (f->op->execute == op_bswap && t->osize == 2)
		t->ignore = (int)t->rm;
}
