"""What one case of the ingress is: an Ingress with its annotations, and what clients then see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.ingress import ingress, path

if TYPE_CHECKING:
    from tests.e2e.ingress_cases.site import Site

Object = dict[str, Any]
Run = Callable[["Site"], Awaitable[None]]
PREFIX = "nginx.ingress.kubernetes.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`run` asks as a client, and asserts."""

    name: str
    given: Mapping[str, str]
    """Annotations without their prefix. `AUTH` stands for the address and port of the server that
    decides."""
    shows: frozenset[str]
    """Annotations and fields that the case is about."""
    rules: Mapping[str, Sequence[Object]]
    tls: bool
    more: Sequence[Object]
    run: Run

    @property
    def host(self) -> str:
        return f"{self.name}.test"

    def objects(self, auth: str) -> list[Object]:
        """The Ingresses; the case's own is first."""
        rules = {host or self.host: list(paths) for host, paths in self.rules.items()}
        tls = [{"hosts": [self.host], "secretName": "site"}] if self.tls else []
        mine = ingress(self.name, rules, tls=tls, annotations=annotated(self.given))
        found = [mine, *self.more]
        for each in found:
            kept = each["metadata"]["annotations"]
            each["metadata"]["annotations"] = {k: v.replace("AUTH", auth) for k, v in kept.items()}
        return found


CASES: dict[str, Case] = {}


def case(
    given: Mapping[str, str] | None = None,
    *,
    shows: Sequence[str] = (),
    rules: Mapping[str, Sequence[Object]] | None = None,
    service: str = "web",
    tls: bool = False,
    more: Sequence[Object] = (),
) -> Callable[[Run], Run]:
    """Makes a case of a function, by its name. Without `rules` everything of its host goes to
    `service`; in them an empty host is the case's own. Without `shows` it is about what is
    given."""
    annotations = given or {}

    def add(run: Run) -> Run:
        name = run.__name__.replace("_", "-")
        assert name not in CASES, name
        CASES[name] = Case(
            name=name, given=annotations, shows=frozenset(shows or annotations), tls=tls,
            rules=rules or {"": [path("/", service)]}, more=more, run=run,
        )  # fmt: skip
        return run

    return add


def annotated(given: Mapping[str, str]) -> dict[str, str]:
    return {PREFIX + name: value for name, value in given.items()}
