"""What runs in the gateway's container: it makes the system calls that the daemon asks for, in a
network where the daemon has no rights.

It connects to the daemon's socket and says where its memory is. Each question is the number of a
system call, four arguments and the bytes these point to; each answer the result, and the number of
its own socket. It ends with the daemon. The daemon's side is `gateway_calls`.
"""

from __future__ import annotations

import struct

from meshkube import elf

DIRECTORY = "/gateway"
"""Where the container has the directory of the daemon's socket."""
SOCKET = "calls"
_EXECUTABLE = "gateway-calls"
ENTRYPOINT = f"/{_EXECUTABLE}"

_PLACE = struct.pack("<H", 1) + f"{DIRECTORY}/{SOCKET}\0".encode()

# Machine code on the left, what it says on the right; the place follows the code.
_X86_64 = """
4881ec00100000 | sub rsp, 4096
b829000000     | mov eax, 41           ; socket(
bf01000000     | mov edi, 1            ;   AF_UNIX,
be05000000     | mov esi, 5            ;   SOCK_SEQPACKET,
31d2           | xor edx, edx          ;   0)
0f05           | syscall
4889c5         | mov rbp, rax
b82a000000     | mov eax, 42           ; connect(
4889ef         | mov rdi, rbp
488d356e000000 | lea rsi, [place]
ba11000000     | mov edx, 17           ;   size of the place)
0f05           | syscall
85c0           | test eax, eax
755a           | jnz exit
48892424       | mov [rsp], rsp        ; the first answer: where questions are put
48896c2408     | answer: mov [rsp+8], rbp
b82c000000     | mov eax, 44           ; sendto(
4889ef         | mov rdi, rbp
4889e6         | mov rsi, rsp
ba10000000     | mov edx, 16           ;   result and socket,
4531d2         | xor r10d, r10d        ;   nothing more)
4531c0         | xor r8d, r8d
4531c9         | xor r9d, r9d
0f05           | syscall
b82d000000     | mov eax, 45           ; recvfrom(
4889ef         | mov rdi, rbp
4889e6         | mov rsi, rsp
ba00100000     | mov edx, 4096         ;   a question)
0f05           | syscall
85c0           | test eax, eax
7e20           | jle exit              ; the daemon has ended
488b0424       | mov rax, [rsp]        ; the number of a system call
488b7c2408     | mov rdi, [rsp+8]      ; and what it takes
488b742410     | mov rsi, [rsp+16]
488b542418     | mov rdx, [rsp+24]
4c8b542420     | mov r10, [rsp+32]
0f05           | syscall
48890424       | mov [rsp], rax
ebaa           | jmp answer
b8e7000000     | exit: mov eax, 231    ; exit_group(
31ff           | xor edi, edi          ;   0)
0f05           | syscall
"""

_AARCH64 = """
ff0740d1 | sub sp, sp, 4096
200080d2 | mov x0, 1          ; socket(AF_UNIX,
a10080d2 | mov x1, 5          ;   SOCK_SEQPACKET,
020080d2 | mov x2, 0          ;   0)
c81880d2 | mov x8, 198
010000d4 | svc 0
f30300aa | mov x19, x0
c1030010 | adr x1, place      ; connect(the socket, place,
220280d2 | mov x2, 17         ;   its size)
681980d2 | mov x8, 203
010000d4 | svc 0
e00200b5 | cbnz x0, exit
e0030091 | mov x0, sp         ; the first answer: where questions are put
e04f00a9 | answer: stp x0, x19, [sp]
e00313aa | mov x0, x19        ; sendto(the socket,
e1030091 | mov x1, sp
020280d2 | mov x2, 16         ;   result and socket,
030080d2 | mov x3, 0          ;   nothing more)
040080d2 | mov x4, 0
050080d2 | mov x5, 0
c81980d2 | mov x8, 206
010000d4 | svc 0
e00313aa | mov x0, x19        ; recvfrom(the socket,
e1030091 | mov x1, sp
020082d2 | mov x2, 4096       ;   a question)
e81980d2 | mov x8, 207
010000d4 | svc 0
1f0000f1 | cmp x0, 0
cd000054 | b.le exit          ; the daemon has ended
e80340f9 | ldr x8, [sp]       ; the number of a system call
e08740a9 | ldp x0, x1, [sp, 8]  ; and what it takes
e28f41a9 | ldp x2, x3, [sp, 24]
010000d4 | svc 0
ecffff17 | b answer
000080d2 | exit: mov x0, 0    ; exit_group(0)
c80b80d2 | mov x8, 94
010000d4 | svc 0
"""

_LISTINGS = {"x86_64": _X86_64, "aarch64": _AARCH64}


def executable(machine: str) -> bytes:
    """Raises `ValueError` for a machine not known."""
    return elf.executable(machine, _LISTINGS, _PLACE)


def root_filesystem(machine: str) -> bytes:
    """A tar archive with the executable alone."""
    return elf.root_filesystem(_EXECUTABLE, executable(machine))
