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
import itertools
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

import orjson

from meshkube.api.kinds import KINDS, Kind
from meshkube.api.openapi import custom, paths, protobuf
from meshkube.api.openapi.definitions import V2, V3, Definitions, Dialect

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
        return _packed(_v2(KINDS))
    if document == _V2_PROTOBUF:
        return _packed(_v2_protobuf(KINDS))
    if document in group_versions():
        return _packed(_v3(tuple(kind for kind in KINDS if paths.document_of(kind) == document)))
    raise KeyError(document)


class Documents:
    """The same documents with custom kinds in them: those of some moment, built on first need."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._kinds = kinds
        self._custom = tuple(kind for kind in kinds if kind.definition is not None)
        self._names: dict[str, list[Kind]] = {}
        for kind in self._custom:
            self._names.setdefault(paths.document_of(kind), []).append(kind)
        self._kept: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names or name in group_versions()

    def gzipped(self, name: str) -> bytes:
        """As `openapi.gzipped`. Raises `KeyError`."""
        if not self._custom or (name in group_versions() and name not in self._names):
            return gzipped(name)
        if name not in self._kept:
            self._kept[name] = _packed(self._parts(name))
        return self._kept[name]

    def etag(self, name: str) -> str:
        """Of a document of custom kinds without building it."""
        if not self._custom or (name in group_versions() and name not in self._names):
            return etag(name)
        kinds = self._names.get(name, self._custom)
        told = [name, *(custom.fingerprint(kind) for kind in kinds)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32].upper()

    def index(self) -> bytes:
        """As `v3_index`."""
        names = dict.fromkeys((*group_versions(), *self._names))
        entries = {
            name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={self.etag(name)}"}
            for name in names
        }
        return orjson.dumps({"paths": entries})

    def _parts(self, name: str) -> Iterator[bytes]:
        if name == _V2:
            return _v2(self._kinds)
        if name == _V2_PROTOBUF:
            return _v2_protobuf(self._kinds)
        kinds = [kind for kind in self._kinds if paths.document_of(kind) == name]
        if not kinds:
            raise KeyError(name)
        return _v3(tuple(kinds))


def _packed(parts: Iterable[bytes]) -> bytes:
    """Compressed as the parts come, so that no document is ever held whole."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return b"".join([*map(packer.compress, parts), packer.flush()])


@cache
def etag(document: str) -> str:
    """A hash of a document's content, in hexadecimal. Raises `KeyError`."""
    return hashlib.sha256(gzipped(document)).hexdigest()[:32].upper()


def _v2(kinds: tuple[Kind, ...]) -> Iterator[bytes]:
    yield b'{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1"},"paths":'
    yield orjson.dumps({path: paths.v2(entry) for path, entry in paths.served(kinds)})
    yield b',"definitions":'
    yield from _joined(V2, kinds)
    yield b"}"


def _v2_protobuf(kinds: tuple[Kind, ...]) -> Iterator[bytes]:
    yield protobuf.document(
        ((path, paths.v2(entry)) for path, entry in paths.served(kinds)),
        itertools.chain(Definitions(V2).each(paths.roots(kinds)), custom.definitions(kinds, V2)),
    )


def _v3(kinds: tuple[Kind, ...]) -> Iterator[bytes]:
    yield b'{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"v1"},"paths":'
    yield orjson.dumps({path: paths.v3(entry) for path, entry in paths.served(kinds)})
    yield b',"components":{"schemas":'
    yield from _joined(V3, kinds)
    yield b"}}"


def _joined(dialect: Dialect, kinds: tuple[Kind, ...]) -> Iterator[bytes]:
    """Published definitions and those of custom kinds, as one JSON object."""
    *parts, _ = Definitions(dialect).json(paths.roots(kinds))
    yield from parts
    for name, schema in custom.definitions(kinds, dialect):
        yield b',"' + name.encode() + b'":' + orjson.dumps(schema)
    yield b"}"
