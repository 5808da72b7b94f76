/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Instruction fetch and decode (SDM 2A, chapter 2), and access to operands.
 */
#include <string.h>

#include "fpu.h"

/*
 * One byte of the instruction.  The limit, canonical and paging checks are made
 * per byte, so that only bytes that belong to the instruction can fault.
 */
static uint8_t
fetch(struct exec *x)
{
	struct cpu *cpu = x->cpu;
	struct insn *in = &x->in;
	uint64_t at = cpu->rip + in->len;
	uint8_t byte;

	if (in->len == sizeof(in->bytes))
		gp0(x);		/* SDM 2A 2.3.11: no instruction is longer */
	if (mode64(cpu)) {
		if (!canonical(at))
			gp0(x);
	} else {
		at = (uint32_t)cpu->rip + (uint64_t)in->len;
		if (at > cpu->seg[CPU_CS].limit)
			gp0(x);
		at = (uint32_t)(cpu->seg[CPU_CS].base + at);
	}
	if (x->fetch_page != ((at & ~UINT64_C(0xFFF)) | 1)) {
		uint64_t gpa = translate(x, at, ACCESS_FETCH, RANK_CPL);

		x->fetch_host = physical(x, gpa, CPU_ACCESS_EXEC) - (at & 0xFFF);
		x->fetch_page = (at & ~UINT64_C(0xFFF)) | 1;
	}
	memcpy(&byte, x->fetch_host + (at & 0xFFF), 1);
	in->bytes[in->len++] = byte;
	return byte;
}

static uint64_t
fetch_value(struct exec *x, unsigned size)
{
	uint64_t value = 0;
	unsigned i;

	for (i = 0; i < size; i++)
		value |= (uint64_t)fetch(x) << (8 * i);
	return value;
}

static uint64_t
fetch_signed(struct exec *x, unsigned size)
{
	return sign_extend(fetch_value(x, size), size);
}

/*
 * Legacy prefixes and REX.  REX counts only right before the opcode; ES, CS,
 * SS and DS overrides mean nothing in 64-bit mode (APM 3, 1.2.4 and 1.2.7).
 */
static uint8_t
decode_prefixes(struct exec *x)
{
	struct insn *in = &x->in;
	bool m64 = mode64(x->cpu);

	for (;;) {
		uint8_t b = fetch(x);

		switch (b) {
		case 0x26: case 0x2E: case 0x36: case 0x3E:
			if (!m64)
				in->override = (int8_t)((b >> 3) & 3);
			break;
		case 0x64: in->override = CPU_FS; break;
		case 0x65: in->override = CPU_GS; break;
		case 0x66: in->prefix66 = true; break;
		case 0x67: in->prefix67 = true; break;
		case 0xF0: in->lock = true; break;
		case 0xF2: case 0xF3: in->rep = b; break;
		default:
			if (!m64 || (b & 0xF0) != 0x40)
				return b;
			in->rex = b;
			continue;
		}
		in->rex = 0;
	}
}

/* Fetches the ModRM byte if it has not been yet; the address comes later. */
static void
need_modrm(struct exec *x)
{
	struct insn *in = &x->in;
	uint8_t b;

	if (in->has_modrm)
		return;
	in->modrm_at = in->len;
	b = fetch(x);
	in->has_modrm = true;
	in->mod = b >> 6;
	in->reg = ((b >> 3) & 7) | ((in->rex & 4) << 1);
	in->rm = (b & 7) | ((in->rex & 1) << 3);
}

/* Outside 64-bit mode LES and LDS are VEX where their operand is no memory. */
static bool
is_vex(struct exec *x)
{
	if (mode64(x->cpu))
		return true;
	if (!protected_mode(x->cpu) || (x->cpu->rflags & FLAG_VM))
		return false;
	need_modrm(x);
	return x->in.mod == 3;
}

/*
 * The VEX prefix (SDM 2A 2.3.5): R, X, B inverted; map; W, vvvv inverted, L, pp.
 * Only instructions on general registers have it here.
 */
static const struct opcode *
decode_vex(struct exec *x)
{
	static const uint8_t pp_rep[4] = { 0, 0, 0xF3, 0xF2 };
	static const struct opcode none, avx = { .execute = op_absent };
	struct insn *in = &x->in;
	bool long_form = in->opcode == 0xC4, bad = in->lock || in->prefix66 || in->rep || in->rex;
	uint8_t first, last;
	unsigned map = 1;

	first = mode64(x->cpu) ? fetch(x) : in->bytes[in->len - 1];
	last = first;
	in->rex = (uint8_t)(0x40 | (~first >> 5 & 4));
	if (long_form) {
		last = fetch(x);
		map = first & 0x1F;
		in->rex = (uint8_t)(0x40 | (~first >> 5 & 7) | (last >> 4 & 8));
	}
	in->vex = true;
	in->vex_l = last >> 2 & 1;
	in->vvvv = (uint8_t)(~last >> 3 & 15);
	in->rep = pp_rep[last & 3];
	in->prefix66 = (last & 3) == 1;
	if (!mode64(x->cpu)) {
		in->rex = 0x40;
		in->vvvv &= 7;
	}
	in->has_modrm = false;
	in->opcode = fetch(x);
	if (bad)
		ud(x);
	switch (map) {
	case 1: return &avx;
	case 2: return &opcode_vex_0f38[in->opcode];
	case 3: return &opcode_vex_0f3a[in->opcode];
	default: return &none;
	}
}

static const struct opcode *
decode_opcode(struct exec *x)
{
	struct insn *in = &x->in;

	in->opcode = decode_prefixes(x);
	if ((in->opcode == 0xC4 || in->opcode == 0xC5) && is_vex(x))
		return decode_vex(x);
	if (in->opcode != 0x0F)
		return &opcode_map_1[in->opcode];
	in->opcode = fetch(x);
	if (in->opcode == 0x38) {
		in->opcode = fetch(x);
		return &opcode_map_0f38[in->opcode];
	}
	if (in->opcode == 0x3A) {
		in->opcode = fetch(x);
		return &opcode_map_0f3a[in->opcode];
	}
	return &opcode_map_0f[in->opcode];
}

static unsigned
table_index(struct exec *x, const struct opcode *op)
{
	struct insn *in = &x->in;

	switch (op->by) {
	case BY_64:
		return mode64(x->cpu);
	case BY_L:
		return in->vex_l;
	case BY_PREFIX:
		return in->rep == 0xF2 ? 3 : in->rep == 0xF3 ? 2 : in->prefix66 ? 1 : 0;
	case BY_REG:
		need_modrm(x);
		return in->reg & 7;
	case BY_RM:
		need_modrm(x);
		return in->rm & 7;
	default:
		need_modrm(x);
		return in->mod == 3;
	}
}

/* SDM 2A, table 2-1. */
static void
decode_address16(struct exec *x)
{
	static const int8_t base[8] = {
		CPU_RBX, CPU_RBX, CPU_RBP, CPU_RBP, CPU_RSI, CPU_RDI, CPU_RBP, CPU_RBX
	};
	static const int8_t index[8] = { CPU_RSI, CPU_RDI, CPU_RSI, CPU_RDI, -1, -1, -1, -1 };
	struct insn *in = &x->in;
	const uint64_t *gpr = x->cpu->gpr;
	uint64_t ea = 0;

	if (in->mod == 0 && in->rm == 6) {
		ea = fetch_value(x, 2);
	} else {
		if (base[in->rm] == CPU_RBP)
			in->seg = CPU_SS;
		ea = gpr[base[in->rm]];
		if (index[in->rm] >= 0)
			ea += gpr[index[in->rm]];
		if (in->mod != 0)
			ea += fetch_signed(x, in->mod == 1 ? 1 : 2);
	}
	in->ea = ea & 0xFFFF;
}

/*
 * SDM 2A, tables 2-2 and 2-3.  A RIP-relative address counts from the end of
 * the instruction, which is not known yet: the caller adds it.
 */
static bool
decode_address(struct exec *x)
{
	struct insn *in = &x->in;
	const uint64_t *gpr = x->cpu->gpr;
	uint64_t ea = 0;
	unsigned base = in->rm;
	bool has_base = true, relative = false;

	if ((in->rm & 7) == 4) {
		uint8_t sib = fetch(x);
		unsigned index = ((sib >> 3) & 7) | ((in->rex & 2) << 2);

		base = (sib & 7) | ((in->rex & 1) << 3);
		if (index != 4)
			ea = gpr[index] << (sib >> 6);
		has_base = !((base & 7) == 5 && in->mod == 0);
	} else if ((in->rm & 7) == 5 && in->mod == 0) {
		has_base = false;
		relative = mode64(x->cpu);
	}
	if (has_base) {
		ea += gpr[base];
		in->sp_based = base == CPU_RSP;
		if (base == CPU_RSP || base == CPU_RBP)
			in->seg = CPU_SS;
	}
	if (in->mod == 1)
		ea += fetch_signed(x, 1);
	else if (in->mod == 2 || !has_base)
		ea += fetch_signed(x, 4);
	in->ea = ea & mask_of(in->asize);
	return relative;
}

static void
operand_reg(struct exec *x, struct operand *o, unsigned size, unsigned reg)
{
	/* Without REX, byte registers 4 to 7 are AH, CH, DH, BH. */
	o->kind = OPERAND_REG;
	o->size = (uint8_t)size;
	o->reg = (uint8_t)reg;
	if (size == 1 && x->in.rex == 0 && reg >= 4) {
		o->kind = OPERAND_HIGH;
		o->reg = (uint8_t)(reg - 4);
	}
}

static void
operand_vector(struct operand *o, unsigned kind, unsigned size, unsigned reg)
{
	o->kind = (uint8_t)kind;
	o->size = (uint8_t)size;
	o->reg = (uint8_t)(kind == OPERAND_MM ? reg & 7 : reg);
}

static void
operand_imm(struct operand *o, unsigned size)
{
	o->kind = OPERAND_IMM;
	o->size = (uint8_t)size;
}

static void
operand_rm(struct exec *x, struct operand *o, unsigned size)
{
	need_modrm(x);
	if (x->in.mod == 3) {
		operand_reg(x, o, size, x->in.rm);
	} else {
		o->kind = OPERAND_MEM;
		o->size = (uint8_t)size;
	}
}

/* An MMX or XMM register, or that much memory. */
static void
operand_vector_rm(struct exec *x, struct operand *o, unsigned kind, unsigned memory)
{
	if (x->in.mod != 3)
		operand_rm(x, o, memory);
	else
		operand_vector(o, kind, kind == OPERAND_MM ? 8 : 16, x->in.rm);
}

static void
decode_operand(struct exec *x, struct operand *o, unsigned encoding)
{
	struct insn *in = &x->in;
	unsigned v = in->osize, y = v == 2 ? 4 : v;
	unsigned z = in->opcode & 7, zreg = z | ((in->rex & 1u) << 3);

	switch (encoding) {
	case Eb: operand_rm(x, o, 1); break;
	case Ew: operand_rm(x, o, 2); break;
	case Ev: operand_rm(x, o, v); break;
	case Ed: operand_rm(x, o, 4); break;
	case Exd: operand_rm(x, o, v == 2 && intel(x->cpu) ? 2 : 4); break;
	case Ey: operand_rm(x, o, y); break;
	case Gb: operand_reg(x, o, 1, in->reg); break;
	case Gw: operand_reg(x, o, 2, in->reg); break;
	case Gv: operand_reg(x, o, v, in->reg); break;
	case Gy: operand_reg(x, o, y, in->reg); break;
	case Gd: operand_reg(x, o, 4, in->reg); break;
	case By: operand_reg(x, o, y, in->vvvv); break;
	case Rv: operand_reg(x, o, v, in->rm); break;
	case Ry: operand_reg(x, o, mode64(x->cpu) ? 8 : 4, in->rm); break;
	case M: operand_rm(x, o, v); break;
	case Mb: operand_rm(x, o, 1); break;
	case Mw: operand_rm(x, o, 2); break;
	case Md: operand_rm(x, o, 4); break;
	case Mv: operand_rm(x, o, v); break;
	case Mq: operand_rm(x, o, 8); break;
	case My: operand_rm(x, o, y); break;
	case Mt: operand_rm(x, o, 10); break;
	case Mx: operand_rm(x, o, 16); break;
	case Mw_Rd: operand_rm(x, o, in->mod == 3 ? 4 : 2); break;
	case Pq: operand_vector(o, OPERAND_MM, 8, in->reg); break;
	case Nq: operand_vector(o, OPERAND_MM, 8, in->rm); break;
	case Qd: operand_vector_rm(x, o, OPERAND_MM, 4); break;
	case Qq: operand_vector_rm(x, o, OPERAND_MM, 8); break;
	case Vx: operand_vector(o, OPERAND_XMM, 16, in->reg); break;
	case Ux: operand_vector(o, OPERAND_XMM, 16, in->rm); break;
	case Wd: operand_vector_rm(x, o, OPERAND_XMM, 4); break;
	case Wq: operand_vector_rm(x, o, OPERAND_XMM, 8); break;
	case Wx: operand_vector_rm(x, o, OPERAND_XMM, 16); break;
	case Ms: operand_rm(x, o, in->mod == 3 ? v : 2); break;
	case Sw: o->kind = OPERAND_SREG; o->size = 2; o->reg = in->reg & 7; break;
	case Zb: operand_reg(x, o, 1, zreg); break;
	case Zv: operand_reg(x, o, v, zreg); break;
	case Ib: operand_imm(o, 1); in->imm = fetch_value(x, 1); break;
	case Iw: operand_imm(o, 2); in->imm = fetch_value(x, 2); break;
	case Iz: operand_imm(o, v); in->imm = fetch_signed(x, v == 2 ? 2 : 4); break;
	case Iv: operand_imm(o, v); in->imm = fetch_value(x, v); break;
	case sIb: operand_imm(o, v); in->imm = fetch_signed(x, 1); break;
	case Ib2: operand_imm(o, 1); in->imm2 = fetch_value(x, 1); break;
	case Jb: operand_imm(o, 8); in->imm = fetch_signed(x, 1); break;
	case Jz: operand_imm(o, 8); in->imm = fetch_signed(x, v == 2 ? 2 : 4); break;
	case Ap:
		operand_imm(o, v);
		in->imm = fetch_value(x, v);
		in->imm2 = fetch_value(x, 2);
		break;
	case Ob: case Ov:
		o->kind = OPERAND_MEM;
		o->size = (uint8_t)(encoding == Ob ? 1 : v);
		in->ea = fetch_value(x, in->asize);
		break;
	case AL: o->kind = OPERAND_REG; o->size = 1; o->reg = CPU_RAX; break;
	case AX: o->kind = OPERAND_REG; o->size = 2; o->reg = CPU_RAX; break;
	case CL: o->kind = OPERAND_REG; o->size = 1; o->reg = CPU_RCX; break;
	case DX: o->kind = OPERAND_REG; o->size = 2; o->reg = CPU_RDX; break;
	case rAX: operand_reg(x, o, v, CPU_RAX); break;
	case eAX: operand_reg(x, o, v == 8 ? 4 : v, CPU_RAX); break;
	case ONE: operand_imm(o, 1); in->imm = 1; break;
	case Xb: o->size = 1; break;
	case Xv: o->size = (uint8_t)v; break;
	default: break;
	}
}

static bool
wants_modrm(const uint8_t *operand, unsigned flags)
{
	unsigned i;

	for (i = 0; i < 3; i++)
		if (operand[i] >= Eb && operand[i] <= Sw)
			return true;
	return (flags & (OP_MODRM | OP_MEMORY | OP_REGISTER)) != 0;
}

/* Where VEX.vvvv names nothing it must be 1111, inverted 0 (SDM 2A 2.3.5.6). */
static bool
uses_vvvv(const uint8_t *operand)
{
	return operand[0] == By || operand[1] == By || operand[2] == By;
}

static void
decode_sizes(struct exec *x, unsigned flags)
{
	struct insn *in = &x->in;
	bool big = x->cpu->seg[CPU_CS].db;

	if (mode64(x->cpu)) {
		in->asize = in->prefix67 ? 4 : 8;
		if ((in->rex & 8) || ((flags & OP_F64) && intel(x->cpu)))
			in->osize = 8;
		else if (in->prefix66)
			in->osize = 2;
		else
			in->osize = flags & OP_D64 ? 8 : 4;
	} else {
		in->asize = big != in->prefix67 ? 4 : 2;
		in->osize = big != in->prefix66 ? 4 : 2;
	}
}

/* What the tables say about the mode, the privilege and LOCK. */
static void
check_allowed(struct exec *x, unsigned flags)
{
	const struct cpu *cpu = x->cpu;
	bool memory = x->in.operand[0].kind == OPERAND_MEM;

	if ((flags & OP_I64) && mode64(cpu))
		ud(x);
	if ((flags & OP_O64) && !mode64(cpu))
		ud(x);
	if ((flags & OP_PROT) && real_segments(cpu))
		ud(x);
	if ((flags & OP_MEMORY) && x->in.mod == 3)
		ud(x);
	if ((flags & OP_REGISTER) && x->in.mod != 3)
		ud(x);
	if (x->in.lock && !((flags & OP_LOCK) && memory))
		ud(x);
	if ((flags & OP_CR) && !(0x11Du >> x->in.reg & 1))
		ud(x);		/* CR0, CR2, CR3, CR4, CR8 */
	if ((flags & OP_DR) && x->in.reg > 7)
		ud(x);
	if ((flags & OP_CPL0) && protected_mode(cpu) && cpu_cpl(cpu) != 0)
		gp0(x);
	if ((flags & OP_UMIP) && (cpu->cr4 & CR4_UMIP) && protected_mode(cpu) && cpu_cpl(cpu) != 0)
		gp0(x);
	if (flags & OP_FPU)
		fpu_check(x, flags);
}

void
decode(struct exec *x)
{
	struct insn *in = &x->in;
	const struct opcode *op;
	const uint8_t *operands;
	unsigned flags, i;
	bool relative = false;

	memset(in, 0, sizeof(*in));
	in->override = -1;
	x->fetch_page = 0;

	op = decode_opcode(x);
	operands = op->operand;
	flags = op->flags;
	while (op->by != BY_NOTHING) {
		op = &op->table[table_index(x, op)];
		flags |= op->flags;
		if (op->operand[0] != NO)
			operands = op->operand;
	}
	if (op->execute == NULL)
		ud(x);
	in->op = op;
	in->flags = flags;
	decode_sizes(x, flags);

	in->seg = CPU_DS;
	if (wants_modrm(operands, flags))
		need_modrm(x);
	/* MOV to and from CRn and DRn take a register whatever mod says. */
	if (in->has_modrm && in->mod != 3 && operands[0] != Ry) {
		if (in->asize == 2)
			decode_address16(x);
		else
			relative = decode_address(x);
	}
	for (i = 0; i < 3 && operands[i] != NO; i++)
		decode_operand(x, &in->operand[i], operands[i]);
	if (in->override >= 0)
		in->seg = (uint8_t)in->override;
	x->next_rip = x->cpu->rip + in->len;
	if (!mode64(x->cpu))
		x->next_rip = (uint32_t)x->next_rip;
	if (relative)
		in->ea = (in->ea + x->next_rip) & mask_of(in->asize);
	if (in->vex && in->vvvv != 0 && !uses_vvvv(operands))
		ud(x);
	check_allowed(x, flags);
}

/* --- operands --- */

uint64_t
get(struct exec *x, unsigned i)
{
	const struct operand *o = &x->in.operand[i];

	switch (o->kind) {
	case OPERAND_REG:
		return x->cpu->gpr[o->reg] & mask_of(o->size);
	case OPERAND_HIGH:
		return (x->cpu->gpr[o->reg] >> 8) & 0xFF;
	case OPERAND_MEM:
		return mem_read(x, x->in.seg, x->in.ea, o->size);
	default:
		return x->in.imm & mask_of(o->size);
	}
}

/* Reads an operand that put() will write: memory is checked for both first. */
uint64_t
get_rmw(struct exec *x, unsigned i)
{
	const struct operand *o = &x->in.operand[i];
	uint64_t linear;

	if (o->kind != OPERAND_MEM)
		return get(x, i);
	linear = linear_address(x, x->in.seg, x->in.ea, o->size, ACCESS_WRITE);
	span_of(x, linear, o->size, ACCESS_WRITE, RANK_CPL, &x->rmw);
	x->rmw_old = span_load(&x->rmw, 0, o->size);
	return x->rmw_old;
}

/* With LOCK only if the operand is still as it was read. */
static void
put_rmw(struct exec *x, unsigned size, uint64_t value)
{
	if (!x->in.lock)
		span_store(&x->rmw, 0, size, value);
	else if (!span_exchange(&x->rmw, size, x->rmw_old, value))
		retry(x);
}

/* Memory that get_rmw() has looked up is not looked up again. */
void
put(struct exec *x, unsigned i, uint64_t value)
{
	const struct operand *o = &x->in.operand[i];
	uint64_t *gpr = x->cpu->gpr;

	switch (o->kind) {
	case OPERAND_HIGH:
		gpr[o->reg] = (gpr[o->reg] & ~UINT64_C(0xFF00)) | (value & 0xFF) << 8;
		break;
	case OPERAND_MEM:
		if (x->rmw.part[0] != NULL)
			put_rmw(x, o->size, value);
		else
			mem_write(x, x->in.seg, x->in.ea, o->size, value);
		break;
	default:
		set_gpr(x->cpu, o->reg, o->size, value);
		break;
	}
}
