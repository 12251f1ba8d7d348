#!/usr/bin/env python3
"""Whether the instructions that the kernels execute depend on secrets: python3 tests/same_path.py target/release/examples/same_path

Steps through a tile of a gate of each protocol and of programs with every other operation, instruction by instruction (ptrace).
It does so under several secrets and the same public values. It compares the addresses of all instructions executed: no branch,
no call and no number of rounds may differ. For each operation it says how many instructions were executed. Where they differ, it says from
where on. Exit status 0 if nothing differs, 1 if something does: SECURITY.md says what may. Linux on x86-64, as the user of the
program or root; a few minutes. What is read and written is not compared.
"""

import array
import ctypes
import hashlib
import os
import signal
import subprocess
import sys

PROGRAMS = ["sigma", "suf-lut", "suf", "onehot", "dpf", "products", "softmax"]
OPERATIONS = ["deal", "evaluate P0", "mask P0", "evaluate P1", "mask P1"]
SECRETS = ["1", "2", "3"]
TRACEME, PEEKTEXT, SYSCALL, SINGLESTEP, GETREGS, SETOPTIONS = 0, 1, 24, 9, 12, 0x4200
EXITKILL, SYSGOOD = 0x100000, 1
NO_RANDOMIZE = 0x0040000
GETPPID = 110
SYSCALL_INSTRUCTION = 0x050F

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
# r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip ...
Registers = ctypes.c_ulonglong * 27
RAX, RIP = 10, 16


def traced():
    libc.personality(NO_RANDOMIZE)
    libc.ptrace(TRACEME, 0, None, None)


def paths(program, protocol, secrets):
    """The addresses executed, operation by operation, and where the program was loaded."""
    process = subprocess.Popen([program, protocol, secrets], preexec_fn=traced, env={}, stdout=subprocess.DEVNULL)
    pid, registers, found, path = process.pid, Registers(), [], None
    place = ctypes.byref(registers)
    os.waitpid(pid, 0)
    libc.ptrace(SETOPTIONS, pid, None, EXITKILL | SYSGOOD)
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        base = int(next(line for line in maps if program.split("/")[-1] in line).split("-")[0], 16)
    step, entering = SYSCALL, True
    while True:
        libc.ptrace(step, pid, None, None)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            process.returncode = status
            assert status == 0 and len(found) == len(OPERATIONS), f"{program} {protocol}: it ended with {status}"
            return found, base
        if os.WSTOPSIG(status) & 0x7F != signal.SIGTRAP:
            # Stopped by somebody else: nothing was executed, and the signal is not passed on.
            continue
        libc.ptrace(GETREGS, pid, None, place)
        if path is None:
            # Before the first mark: from call to call of the system.
            if entering and registers[15] == GETPPID:
                path, step = array.array("Q"), SINGLESTEP
            entering = not entering
            continue
        at = registers[RIP]
        path.append(at)
        if registers[RAX] == GETPPID and libc.ptrace(PEEKTEXT, pid, at, None) & 0xFFFF == SYSCALL_INSTRUCTION:
            found.append(path)
            path = array.array("Q")
            if len(found) == len(OPERATIONS):
                step, path, entering = SYSCALL, None, True


def name(program, base, address):
    """The function that `address` is in, as nm knows it."""
    listed = subprocess.run(["nm", "-C", "--defined-only", "-n", program], capture_output=True, text=True, check=True).stdout
    best = "outside the program"
    for line in listed.splitlines():
        at, _, symbol = line.partition(" ")
        if int(at, 16) <= address - base:
            best = symbol[2:]
    return f"{address - base:#x} in {best}"


def main():
    program, differ = os.path.abspath(sys.argv[1]), 0
    for protocol in sys.argv[2:] or PROGRAMS:
        first, base = paths(program, protocol, SECRETS[0])
        others = [paths(program, protocol, secrets)[0] for secrets in SECRETS[1:]]
        for number, operation in enumerate(OPERATIONS):
            path = first[number]
            unlike = next((other[number] for other in others if other[number] != path), None)
            hashed = hashlib.sha256(path.tobytes()).hexdigest()[:8]
            verdict = "the same for all" if unlike is None else "DIFFERENT"
            print(f"{protocol:8} {operation:12} {len(path):>10} instructions, {verdict} of {len(SECRETS)} secrets, {hashed}", flush=True)
            if unlike is not None:
                differ += 1
                at = next((i for i, pair in enumerate(zip(path, unlike)) if pair[0] != pair[1]), min(len(path), len(unlike)))
                print(f"    from instruction {at} on, after {name(program, base, path[at - 1])}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
