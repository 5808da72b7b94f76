/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * nvmm_assist_mem: spec libnvmm 7, the executors.  The decoder is in
 * mem_decode.c.
 *
 * Registers change in a copy, so that a failure leaves them as they were
 * (L-MEM-10).
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define FLAG_CF		UINT64_C(0x001)
#define FLAG_PF		UINT64_C(0x004)
#define FLAG_AF		UINT64_C(0x010)
#define FLAG_ZF		UINT64_C(0x040)
#define FLAG_SF		UINT64_C(0x080)
#define FLAG_OF		UINT64_C(0x800)

struct mem {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	const struct soft_model *model;
	const struct nvmm_x64_state *st;
	struct soft_insn insn;
	bool is_64bit;			/* CS.L: L-DAT-1 */
	bool failed;			/* an operand across two pages */
	uint64_t gprs[NVMM_X64_NGPR];
};

/* ---- registers --------------------------------------------------------------- */

/* L-DEC-9: which register, and where in it. */
static unsigned
locate(const struct mem *m, unsigned reg, unsigned size, unsigned *shift)
{
	*shift = 0;
	if (size == 1 && !m->insn.rex && reg >= 4 && reg < 8 &&
	    !SOFT_FAULT(m->model, SOFT_F_MEM_HIGH_BYTE)) {
		*shift = 8;
		return reg - 4;
	}
	return reg;
}

static uint64_t
read_reg(const struct mem *m, unsigned reg, unsigned size)
{
	unsigned shift, gpr = locate(m, reg, size, &shift);

	return (m->gprs[gpr] >> shift) & soft_size_mask(size);
}

/* L-DAT-1. */
static void
write_reg(struct mem *m, unsigned reg, unsigned size, uint64_t value)
{
	unsigned shift, gpr = locate(m, reg, size, &shift);
	uint64_t mask = soft_size_mask(size);

	if (size == 4 && m->is_64bit &&
	    !SOFT_FAULT(m->model, SOFT_F_MEM_KEEPS_UPPER))
		m->gprs[gpr] = 0;
	if (size == 2 && SOFT_FAULT(m->model, SOFT_F_MEM_WORD_CLEARS))
		m->gprs[gpr] = 0;
	m->gprs[gpr] = (m->gprs[gpr] & ~(mask << shift)) |
	    ((value & mask) << shift);
}

static void
write_movzx(struct mem *m, uint64_t value)
{
	unsigned size = m->insn.operand_size, shift, gpr;
	uint64_t clear;

	if (m->insn.memory_size == 1 &&
	    SOFT_QUIRK(m->model, SOFT_Q_MEM_MOVZX_HIGH)) {
		gpr = locate(m, m->insn.reg, 1, &shift);
		if (shift != 0) {
			/* L-DAT-3: the byte goes to AH and is wiped there. */
			clear = size == 4 && m->is_64bit ? UINT64_MAX :
			    soft_size_mask(size);
			m->gprs[gpr] &= ~clear | 0xFF;
			return;
		}
	}
	if (m->insn.memory_size == 1 &&
	    SOFT_FAULT(m->model, SOFT_F_MEM_MOVZX_SIGN))
		value = (uint64_t)(int8_t)value;
	write_reg(m, m->insn.reg, size, value);
}

/* ---- arithmetic ------------------------------------------------------------------ */

static void
set_flags(struct mem *m, uint64_t mask, uint64_t flags)
{
	uint64_t *rflags = &m->gprs[NVMM_X64_GPR_RFLAGS];

	*rflags = (*rflags & ~mask) | flags;
}

static uint64_t
result_flags(const struct mem *m, uint64_t value, unsigned size)
{
	uint64_t flags = 0;

	if (((value & soft_size_mask(size)) == 0) !=
	    SOFT_FAULT(m->model, SOFT_F_MEM_ZF))
		flags |= FLAG_ZF;
	if ((value >> (8 * size - 1)) & 1)
		flags |= FLAG_SF;
	if (__builtin_parityll(value & (SOFT_FAULT(m->model, SOFT_F_MEM_PF) ?
	    soft_size_mask(size) : 0xFF)) == 0)
		flags |= FLAG_PF;
	return flags;
}

/* a op b, with the flags of the operation (7.3, L-DAT-6: AF stays for logic). */
static uint64_t
compute(struct mem *m, enum soft_op op, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t value, flags = 0, mask = soft_size_mask(size);
	uint64_t written = FLAG_OF | FLAG_CF | FLAG_ZF | FLAG_SF | FLAG_PF;

	switch (op) {
	case SOFT_OP_OR:
		value = a | b;
		break;
	case SOFT_OP_AND:
	case SOFT_OP_TEST:
		value = a & b;
		break;
	case SOFT_OP_XOR:
		value = a ^ b;
		break;
	default:			/* SUB, CMP, CMPS */
		value = (a - b) & mask;
		written |= FLAG_AF;
		if (a < b)
			flags |= FLAG_CF;
		if ((a ^ b ^ value) & 0x10)
			flags |= FLAG_AF;
		if ((((a ^ b) & (a ^ value)) >> (8 * size - 1)) & 1)
			flags |= FLAG_OF;
		break;
	}
	set_flags(m, written, flags | result_flags(m, value, size));
	return value;
}

/* ---- one memory operand, at the exit's gpa (L-MEM-6, L-MEM-9) --------------------- */

/* Does the operand go on in the next page?  Then each part has its own place,
 * and one of them may be RAM. */
static bool
crosses(const struct mem *m, gvaddr_t *gva)
{
	size_t size = m->insn.memory_size;

	return !SOFT_QUIRK(m->model, SOFT_Q_MEM_ONE_CALLBACK) &&
	    m->insn.has_address && soft_linear(m->model, m->st,
	    m->insn.address_seg, m->insn.address, size, gva) == 0 &&
	    (*gva & SOFT_PAGE_MASK) + size > SOFT_PAGE_SIZE;
}

static uint64_t
device(struct mem *m, bool write, uint64_t value)
{
	gvaddr_t gva;
	struct nvmm_mem cb = {
		.mach = m->mach,
		.vcpu = m->vcpu,
		.gpa = m->vcpu->exit->u.mem.gpa,
		.write = write,
		.size = m->insn.memory_size,
		.data = (uint8_t *)&value,
	};

	if (SOFT_FAULT(m->model, SOFT_F_CB_MEM_SIZE))
		cb.size = sizeof(value);
	if (SOFT_FAULT(m->model, SOFT_F_CB_GPA_PAGE))
		cb.gpa &= ~SOFT_PAGE_MASK;
	if (SOFT_FAULT(m->model, SOFT_F_CB_WRITE))
		cb.write = !cb.write;
	if (!crosses(m, &gva))
		(*m->vcpu->cbs.mem)(&cb);
	else if (write)
		m->failed |= soft_guest_write(m->mach, m->vcpu, gva, &value,
		    cb.size) != 0;
	else
		m->failed |= soft_guest_read(m->mach, m->vcpu, gva, &value,
		    cb.size) != 0;
	return value & soft_size_mask(m->insn.memory_size);
}

static void
load(struct mem *m)
{
	unsigned size = m->insn.operand_size;
	uint64_t value = device(m, false, 0);

	switch (m->insn.op) {
	case SOFT_OP_MOV:
	case SOFT_OP_LODS:
		write_reg(m, m->insn.reg, size, value);
		break;
	case SOFT_OP_MOVZX:
		write_movzx(m, value);
		break;
	default:				/* L-DAT-4 */
		value = compute(m, m->insn.op,
		    SOFT_FAULT(m->model, SOFT_F_MEM_OLD_REG) ? 0 :
		    read_reg(m, m->insn.reg, size), value, size);
		write_reg(m, m->insn.reg, size, value);
		break;
	}
}

/* L-MEM-8. */
static void
store(struct mem *m)
{
	unsigned size = m->insn.operand_size;
	uint64_t source = m->insn.source == SOFT_FROM_IMM ?
	    m->insn.imm & soft_size_mask(size) :
	    read_reg(m, m->insn.reg, size);
	uint64_t old, value;

	if (m->insn.op == SOFT_OP_MOV || m->insn.op == SOFT_OP_STOS) {
		device(m, true, source);
		return;
	}
	old = device(m, false, 0);
	if (m->insn.op == SOFT_OP_XCHG) {
		device(m, true, source);
		if (!SOFT_FAULT(m->model, SOFT_F_MEM_XCHG))
			write_reg(m, m->insn.reg, size, old);
		return;
	}
	value = SOFT_FAULT(m->model, SOFT_F_MEM_SUB_SWAPPED) ?
	    compute(m, m->insn.op, source, old, size) :
	    compute(m, m->insn.op, old, source, size);
	if ((m->insn.op != SOFT_OP_CMP && m->insn.op != SOFT_OP_TEST) ||
	    SOFT_FAULT(m->model, SOFT_F_MEM_CMP_WRITES))
		device(m, true, value);
}

/* ---- strings ------------------------------------------------------------------------ */

/* What hardware leaves of a value in a register that the address size limits. */
static void
write_limited(struct mem *m, unsigned gpr, uint64_t value, bool keep_upper)
{
	uint64_t mask = soft_size_mask(m->insn.address_size);

	if (keep_upper || m->insn.address_size == 2 || !m->is_64bit)
		m->gprs[gpr] = (m->gprs[gpr] & ~mask) | (value & mask);
	else
		m->gprs[gpr] = value & mask;
}

static void
step(struct mem *m, unsigned gpr)		/* L-DAT-7 */
{
	uint64_t value = m->gprs[gpr], size = m->insn.operand_size;

	value += (m->gprs[NVMM_X64_GPR_RFLAGS] & SOFT_RFLAGS_DF) &&
	    !SOFT_FAULT(m->model, SOFT_F_MEM_DF) ? -size : size;
	if (SOFT_QUIRK(m->model, SOFT_Q_MEM_INDEX_64))
		m->gprs[gpr] = value;
	else
		write_limited(m, gpr, value, false);
}

/* MOVS, CMPS: both sides by their addresses (L-DAT-8). */
static int
double_string(struct mem *m)
{
	uint64_t mask = soft_size_mask(m->insn.address_size);
	uint64_t source = 0, destination = 0;
	size_t size = m->insn.operand_size;
	gvaddr_t from, to;

	/* The exit came of one side: the processor need not have looked at the
	 * other one's segment. */
	if (!soft_segment_type(m->model, m->st, m->insn.seg, false) ||
	    !soft_segment_type(m->model, m->st, NVMM_X64_SEG_ES,
	    m->insn.op == SOFT_OP_MOVS))
		return EFAULT;
	if (soft_linear(m->model, m->st, m->insn.seg,
	    m->gprs[NVMM_X64_GPR_RSI] & mask, size, &from) != 0 ||
	    soft_guest_read(m->mach, m->vcpu, from, &source, size) != 0)
		return EFAULT;
	/* Measured: the source has been read when this one fails. */
	if (soft_linear(m->model, m->st,
	    SOFT_FAULT(m->model, SOFT_F_MEM_ES_OVERRIDE) ? m->insn.seg :
	    NVMM_X64_SEG_ES,
	    m->gprs[NVMM_X64_GPR_RDI] & mask, size, &to) != 0)
		return EFAULT;
	if (m->insn.op == SOFT_OP_MOVS) {
		if (soft_guest_write(m->mach, m->vcpu, to, &source, size) != 0)
			return EFAULT;
	} else {
		if (soft_guest_read(m->mach, m->vcpu, to, &destination,
		    size) != 0)
			return EFAULT;
		if (SOFT_QUIRK(m->model, SOFT_Q_MEM_CMPS_SWAPPED))
			compute(m, SOFT_OP_CMPS, destination, source,
			    (unsigned)size);
		else
			compute(m, SOFT_OP_CMPS, source, destination,
			    (unsigned)size);
	}
	step(m, NVMM_X64_GPR_RSI);
	step(m, NVMM_X64_GPR_RDI);
	return 0;
}

/* ---- an instruction ------------------------------------------------------------------- */

static int
execute(struct mem *m)
{
	switch (m->insn.op) {
	case SOFT_OP_MOVS:
	case SOFT_OP_CMPS:
		return double_string(m);
	case SOFT_OP_STOS:
		store(m);
		step(m, NVMM_X64_GPR_RDI);
		return 0;
	case SOFT_OP_LODS:
		load(m);
		step(m, NVMM_X64_GPR_RSI);
		return 0;
	default:
		if (m->insn.source == SOFT_FROM_MEM)
			load(m);
		else
			store(m);
		return 0;
	}
}

static bool
repeats(const struct mem *m)
{
	if (!m->insn.repe && !m->insn.repne)
		return false;
	return SOFT_QUIRK(m->model, SOFT_Q_MEM_REP_ANY) ||
	    m->insn.op >= SOFT_OP_MOVS;
}

/* After one iteration: is the instruction done?  L-REP-3 to L-REP-5. */
static bool
count_down(struct mem *m, uint64_t count)
{
	bool zf = (m->gprs[NVMM_X64_GPR_RFLAGS] & FLAG_ZF) != 0;

	write_limited(m, NVMM_X64_GPR_RCX, --count,
	    SOFT_QUIRK(m->model, SOFT_Q_MEM_COUNT_UPPER));
	if (count == 0)
		return true;
	if (m->insn.repne)
		return zf && (m->insn.op == SOFT_OP_CMPS ||
		    SOFT_QUIRK(m->model, SOFT_Q_MEM_REPNE_ALWAYS));
	return m->insn.op == SOFT_OP_CMPS && !zf &&
	    !SOFT_FAULT(m->model, SOFT_F_MEM_REPE);
}

static void
advance(struct mem *m)				/* L-MEM-5 */
{
	uint64_t rip = m->gprs[NVMM_X64_GPR_RIP] + m->insn.length;

	if (SOFT_FAULT(m->model, SOFT_F_MEM_RIP))
		return;
	if (!m->is_64bit && !SOFT_QUIRK(m->model, SOFT_Q_MEM_RIP_64))
		rip &= m->st->segs[NVMM_X64_SEG_CS].attrib.def ?
		    UINT32_MAX : UINT16_MAX;
	m->gprs[NVMM_X64_GPR_RIP] = rip;
}

static int
assist(struct mem *m)
{
	uint64_t count = m->gprs[NVMM_X64_GPR_RCX] &
	    soft_size_mask(m->insn.address_size);
	bool rep = repeats(m);

	if (!rep || count != 0 ||		/* L-REP-2 */
	    SOFT_FAULT(m->model, SOFT_F_MEM_REP_ZERO)) {
		if (execute(m) != 0 || m->failed)	/* L-MEM-4 */
			return SOFT_FAULT(m->model, SOFT_F_MEM_ERRNO) ?
			    EFAULT : ENODEV;
		if (rep && !count_down(m, count))
			return 0;
	}
	advance(m);
	return 0;
}

/* L-MEM-2: an exit without the instruction's bytes gets them. */
static int
fetch(struct mem *m)
{
	struct nvmm_x86_exit_memory *mem = &m->vcpu->exit->u.mem;
	bool all = SOFT_QUIRK(m->model, SOFT_Q_MEM_FETCH_15);
	size_t want = sizeof(mem->inst_bytes), step = want, n = 0;
	uint64_t rip = m->gprs[NVMM_X64_GPR_RIP];
	gvaddr_t gva;

	while (n < want) {
		if (soft_linear(m->model, m->st, NVMM_X64_SEG_CS, rip + n,
		    step, &gva) == 0 && soft_guest_read(m->mach, m->vcpu, gva,
		    &mem->inst_bytes[n], step) == 0)
			n += step;
		else if (step == 1 || all)
			break;
		else
			step = 1;	/* what there is of it */
	}
	if (n == 0)
		return EFAULT;
	mem->inst_len = (uint8_t)n;
	return 0;
}

int
nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct nvmm_x86_exit_memory *exit = &vcpu->exit->u.mem;
	struct mem m = { .mach = mach, .vcpu = vcpu };
	size_t length;
	bool done;
	int error;

	if (vcpu->exit->reason != NVMM_VCPU_EXIT_MEMORY)
		return soft_return(EINVAL);		/* L-MEM-1 */
	if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_GPRS |
	    NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS |
	    NVMM_X64_STATE_MSRS) == -1)
		return -1;
	m.model = soft_areas_model(mach);
	m.st = vcpu->state;
	m.is_64bit = m.st->segs[NVMM_X64_SEG_CS].attrib.l;
	memcpy(m.gprs, m.st->gprs, sizeof(m.gprs));
	if (exit->inst_len == 0 && (error = fetch(&m)) != 0)
		return soft_return(error);

	length = exit->inst_len;
	if (length > sizeof(exit->inst_bytes))
		length = sizeof(exit->inst_bytes);
	error = soft_decode(m.model, m.st, exit->inst_bytes, length, &m.insn);
	if (error != 0)
		((struct soft_page *)soft_comm(mach, vcpu))->undecodable_mem++;
	if (error != 0 || (error = assist(&m)) != 0)
		return soft_return(error);
	done = m.gprs[NVMM_X64_GPR_RIP] != m.st->gprs[NVMM_X64_GPR_RIP];
	memcpy(vcpu->state->gprs, m.gprs, sizeof(m.gprs));
	return soft_assist_commit(mach, vcpu, done);
}
