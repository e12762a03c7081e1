"""The sandbox's image, made on the spot: one static executable that only sleeps.

It blocks TERM, INT and CHLD, waits for one of them, reaps children on CHLD (a pod that shares its
process namespace has it as process 1), and exits on the others. Blocked signals reach even
process 1, to which the kernel gives no other signal it has no handler for.
"""

from __future__ import annotations

import struct

from meshkube import elf

IMAGE = "meshkube/pause:1"

# Signals 2 (INT), 15 (TERM) and 17 (CHLD), as the kernel's set of them.
_SIGNALS = struct.pack("<Q", 1 << 1 | 1 << 14 | 1 << 16)

# Machine code on the left, what it says on the right; the set of signals follows the code.
_X86_64 = """
b80e000000     | mov eax, 14           ; rt_sigprocmask(
31ff           | xor edi, edi          ;   SIG_BLOCK,
488d3552000000 | lea rsi, [signals]
31d2           | xor edx, edx
41ba08000000   | mov r10d, 8           ;   size of the set)
0f05           | syscall
b880000000     | wait: mov eax, 128    ; rt_sigtimedwait(
488d3d3c000000 | lea rdi, [signals]
31f6           | xor esi, esi
31d2           | xor edx, edx          ;   no time limit,
41ba08000000   | mov r10d, 8           ;   size of the set)
0f05           | syscall
85c0           | test eax, eax
78e4           | js wait               ; interrupted
83f811         | cmp eax, 17
751a           | jne exit              ; not a child's end
b83d000000     | reap: mov eax, 61     ; wait4(
83cfff         | or edi, -1            ;   any child,
31f6           | xor esi, esi
ba01000000     | mov edx, 1            ;   WNOHANG,
4531d2         | xor r10d, r10d
0f05           | syscall
85c0           | test eax, eax
7fe8           | jg reap
ebc5           | jmp wait
b8e7000000     | exit: mov eax, 231    ; exit_group(
31ff           | xor edi, edi          ;   0)
0f05           | syscall
0f1f4000       | nop
"""

_AARCH64 = """
000080d2 | mov x0, 0          ; rt_sigprocmask(SIG_BLOCK,
61030010 | adr x1, signals
020080d2 | mov x2, 0
030180d2 | mov x3, 8
e81080d2 | mov x8, 135
010000d4 | svc 0
c0020010 | wait: adr x0, signals
010080d2 | mov x1, 0          ; rt_sigtimedwait(signals, no time limit)
020080d2 | mov x2, 0
030180d2 | mov x3, 8
281180d2 | mov x8, 137
010000d4 | svc 0
1f000071 | cmp w0, 0
2bffff54 | b.lt wait          ; interrupted
1f440071 | cmp w0, 17
41010054 | b.ne exit          ; not a child's end
00008012 | reap: mov w0, -1   ; wait4(any child, WNOHANG)
010080d2 | mov x1, 0
220080d2 | mov x2, 1
030080d2 | mov x3, 0
882080d2 | mov x8, 260
010000d4 | svc 0
1f000071 | cmp w0, 0
2cffff54 | b.gt reap
eeffff17 | b wait
000080d2 | exit: mov x0, 0    ; exit_group(0)
c80b80d2 | mov x8, 94
010000d4 | svc 0
"""

_LISTINGS = {"x86_64": _X86_64, "aarch64": _AARCH64}


def executable(machine: str) -> bytes:
    """The ELF file for a machine, in the kernel's name for it or Docker's (`amd64`).
    Raises `ValueError` for one not known."""
    return elf.executable(machine, _LISTINGS, _SIGNALS)


def root_filesystem(machine: str) -> bytes:
    """A tar archive with `/pause` alone, the same bytes each time."""
    return elf.root_filesystem("pause", executable(machine))
