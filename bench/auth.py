"""What the door of the API costs: RBAC with 5,000 bindings, and service-account tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from meshkube.control.auth import attributes, component_roles, default_roles
from meshkube.control.auth.authorizer import Authorizer
from meshkube.control.auth.policy import binding, role, rule
from meshkube.control.auth.tokens import temporary_issuer
from meshkube.control.auth.users import User

BINDINGS = 5_000
TIMES = 50_000
TOKENS = 1_000
PATH = "/api/v1/namespaces/ns7/pods"


def world() -> Authorizer:
    found = Authorizer()
    for source in (default_roles, component_roles):
        for one in source.roles():
            found.rbac.set_role(one)
        for one in source.bindings():
            found.rbac.set_binding(one)
    for number in range(BINDINGS):
        name, place = f"r{number}", f"ns{number % 100}"
        found.rbac.set_role(role(name, [rule("get list", "", "pods")], namespace=place))
        found.rbac.set_binding(_bound(number))
    return found


def _bound(number: int) -> dict[str, object]:
    subject = f"user:u{number}"
    return binding(
        f"b{number}", f"r{number}", [subject], namespace=f"ns{number % 100}", to_role=True
    )


def measure(what: str, times: int, call: Callable[[], object]) -> None:
    began = time.process_time()
    for _ in range(times):
        call()
    print(f"{what:50}{(time.process_time() - began) / times * 1e6:10.1f} µs")


def main() -> None:
    rbac = (door := world()).rbac
    user = User("u7", ("devs", "system:authenticated"))
    asked = attributes.of_request(user, "GET", PATH, {})
    assert door.allows(asked)
    measure("a request's attributes", TIMES, lambda: attributes.of_request(user, "GET", PATH, {}))
    measure("a decision, asked before", TIMES, lambda: door.decide(asked))
    measure("a decision, the first time", TIMES, lambda: rbac._decide(asked))
    measure(f"a changed binding among {BINDINGS}", TIMES // 10, lambda: rbac.set_binding(_bound(7)))
    issuer = temporary_issuer()
    account = {"metadata": {"name": "robot", "namespace": "shop", "uid": "u"}}
    now = datetime.now(UTC)
    tokens = []
    measure(
        "a token is signed",
        TOKENS,
        lambda: tokens.append(issuer.issue(account, 600, now.timestamp())),
    )
    for what in ("seen the first time", "seen before"):
        fresh = iter(tokens)
        measure(
            f"a token is accepted, {what}",
            TOKENS,
            lambda fresh=fresh: issuer.accept(next(fresh), lambda *_: account, now),  # type: ignore[misc]
        )


if __name__ == "__main__":
    main()
