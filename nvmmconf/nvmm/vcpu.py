# SPDX-License-Identifier: BSD-2-Clause
"""A virtual CPU: the calls of libnvmm that take one, and the assist callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvmmconf.abi import EventType, Prot, Segment, StateFlag, VcpuConf, ffi, lib
from nvmmconf.nvmm.errors import NvmmError, check
from nvmmconf.nvmm.exits import Exit, decode_exit
from nvmmconf.nvmm.state import VcpuState

if TYPE_CHECKING:
    from nvmmconf.nvmm.machine import Machine


@dataclass(frozen=True, slots=True)
class IoAccess:
    """One call of the I/O callback: `struct nvmm_io` (L-IO-3).

    `data` is `size` bytes: to be written to the port, or (`is_in`) to be
    filled, all of it.
    """

    port: int
    is_in: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class MemAccess:
    """One call of the memory callback: `struct nvmm_mem` (L-GM-4).

    `data` is 1 to 32 bytes, not only powers of two: to be written at `gpa`, or
    (not `is_write`) to be filled, all of it.
    """

    gpa: int
    is_write: bool
    data: memoryview


@dataclass(frozen=True)
class CpuidMask:
    """Bits of one CPUID leaf to set and to clear; registers EAX, EBX, ECX, EDX."""

    leaf: int
    set_bits: tuple[int, int, int, int] = (0, 0, 0, 0)
    clear_bits: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class SoftDiagnostic:
    """What a libnvmm in software could not execute for this vCPU (softnvmm.h)."""

    unimplemented: int
    """Instructions that the guest got #UD for because the interpreter lacks them."""
    last_bytes: bytes
    """The last of them."""
    undecodable_mem: int
    """Memory exits that the memory assist refused for the same reason."""


IoCallback = Callable[[IoAccess], None]
MemCallback = Callable[[MemAccess], None]

# The callbacks are static C functions (extern "Python": no closures, which
# NetBSD's W^X forbids), so the vCPU is found again by its record's address.
_by_address: dict[int, Vcpu] = {}


class _Assisting(threading.local):
    """The vCPU whose assist this thread is in."""

    vcpu: Vcpu


_assisting = _Assisting()


class VcpuGoneError(Exception):
    """A vCPU was used after it was destroyed."""


class Vcpu:
    """`struct nvmm_vcpu`, created by the constructor (nvmm_vcpu_create).

    Made by `Machine.create_vcpu`.  One thread a vCPU (L-ST-8); `stop` may be
    called from any thread and from a signal handler.
    """

    def __init__(self, machine: Machine, cpuid: int) -> None:
        self._machine = machine
        self._table = machine.library.table
        self._mach = machine.raw
        self._box = ffi.new("struct vcpu_box *")
        self._raw = ffi.addressof(self._box.vcpu)
        self.cpuid = cpuid
        self.io_callback: IoCallback | None = None
        self.mem_callback: MemCallback | None = None
        self._callback_error: BaseException | None = None
        check(
            lib.call_vcpu_create(self._table, self._mach, cpuid, self._raw),
            "nvmm_vcpu_create",
            machid=machine.machid,
            cpuid=cpuid,
        )
        self._alive = True
        self._gpr_view = ffi.buffer(ffi.addressof(self._raw.state, "gprs"))
        self._state_view = ffi.buffer(self._raw.state)
        self._address = int(ffi.cast("uintptr_t", self._raw))
        _by_address[self._address] = self

    @property
    def raw(self) -> Any:
        """The `struct nvmm_vcpu *`."""
        return self._raw

    @property
    def has_stop(self) -> bool:
        """True where `stop` works: this vCPU has a stop word (version 2, L-VER-2)."""
        return bool(lib.vcpu_has_stop(self._table, self._box))

    @property
    def state(self) -> VcpuState:
        """The state in the comm page; see `getstate` and `setstate`.

        Raises VcpuGoneError after `destroy`, when that page is gone (L-VCPU-4).
        """
        state: VcpuState = self._record().state
        return state

    def gpr_bytes(self) -> bytes:
        """The general registers in the comm page, `Gpr`'s order, 8 bytes each."""
        return bytes(self._gpr_view)

    def state_bytes(self) -> bytes:
        """The whole state in the comm page."""
        return bytes(self._state_view)

    def put_state_bytes(self, image: bytes) -> None:
        """Replace the whole state in the comm page; see `setstate`."""
        if len(image) != len(self._state_view):
            raise ValueError(f"{len(image)} bytes are no vCPU state")
        self._state_view[:] = image

    def _record(self) -> Any:
        """The `struct nvmm_vcpu *`, while its pointers lead anywhere."""
        if not self._alive:
            raise VcpuGoneError(
                f"vCPU {self.cpuid} of machine {self._machine.machid} was destroyed"
            )
        return self._raw

    def _check(self, result: int, call: str, **arguments: int | str) -> None:
        check(result, call, machid=self._machine.machid, cpuid=self.cpuid, **arguments)

    def destroy(self) -> None:
        """nvmm_vcpu_destroy; `state` and the last exit are gone after it.  Idempotent."""
        if not self._alive:
            return
        self._alive = False
        _by_address.pop(self._address, None)
        self._machine.forget_vcpu(self.cpuid)
        self._check(lib.call_vcpu_destroy(self._table, self._mach, self._raw), "nvmm_vcpu_destroy")

    # ---- configuration ----

    def configure_callbacks(self, io: IoCallback, mem: MemCallback) -> None:
        """NVMM_VCPU_CONF_CALLBACKS: what the two assists call (L-VCPU-5)."""
        self.io_callback = io
        self.mem_callback = mem
        callbacks = ffi.new(
            "struct nvmm_assist_callbacks *", {"io": lib.io_callback, "mem": lib.mem_callback}
        )
        self._check(
            lib.call_vcpu_configure(
                self._table, self._mach, self._record(), VcpuConf.CALLBACKS, callbacks
            ),
            "nvmm_vcpu_configure",
            op=VcpuConf.CALLBACKS.name,
        )

    def configure_cpuid(self, mask: CpuidMask) -> None:
        """NVMM_VCPU_CONF_CPUID with a mask: EINVAL, ENOBUFS as L-VCPU-7 says."""
        conf = ffi.new("struct nvmm_vcpu_conf_cpuid *")
        conf.mask = 1
        conf.leaf = mask.leaf
        for index, register in enumerate(("eax", "ebx", "ecx", "edx")):
            setattr(conf.u.mask.set, register, mask.set_bits[index])
            setattr(getattr(conf.u.mask, "del"), register, mask.clear_bits[index])
        self._configure(VcpuConf.CPUID, conf, leaf=mask.leaf)

    def configure_cpuid_exit(self, leaf: int) -> None:
        """NVMM_VCPU_CONF_CPUID with an exit: CPUID of `leaf` becomes an exit."""
        conf = ffi.new("struct nvmm_vcpu_conf_cpuid *")
        conf.exit = 1
        conf.leaf = leaf
        self._configure(VcpuConf.CPUID, conf, leaf=leaf)

    def configure_tpr(self, *, exit_changed: bool) -> None:
        """NVMM_VCPU_CONF_TPR: an exit when the guest writes CR8; EINVAL without support."""
        conf = ffi.new("struct nvmm_vcpu_conf_tpr *")
        conf.exit_changed = exit_changed
        self._configure(VcpuConf.TPR, conf, exit_changed=int(exit_changed))

    def configure(self, op: int, record: bytes | None) -> None:
        """nvmm_vcpu_configure of any number and any structure, None for a NULL pointer.

        For what the others cannot ask for: EINVAL where NVMM does not take it (K-CONF-1),
        EFAULT for a pointer that leads nowhere (K-CONF-10).
        """
        conf = ffi.NULL if record is None else ffi.from_buffer(bytearray(record))
        self._check(
            lib.call_vcpu_configure(self._table, self._mach, self._record(), op, conf),
            "nvmm_vcpu_configure",
            op=op,
        )

    def _configure(self, op: VcpuConf, conf: Any, **arguments: int | str) -> None:
        self._check(
            lib.call_vcpu_configure(self._table, self._mach, self._record(), op, conf),
            "nvmm_vcpu_configure",
            op=op.name,
            **arguments,
        )

    # ---- state, events, running ----

    def getstate(self, flags: StateFlag) -> None:
        """nvmm_vcpu_getstate: make these parts of `state` current (L-ST-2, L-ST-3)."""
        self._check(
            lib.call_vcpu_getstate(self._table, self._mach, self._record(), int(flags)),
            "nvmm_vcpu_getstate",
            flags=repr(flags),
        )

    def setstate(self, flags: StateFlag) -> None:
        """nvmm_vcpu_setstate: have the next run load these parts of `state` (L-ST-1)."""
        self._check(
            lib.call_vcpu_setstate(self._table, self._mach, self._record(), int(flags)),
            "nvmm_vcpu_setstate",
            flags=repr(flags),
        )

    def put_event(self, kind: EventType | int, vector: int, error: int = 0) -> None:
        """Write `vcpu->event`, which is what an inject made before or after is about (L-EVT-1)."""
        event = self._record().event
        event.type = kind
        event.vector = vector
        event.u.excp.error = error

    def inject(self, kind: EventType | int, vector: int, error: int = 0) -> None:
        """nvmm_vcpu_inject: an event for the next run, which validates it (L-EVT-1, L-EVT-3)."""
        self.put_event(kind, vector, error)
        self._check(
            lib.call_vcpu_inject(self._table, self._mach, self._record()),
            "nvmm_vcpu_inject",
            type=kind.name if isinstance(kind, EventType) else kind,
            vector=vector,
        )

    def run(self) -> Exit:
        """nvmm_vcpu_run: enter the guest and return its exit.

        The GIL is released meanwhile.  Raises NvmmError (EINVAL for a bad event,
        L-EVT-3; ENOENT where another thread destroyed it).
        """
        self._check(lib.call_vcpu_run(self._table, self._mach, self._record()), "nvmm_vcpu_run")
        return decode_exit(self._raw.exit)

    @property
    def last_exit(self) -> Exit:
        """The exit structure as it is: a run that fails leaves the one before (L-ST-7)."""
        return decode_exit(self._record().exit)

    def stop(self) -> None:
        """nvmm_vcpu_stop: make this or the next run return (version 2, L-STOP-1)."""
        self._check(lib.call_vcpu_stop(self._table, self._record()), "nvmm_vcpu_stop")

    # ---- assists ----

    def put_io_segment(self, segment: Segment | None) -> None:
        """Write the segment of the IO exit just returned; None is what a processor without
        decode assists tells (L-IO-8)."""
        self._record().exit.u.io.seg = -1 if segment is None else segment

    def assist_io(self) -> None:
        """nvmm_assist_io: carry out the IO exit just returned (L-IO-1 ff.).

        Raises NvmmError (EINVAL, EFAULT), or whatever the callback raised.
        """
        self._assist(lib.call_assist_io, "nvmm_assist_io")

    def assist_mem(self) -> None:
        """nvmm_assist_mem: carry out the MEMORY exit just returned (L-MEM-1 ff.).

        Raises NvmmError (EINVAL, EFAULT, ENODEV), or whatever the callback raised.
        """
        self._assist(lib.call_assist_mem, "nvmm_assist_mem")

    def _assist(self, function: Callable[..., int], call: str) -> None:
        _assisting.vcpu = self
        result = function(self._table, self._mach, self._record())
        number = ffi.errno
        error, self._callback_error = self._callback_error, None
        if error is not None:
            raise error
        if result != 0:
            raise NvmmError(call, number, machid=self._machine.machid, cpuid=self.cpuid)

    def callback_failed(self, error: BaseException) -> None:
        """Keep what a callback raised until the assist returns; C cannot pass it on."""
        self._callback_error = error

    def gva_to_gpa(self, gva: int) -> tuple[int, Prot]:
        """nvmm_gva_to_gpa: walk the guest's page tables; EFAULT on a miss (L-WALK-1 ff.)."""
        gpa = ffi.new("gpaddr_t *")
        prot = ffi.new("nvmm_prot_t *")
        self._check(
            lib.call_gva_to_gpa(self._table, self._mach, self._record(), gva, gpa, prot),
            "nvmm_gva_to_gpa",
            gva=gva,
        )
        return int(gpa[0]), Prot(prot[0])

    def dump(self) -> None:
        """nvmm_vcpu_dump: print the state on the process's standard output."""
        self._check(lib.call_vcpu_dump(self._table, self._mach, self._record()), "nvmm_vcpu_dump")

    def soft_diagnostic(self) -> SoftDiagnostic | None:
        """What a libnvmm in software could not execute; None where the library is none."""
        raw = ffi.new("struct soft_diagnostic *")
        if lib.call_soft_diagnostic(self._table, self._mach, self._record(), raw) != 0:
            return None
        return SoftDiagnostic(
            raw.unimplemented, bytes(ffi.buffer(raw.bytes))[: raw.len], raw.undecodable_mem
        )


def _on_io(io: Any) -> None:
    def access(vcpu: Vcpu) -> None:
        assert vcpu.io_callback is not None, "the I/O callback is not configured"
        vcpu.io_callback(IoAccess(io.port, bool(getattr(io, "in")), _bytes_of(io)))

    _dispatch(io, access)


def _on_mem(mem: Any) -> None:
    def access(vcpu: Vcpu) -> None:
        assert vcpu.mem_callback is not None, "the memory callback is not configured"
        vcpu.mem_callback(MemAccess(mem.gpa, bool(mem.write), _bytes_of(mem)))

    _dispatch(mem, access)


def _bytes_of(record: Any) -> memoryview:
    return memoryview(ffi.buffer(record.data, record.size)).cast("B")


def _dispatch(record: Any, access: Callable[[Vcpu], None]) -> None:
    try:
        access(_by_address[int(ffi.cast("uintptr_t", record.vcpu))])
    except BaseException as error:  # C cannot pass it on; the assist raises it again
        _assisting.vcpu.callback_failed(error)


ffi.def_extern(name="io_callback")(_on_io)
ffi.def_extern(name="mem_callback")(_on_mem)
