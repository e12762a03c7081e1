"""The kinds of the API that a command speaks to: built-in ones at once, others by discovery."""

from __future__ import annotations

import itertools
from typing import TypeGuard

from meshkube.api.kind_names import BUILT_IN, KindNames, defined, discovered
from meshkube.api.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from meshkube.api.manifests import Document, Manifest
from meshkube.api.types import JSON, Object
from meshkube.cli.main import UsageError
from meshkube.client.http import HttpClient
from meshkube.client.transport import decoded

_ACCEPT = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    for version in ("v2", "v2beta1")
)


class Discovery:
    """Asks the server at most once, and not at all for what every server has."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._found: KindNames | None = None

    async def names(self) -> KindNames:
        """All that the server has. Only the built-in kinds where it has no aggregated discovery
        (Kubernetes before 1.27)."""
        if self._found is None:
            answers = [
                await self._client.get_raw(path, accept=_ACCEPT) for path in ("/api", "/apis")
            ]
            lists = [found for found in map(decoded, answers) if _is_aggregated(found)]
            served = itertools.chain.from_iterable(map(discovered, lists))
            self._found = KindNames(served) if len(lists) == 2 else BUILT_IN
        return self._found

    async def kind(self, word: str) -> Kind:
        """The one kind that a word means. Raises `UsageError` where it means none or many."""
        found = await self.kinds(word)
        if len(found) > 1:
            raise UsageError(f'a name needs one kind, and "{word}" is several')
        return found[0]

    async def kinds(self, typed: str) -> list[Kind]:
        """The kinds meant by `pods`, `widgets.example.com`, `all` or `svc,deploy`, each once."""
        found: list[Kind] = []
        for word in typed.split(","):
            found += [kind for kind in await self._meant(word) if kind not in found]
        return found

    async def _meant(self, word: str) -> list[Kind]:
        known = BUILT_IN.one(word)
        if known is not None:
            return [known]
        names = await self.names()
        one = names.one(word)
        found = [one] if one is not None else names.category(word)
        if found:
            return found
        near = names.near(word)
        hint = f'; did you mean "{near}"?' if near else ""
        raise UsageError(f'the server doesn\'t have a resource type "{word}"{hint}')

    async def manifests(self, documents: list[Document]) -> list[Manifest]:
        """The documents with their kinds, those included that a definition among them will bring.
        Raises `UsageError` for the first whose kind there is not."""
        brought = KindNames(
            kind
            for document in documents
            if BUILT_IN.of(*document.names) is CUSTOM_RESOURCE_DEFINITION
            for kind in defined(document.object)
        )
        found: list[Manifest] = []
        for document in documents:
            kind = BUILT_IN.of(*document.names) or brought.of(*document.names)
            kind = kind or (await self.names()).of(*document.names)
            if kind is None:
                version, name = document.names
                raise UsageError(
                    f'{document.where}: no matches for kind "{name}" in version "{version}"'
                )
            found.append(Manifest(document.where, kind, document.object))
        return found


def _is_aggregated(answer: JSON) -> TypeGuard[Object]:
    return isinstance(answer, dict) and answer.get("kind") == "APIGroupDiscoveryList"
