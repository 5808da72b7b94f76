# SPDX-License-Identifier: BSD-2-Clause
"""The constants of `<nvmm.h>` as enums (spec libnvmm section 2).

Every value comes from the header that the binding was compiled against.
Member names are the header's without the common prefix, which are the SDM's.
"""

from __future__ import annotations

import enum

from nvmmconf.abi._libnvmm import lib


class ExitReason(enum.IntEnum):
    """`nvmm_vcpu_exit.reason`: NVMM_VCPU_EXIT_*, section 2.1.  Shows as its name."""

    def __repr__(self) -> str:
        return self.name

    NONE = lib.NVMM_VCPU_EXIT_NONE
    MEMORY = lib.NVMM_VCPU_EXIT_MEMORY
    IO = lib.NVMM_VCPU_EXIT_IO
    SHUTDOWN = lib.NVMM_VCPU_EXIT_SHUTDOWN
    INT_READY = lib.NVMM_VCPU_EXIT_INT_READY
    NMI_READY = lib.NVMM_VCPU_EXIT_NMI_READY
    HALTED = lib.NVMM_VCPU_EXIT_HALTED
    TPR_CHANGED = lib.NVMM_VCPU_EXIT_TPR_CHANGED
    RDMSR = lib.NVMM_VCPU_EXIT_RDMSR
    WRMSR = lib.NVMM_VCPU_EXIT_WRMSR
    MONITOR = lib.NVMM_VCPU_EXIT_MONITOR
    MWAIT = lib.NVMM_VCPU_EXIT_MWAIT
    CPUID = lib.NVMM_VCPU_EXIT_CPUID
    STOPPED = lib.NVMM_VCPU_EXIT_STOPPED
    INVALID = lib.NVMM_VCPU_EXIT_INVALID


class EventType(enum.IntEnum):
    """`nvmm_vcpu_event.type`: NVMM_VCPU_EVENT_*."""

    EXCP = lib.NVMM_VCPU_EVENT_EXCP
    INTR = lib.NVMM_VCPU_EVENT_INTR


class StateFlag(enum.IntFlag):
    """Sub-sets of a vCPU's state: NVMM_X64_STATE_*, section 2.2."""

    SEGS = lib.NVMM_X64_STATE_SEGS
    GPRS = lib.NVMM_X64_STATE_GPRS
    CRS = lib.NVMM_X64_STATE_CRS
    DRS = lib.NVMM_X64_STATE_DRS
    MSRS = lib.NVMM_X64_STATE_MSRS
    INTR = lib.NVMM_X64_STATE_INTR
    FPU = lib.NVMM_X64_STATE_FPU
    ALL = lib.NVMM_X64_STATE_ALL


class Segment(enum.IntEnum):
    """Index into `state.segs`: NVMM_X64_SEG_*."""

    ES = lib.NVMM_X64_SEG_ES
    CS = lib.NVMM_X64_SEG_CS
    SS = lib.NVMM_X64_SEG_SS
    DS = lib.NVMM_X64_SEG_DS
    FS = lib.NVMM_X64_SEG_FS
    GS = lib.NVMM_X64_SEG_GS
    GDT = lib.NVMM_X64_SEG_GDT
    IDT = lib.NVMM_X64_SEG_IDT
    LDT = lib.NVMM_X64_SEG_LDT
    TR = lib.NVMM_X64_SEG_TR


class Gpr(enum.IntEnum):
    """Index into `state.gprs`: NVMM_X64_GPR_*."""

    RAX = lib.NVMM_X64_GPR_RAX
    RCX = lib.NVMM_X64_GPR_RCX
    RDX = lib.NVMM_X64_GPR_RDX
    RBX = lib.NVMM_X64_GPR_RBX
    RSP = lib.NVMM_X64_GPR_RSP
    RBP = lib.NVMM_X64_GPR_RBP
    RSI = lib.NVMM_X64_GPR_RSI
    RDI = lib.NVMM_X64_GPR_RDI
    R8 = lib.NVMM_X64_GPR_R8
    R9 = lib.NVMM_X64_GPR_R9
    R10 = lib.NVMM_X64_GPR_R10
    R11 = lib.NVMM_X64_GPR_R11
    R12 = lib.NVMM_X64_GPR_R12
    R13 = lib.NVMM_X64_GPR_R13
    R14 = lib.NVMM_X64_GPR_R14
    R15 = lib.NVMM_X64_GPR_R15
    RIP = lib.NVMM_X64_GPR_RIP
    RFLAGS = lib.NVMM_X64_GPR_RFLAGS


class Cr(enum.IntEnum):
    """Index into `state.crs`: NVMM_X64_CR_*."""

    CR0 = lib.NVMM_X64_CR_CR0
    CR2 = lib.NVMM_X64_CR_CR2
    CR3 = lib.NVMM_X64_CR_CR3
    CR4 = lib.NVMM_X64_CR_CR4
    CR8 = lib.NVMM_X64_CR_CR8
    XCR0 = lib.NVMM_X64_CR_XCR0


class Dr(enum.IntEnum):
    """Index into `state.drs`: NVMM_X64_DR_*."""

    DR0 = lib.NVMM_X64_DR_DR0
    DR1 = lib.NVMM_X64_DR_DR1
    DR2 = lib.NVMM_X64_DR_DR2
    DR3 = lib.NVMM_X64_DR_DR3
    DR6 = lib.NVMM_X64_DR_DR6
    DR7 = lib.NVMM_X64_DR_DR7


class Msr(enum.IntEnum):
    """Index into `state.msrs`: NVMM_X64_MSR_*."""

    EFER = lib.NVMM_X64_MSR_EFER
    STAR = lib.NVMM_X64_MSR_STAR
    LSTAR = lib.NVMM_X64_MSR_LSTAR
    CSTAR = lib.NVMM_X64_MSR_CSTAR
    SFMASK = lib.NVMM_X64_MSR_SFMASK
    KERNELGSBASE = lib.NVMM_X64_MSR_KERNELGSBASE
    SYSENTER_CS = lib.NVMM_X64_MSR_SYSENTER_CS
    SYSENTER_ESP = lib.NVMM_X64_MSR_SYSENTER_ESP
    SYSENTER_EIP = lib.NVMM_X64_MSR_SYSENTER_EIP
    PAT = lib.NVMM_X64_MSR_PAT
    TSC = lib.NVMM_X64_MSR_TSC


class Prot(enum.IntFlag):
    """Rights of a guest-physical area or a page: NVMM_PROT_*.

    `nvmm_gpa_map` takes PROT_READ/WRITE/EXEC of `<sys/mman.h>`, which have the
    same values (L-GPA-5).
    """

    READ = lib.NVMM_PROT_READ
    WRITE = lib.NVMM_PROT_WRITE
    EXEC = lib.NVMM_PROT_EXEC
    USER = lib.NVMM_PROT_USER


class VcpuConf(enum.IntEnum):
    """`op` of nvmm_vcpu_configure: NVMM_VCPU_CONF_*."""

    CALLBACKS = lib.NVMM_VCPU_CONF_CALLBACKS
    CPUID = lib.NVMM_VCPU_CONF_CPUID
    TPR = lib.NVMM_VCPU_CONF_TPR


class VcpuConfSupport(enum.IntFlag):
    """Bits of `capability.arch.vcpu_conf_support`: NVMM_CAP_ARCH_VCPU_CONF_*."""

    CPUID = lib.NVMM_CAP_ARCH_VCPU_CONF_CPUID
    TPR = lib.NVMM_CAP_ARCH_VCPU_CONF_TPR
