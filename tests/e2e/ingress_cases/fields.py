"""A case for each field of an Ingress, of those that `tests/ingress/test_fields.py` shows in one
process, and for its certificates."""

from __future__ import annotations

import copy
from typing import Any

from tests.e2e.ingress_cases.case import CASES, Case, Run
from tests.e2e.ingress_cases.site import Site
from tests.ingress.test_fields import PROOFS
from tests.support.ingress import ingress, path

Asked = list[tuple[str, str, str | int]]


def _moved(value: Any, number: int) -> Any:
    """The same on hosts of its own: `a.io` becomes `a-3.io`."""
    if isinstance(value, dict):
        return {key: _moved(each, number) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(each, number) for each in value]
    if isinstance(value, str) and value.endswith(".io"):
        return value.removesuffix(".io") + f"-{number}.io"
    return value


def _asks(asked: Asked) -> Run:
    async def run(site: Site) -> None:
        for host, target, expected in asked:
            got = await site.get(target, host=host, fresh=True)
            answered: str | int = got.pod if got.status == 200 else got.status
            assert answered == expected, (host, target)

    return run


def _add(number: int, name: str) -> None:
    spec, asked = copy.deepcopy(PROOFS[name])
    item = ingress(f"field-{number}")
    item["spec"].update(_moved(spec, number))
    if "rules" not in spec:
        # A default for every host would be one for those of other cases too.
        item["spec"]["rules"] = [{"host": f"b-{number}.io"}]
    CASES[f"fields-{number}"] = Case(
        name=f"fields-{number}", given={}, shows=frozenset({name}), tls=False,
        rules={"": [path("/", "web")]}, more=[item], run=_asks(_moved(asked, number)),
    )  # fmt: skip


for _number, _name in enumerate(PROOFS):
    _add(_number, _name)


async def _certificate(site: Site) -> None:
    got = await site.get("/", tls=True)
    assert got.got("X-Forwarded-Proto") == "https"


CASES["tls"] = Case(
    name="tls", given={}, shows=frozenset({"tls.hosts", "tls.secretName"}), tls=True,
    rules={"": [path("/", "web")]}, more=(), run=_certificate,
)  # fmt: skip
