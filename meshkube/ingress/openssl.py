"""Two calls of OpenSSL that Python's ssl does not offer, made on its contexts.

Where this is not CPython with OpenSSL as a shared library, nothing here works and everything says
so: each function returns whether it did what was asked. Sources: SSL_CTX_set_verify_depth(3) and
SSL_CTX_set_tlsext_ticket_key_cb(3).
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from functools import cache
from typing import Any

KEYS = 80
"""Bytes of what encrypts session tickets: a name (16), a key to sign and one to encrypt with."""
_SET_TICKET_KEYS = 59
_ODD = 23


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> bool:
    """Session tickets of this context are encrypted with `keys` (of length `KEYS`) from now on;
    those made with others do not resume a session any more."""
    library = _library()
    if library is None or len(keys) != KEYS:
        return False
    pointer = _pointer(context)
    return bool(library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, KEYS, keys) == 1)


def set_verify_depth(context: ssl.SSLContext, depth: int) -> bool:
    """Chains of the peer may hold so many authorities between its certificate and ours."""
    library = _library()
    if library is None:
        return False
    library.SSL_CTX_set_verify_depth(_pointer(context), depth)
    return True


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    # The first member after the object's header, in each CPython from 3.6 on.
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


@cache
def _library() -> Any:
    """OpenSSL as the ssl module uses it, or None."""
    if sys.implementation.name != "cpython":
        return None
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_get_num_tickets.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_get_num_tickets.restype = ctypes.c_size_t
        library.SSL_CTX_set_verify_depth.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.SSL_CTX_set_verify_depth.restype = None
        library.SSL_CTX_ctrl.argtypes = [
            ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p,
        ]  # fmt: skip
        library.SSL_CTX_ctrl.restype = ctypes.c_long
    except (ImportError, AttributeError, OSError):
        return None
    return library if _understood(library) else None


def _understood(library: Any) -> bool:
    """Whether a context really is where it is looked for: both ways to ask must agree."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = _ODD
    address = _pointer(context).value
    return bool(address) and bool(library.SSL_CTX_get_num_tickets(address) == _ODD)
