"""Random roles, bindings and questions, decided by the authorizer and by a model that looks at
everything: subjects x verbs x resources x namespaces x names."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api.types import Object
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.policy import binding, role
from meshkube.control.auth.rbac import Rbac
from meshkube.control.auth.users import User, component

USERS = (
    User("alice", ("devs", "system:authenticated")),
    User("bob", ("ops", "system:authenticated")),
    component("system:serviceaccount:a:robot"),
    User("system:anonymous", ("system:unauthenticated",)),
)
SUBJECTS = ("user:alice", "user:bob", "group:devs", "group:system:authenticated", "account:a/robot")
NAMESPACES = ("a", "b")
VERBS = ("get", "list", "delete")
GROUPS = ("", "apps")
RESOURCES = ("pods", "pods/log", "deployments", "deployments/scale")
NAMES = ("", "x", "y")


def some(values: tuple[str, ...], *more: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([*values, *more]), min_size=1, max_size=2, unique=True)


RULES = st.lists(
    st.fixed_dictionaries(
        {
            "verbs": some(VERBS, "*"),
            "apiGroups": some(GROUPS, "*"),
            "resources": some(RESOURCES, "*", "*/scale"),
        },
        optional={"resourceNames": some(NAMES[1:])},
    ),
    max_size=2,
)
ROLES = st.dictionaries(
    st.tuples(st.sampled_from(["", *NAMESPACES]), st.sampled_from(["r", "s"])), RULES, max_size=4
)
BINDINGS = st.dictionaries(
    st.tuples(st.sampled_from(["", *NAMESPACES]), st.sampled_from(["b", "c", "d"])),
    st.tuples(
        st.sampled_from(["r", "s", "none"]),
        st.booleans(),
        st.lists(st.sampled_from(SUBJECTS), max_size=2, unique=True),
    ),
    max_size=4,
)
Roles = dict[tuple[str, str], list[Object]]
Bindings = dict[tuple[str, str], tuple[str, bool, list[str]]]


def is_subject(user: User, subject: str) -> bool:
    kind, _, name = subject.partition(":")
    if kind == "account":
        name = "system:serviceaccount:" + name.replace("/", ":")
    return name in user.groups if kind == "group" else name == user.name


def allows(rule: Object, verb: str, group: str, resource: str, name: str) -> bool:
    sub = resource.partition("/")[2]
    return (
        bool({"*", verb} & set(rule["verbs"]))
        and bool({"*", group} & set(rule["apiGroups"]))
        and bool({"*", resource, *([f"*/{sub}"] if sub else [])} & set(rule["resources"]))
        and ("resourceNames" not in rule or name in rule["resourceNames"])
    )


def model(roles: Roles, bindings: Bindings, question: tuple[Any, ...]) -> bool:
    """The documented rules, with no index and no cache."""
    user, verb, group, resource, namespace, name = question
    for (where, _), (of, to_role, subjects) in bindings.items():
        if where and where != namespace:
            continue
        if not any(is_subject(user, subject) for subject in subjects):
            continue
        rules = roles.get((where if to_role and where else "", of), [])
        if any(allows(rule, verb, group, resource, name) for rule in rules):
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(ROLES, BINDINGS)
def test_every_question_is_decided_as_the_model_does(roles: Roles, bindings: Bindings) -> None:
    rbac = Rbac()
    for (namespace, name), rules in roles.items():
        rbac.set_role(role(name, rules, namespace=namespace))
    for (namespace, name), (of, to_role, subjects) in bindings.items():
        to_role = to_role and bool(namespace)
        rbac.set_binding(binding(name, of, subjects, namespace=namespace, to_role=to_role))
    places = ("", *NAMESPACES)
    for question in itertools.product(USERS, VERBS, GROUPS, RESOURCES, places, NAMES):
        user, verb, group, resource, namespace, name = question
        plural, _, sub = resource.partition("/")
        asked = Attributes(user, verb, group, plural, sub, namespace, name)
        assert rbac.decide(asked).allowed == model(roles, bindings, question), asked
