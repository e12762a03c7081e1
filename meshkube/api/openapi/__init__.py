"""The API described for clients: OpenAPI v2 and v3, as an API server publishes it.

`kubectl` reads v3 to explain fields, to see that the server checks unknown fields itself, and for
the merge keys of `apply` and `diff`; where v3 does not help it reads v2, and that only in the
protobuf form of the `gnostic` project. So the documents are

    GET /openapi/v2                     v2_document(); v2_protobuf() if PROTOBUF_ASKED is accepted
    GET /openapi/v3                     v3_index()
    GET /openapi/v3/api/v1              v3_document("api/v1")
    GET /openapi/v3/apis/apps/v1        v3_document("apis/apps/v1")

Each is built on first use, a definition at a time, and kept only compressed. `gzipped(...)` gives
a document as it is kept, for clients that accept gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

import orjson

from meshkube.api.kinds import KINDS
from meshkube.api.openapi import paths, protobuf
from meshkube.api.openapi.definitions import V2, V3, Definitions

PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The media type of `v2_protobuf`, in answers; a client may also ask for it by this name."""
PROTOBUF_ASKED: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What kubectl asks for: the older name, whose `@` is no valid media type, so never answered."""

_V2: Final = "v2"
_V2_PROTOBUF: Final = "v2.pb"
_GZIP: Final = 31  # zlib's word for the gzip format


def group_versions() -> list[str]:
    """The v3 documents there are: `api/v1`, `apis/apps/v1`..."""
    return list(dict.fromkeys(paths.document_of(kind) for kind in KINDS))


def v2_document() -> bytes:
    """The whole API in Swagger 2.0, as JSON."""
    return gzip.decompress(gzipped(_V2))


def v2_protobuf() -> bytes:
    """The same in protobuf, as kubectl asks for it."""
    return gzip.decompress(gzipped(_V2_PROTOBUF))


def v3_document(group_version: str) -> bytes:
    """One group and version in OpenAPI 3.0, as JSON. Raises `KeyError` for one not served."""
    return gzip.decompress(gzipped(group_version))


@cache
def v3_index() -> bytes:
    """Where the v3 documents are; each address holds a hash, so that clients may keep them."""
    entries = {
        name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={etag(name)}"}
        for name in group_versions()
    }
    return orjson.dumps({"paths": entries})


@cache
def gzipped(document: str) -> bytes:
    """A document as it is kept; named `v2`, `v2.pb` or by group and version. Raises `KeyError`."""
    if document == _V2:
        return _packed(_v2())
    if document == _V2_PROTOBUF:
        return _packed(_v2_protobuf())
    if document in group_versions():
        return _packed(_v3(document))
    raise KeyError(document)


def _packed(parts: Iterable[bytes]) -> bytes:
    """Compressed as the parts come, so that no document is ever held whole."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return b"".join([*map(packer.compress, parts), packer.flush()])


@cache
def etag(document: str) -> str:
    """A hash of a document's content, in hexadecimal. Raises `KeyError`."""
    return hashlib.sha256(gzipped(document)).hexdigest()[:32].upper()


def _v2() -> Iterator[bytes]:
    yield b'{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1"},"paths":'
    yield orjson.dumps({path: paths.v2(entry) for path, entry in paths.served(KINDS)})
    yield b',"definitions":'
    yield from Definitions(V2).json(paths.roots(KINDS))
    yield b"}"


def _v2_protobuf() -> Iterator[bytes]:
    yield protobuf.document(
        ((path, paths.v2(entry)) for path, entry in paths.served(KINDS)),
        Definitions(V2).each(paths.roots(KINDS)),
    )


def _v3(group_version: str) -> Iterator[bytes]:
    kinds = [kind for kind in KINDS if paths.document_of(kind) == group_version]
    yield b'{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"v1"},"paths":'
    yield orjson.dumps({path: paths.v3(entry) for path, entry in paths.served(kinds)})
    yield b',"components":{"schemas":'
    yield from Definitions(V3).json(paths.roots(kinds))
    yield b"}}"
