/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Host memory behind guest operands: loads, stores and locked updates
 * (SDM 3A, 9.1).
 *
 * Other processors run in other threads.  An access that does not cross an
 * aligned unit of its size is one access of the host's (SDM 3A 9.1.1); acquire
 * and release give the order that the guest may count on (SDM 3A 9.2.2).
 */
#include <string.h>

#include "internal.h"

__extension__ typedef unsigned __int128 u128;

/* Resolves an operand completely before any of it is touched. */
void
span_of(struct exec *x, uint64_t linear, unsigned len, enum access how,
    enum rank rank, struct span *s)
{
	uint32_t right = how == ACCESS_WRITE ? CPU_ACCESS_WRITE : CPU_ACCESS_READ;
	unsigned room = 0x1000 - (linear & 0xFFF);

	s->len[0] = len < room ? len : room;
	s->len[1] = len - s->len[0];
	s->part[1] = NULL;
	s->part[0] = physical(x, translate(x, linear, how, rank), right);
	if (s->len[1] != 0) {
		uint64_t next = linear + room;

		/* 32-bit addresses wrap; a system table may be above them. */
		if (!mode64(x->cpu) && linear <= UINT32_MAX)
			next = (uint32_t)next;
		s->part[1] = physical(x, translate(x, next, how, rank), right);
	}
}

/* The host's unit that an access is, or NULL. */
static uint8_t *
unit(const struct span *s, unsigned at, unsigned len)
{
	uint8_t *host = s->part[0] + at;

	if (at + len > s->len[0] || ((uintptr_t)host & (len - 1)) != 0)
		return NULL;
	return len == 1 || len == 2 || len == 4 || len == 8 ? host : NULL;
}

static uint64_t
unit_load(const uint8_t *host, unsigned len)
{
	switch (len) {
	case 1: return __atomic_load_n(host, __ATOMIC_ACQUIRE);
	case 2: return __atomic_load_n((const uint16_t *)(const void *)host, __ATOMIC_ACQUIRE);
	case 4: return __atomic_load_n((const uint32_t *)(const void *)host, __ATOMIC_ACQUIRE);
	default: return __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_ACQUIRE);
	}
}

static void
unit_store(uint8_t *host, unsigned len, uint64_t value)
{
	switch (len) {
	case 1:
		__atomic_store_n(host, (uint8_t)value, __ATOMIC_RELEASE);
		break;
	case 2:
		__atomic_store_n((uint16_t *)(void *)host, (uint16_t)value, __ATOMIC_RELEASE);
		break;
	case 4:
		__atomic_store_n((uint32_t *)(void *)host, (uint32_t)value, __ATOMIC_RELEASE);
		break;
	default:
		__atomic_store_n((uint64_t *)(void *)host, value, __ATOMIC_RELEASE);
		break;
	}
}

static uint8_t *
byte_of(const struct span *s, unsigned at)
{
	return at < s->len[0] ? s->part[0] + at : s->part[1] + (at - s->len[0]);
}

uint64_t
span_load(const struct span *s, unsigned at, unsigned len)
{
	const uint8_t *host = unit(s, at, len);
	uint64_t value = 0;
	unsigned i;

	if (host != NULL)
		return unit_load(host, len);
	for (i = 0; i < len; i++)
		value |= unit_load(byte_of(s, at + i), 1) << (8 * i);
	return value;
}

void
span_store(const struct span *s, unsigned at, unsigned len, uint64_t value)
{
	uint8_t *host = unit(s, at, len);
	unsigned i;

	if (host != NULL) {
		unit_store(host, len, value);
		return;
	}
	for (i = 0; i < len; i++)
		unit_store(byte_of(s, at + i), 1, value >> (8 * i));
}

/* --- locked updates --- */

static bool
unit_exchange(uint8_t *host, unsigned len, uint64_t old, uint64_t value)
{
	uint16_t old16 = (uint16_t)old;
	uint32_t old32 = (uint32_t)old;
	uint8_t old8 = (uint8_t)old;

	switch (len) {
	case 1:
		return __atomic_compare_exchange_n(host, &old8, (uint8_t)value, false,
		    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	case 2:
		return __atomic_compare_exchange_n((uint16_t *)(void *)host, &old16,
		    (uint16_t)value, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	case 4:
		return __atomic_compare_exchange_n((uint32_t *)(void *)host, &old32,
		    (uint32_t)value, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	default:
		return __atomic_compare_exchange_n((uint64_t *)(void *)host, &old, value,
		    false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	}
}

/*
 * A locked write is made if memory is still as it was read; if another
 * processor has been there, the instruction starts again.  An operand across
 * two units is written unit by unit under a bus lock, which keeps other split
 * locks out but not a whole one: software is told to avoid split locks.
 */
static bool bus_locked;

static bool
split_exchange(const struct span *s, unsigned len, uint64_t old, uint64_t value)
{
	bool same;

	while (__atomic_test_and_set(&bus_locked, __ATOMIC_ACQUIRE))
		continue;
	same = span_load(s, 0, len) == old;
	if (same)
		span_store(s, 0, len, value);
	__atomic_clear(&bus_locked, __ATOMIC_RELEASE);
	return same;
}

bool
span_exchange(const struct span *s, unsigned len, uint64_t old, uint64_t value)
{
	uint8_t *host = unit(s, 0, len);

	old &= mask_of(len);
	value &= mask_of(len);
	if (host != NULL)
		return unit_exchange(host, len, old, value);
	return split_exchange(s, len, old, value);
}

/* CMPXCHG16B: sixteen aligned bytes, hence in one page. */
#ifdef __x86_64__
__attribute__((target("cx16"))) bool
span_exchange16(const struct span *s, const uint64_t old[2], const uint64_t value[2])
{
	u128 *host = (u128 *)(void *)s->part[0];
	u128 from = (u128)old[1] << 64 | old[0], to = (u128)value[1] << 64 | value[0];

	return __sync_bool_compare_and_swap(host, from, to);
}
#else
bool
span_exchange16(const struct span *s, const uint64_t old[2], const uint64_t value[2])
{
	bool same;

	while (__atomic_test_and_set(&bus_locked, __ATOMIC_ACQUIRE))
		continue;
	same = span_load(s, 0, 8) == old[0] && span_load(s, 8, 8) == old[1];
	if (same) {
		span_store(s, 0, 8, value[0]);
		span_store(s, 8, 8, value[1]);
	}
	__atomic_clear(&bus_locked, __ATOMIC_RELEASE);
	return same;
}
#endif

/* --- system structures --- */

/* Descriptor tables and task-state segments: no CPL, no segment. */
void
system_span(struct exec *x, uint64_t linear, unsigned len, enum access how, struct span *s)
{
	if (!long_mode(x->cpu))
		linear = (uint32_t)linear;
	span_of(x, linear, len, how, RANK_SYSTEM, s);
}

uint64_t
read_system(struct exec *x, uint64_t linear, unsigned len)
{
	struct span s;

	system_span(x, linear, len, ACCESS_READ, &s);
	return span_load(&s, 0, len);
}

/* Sets and clears bits of one byte: accessed, busy (locked, SDM 3A 9.1.2.1). */
void
update_system(struct exec *x, uint64_t linear, uint8_t clear, uint8_t set)
{
	struct span s;
	uint64_t old;

	system_span(x, linear, 1, ACCESS_WRITE, &s);
	do
		old = span_load(&s, 0, 1);
	while (!span_exchange(&s, 1, old, (old & (uint8_t)~clear) | set));
}
