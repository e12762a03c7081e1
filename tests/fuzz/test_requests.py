"""No request makes a 500: generated from our own kinds, half right and half wrong.

`FUZZ=20000 pytest tests/fuzz` looks further than every `make test` does, and elsewhere each time.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkube.api import kinds
from tests.fuzz.conftest import Victim, judged

EXAMPLES = int(os.environ.get("FUZZ", "150"))
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
BASES = [
    base["given"]
    for base in json.loads((Path(__file__).parents[1] / "api/golden/bases.json").read_text())
]
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
MEDIA = st.sampled_from(
    [
        "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain",
        "application/json;as=Table;v=v1;g=meta.k8s.io", "*/*", "", ";;", "application/json;as=x",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/cbor",
        *PATCHES.values(),
    ]
)  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(
        ["default", "kube-system", "a", "A", "..", ".", "%2F", "a/b", "", "x" * 300, "\u00e9", "%",
         "%00", "%zz", "a b", "-a", "true", "1"]
    ),
    st.text(max_size=12),
)  # fmt: skip
SELECTORS = st.one_of(
    st.sampled_from(
        ["a", "!a", "a=b", "a in (b,c)", "a in (", "a notin ()", "a,,b", "a>1", "=", "!", "a==",
         "metadata.name=x", "spec.nodeName!=x", "status.phase=", "no.such=1", "metadata.name", "\\",
         "a=\\", "((((", "a in (" + "x," * 5000 + ")", "x" * 64 + "=1"]
    ),
    st.text(max_size=20),
)  # fmt: skip
NUMBERS = st.sampled_from(["0", "1", "-1", "5", "x", "", "1e3", "99999999999999999999", "0x1", "٣"])
TOKENS = st.one_of(
    st.sampled_from(
        ["", "x", "====", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJ4In0", "bnVsbA",
         "W10", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTksInN0YXJ0IjoiLi4ifQ",
         "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MWUzMDAsInN0YXJ0IjoieCJ9"]
    ),
    st.binary(max_size=30).map(lambda value: quote(value)),
)  # fmt: skip
QUERY = st.fixed_dictionaries(
    {},
    optional={
        "limit": NUMBERS,
        "continue": TOKENS,
        "labelSelector": SELECTORS,
        "fieldSelector": SELECTORS,
        "resourceVersion": NUMBERS,
        "resourceVersionMatch": st.sampled_from(["Exact", "NotOlderThan", "x"]),
        "dryRun": st.sampled_from(["All", "x", ""]),
        "fieldManager": WORDS,
        "fieldValidation": st.sampled_from(["Strict", "Warn", "Ignore", "x"]),
        "force": st.sampled_from(["true", "x"]),
        "gracePeriodSeconds": NUMBERS,
        "propagationPolicy": WORDS,
        "orphanDependents": WORDS,
        "includeObject": WORDS,
        "pretty": WORDS,
    },
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10),
    st.sampled_from(["10Gi", "-1", "2026-01-01T00:00:00Z", "a/b", "\x00", "\ud800x"[1:], 2**63,
                     -(2**63) - 1, 2**64, 1e308]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def url(kind: kinds.Kind, namespace: str, name: str, subresource: str, query: dict) -> str:
    path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if namespace:
        path += "/namespaces/" + quote(namespace, safe="%")
    path += "/" + kind.plural
    for part in (name, subresource):
        if part:
            path += "/" + quote(part, safe="%")
    pairs = [f"{key}={quote(value, safe='')}" for key, value in query.items()]
    return path + ("?" + "&".join(pairs) if pairs else "")


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every place in a document but the root."""
    found = []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += [(*path, key), *places(inner, (*path, key))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> dict:
    """One of our manifests with up to four of its places made something else."""
    obj = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from(places(obj)))
        place: Any = obj
        for step in path[:-1]:
            place = place[step]
        what = draw(st.sampled_from(["set", "delete", "repeat", "add"]))
        value = draw(VALUES)
        if what == "delete":
            del place[path[-1]]
        elif what == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=8))] = value
        elif what == "repeat" and isinstance(place, list):
            place.append(place[path[-1]])
        else:
            place[path[-1]] = value
    return obj


def encoded(value: Any, how: str) -> bytes:
    if how == "yaml":
        return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
    return json.dumps(value).encode()


@given(
    method=METHODS, kind=st.sampled_from(kinds.KINDS), namespace=WORDS, name=WORDS,
    subresource=st.sampled_from(["", "", "", "status", "scale", "log", "eviction", "x"]),
    query=QUERY, accept=MEDIA, content_type=MEDIA,
    body=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: encoded(value, "json"))),
)  # fmt: skip
@BOUNDED
def test_any_path_query_header_and_body(
    victim: Victim, method, kind, namespace, name, subresource, query, accept, content_type, body
):
    if method == "DELETE" and not name:
        query = {**query, "dryRun": "All"}
    target = url(kind, namespace, name, subresource, query)
    answer = victim.ask(method, target, body, Accept=accept, Content_Type=content_type)
    if method != "HEAD":
        judged(answer)
    assert victim.faults() == []


@given(
    base=st.sampled_from(BASES), obj=mutated(), how=st.sampled_from(["json", "yaml"]), query=QUERY
)  # fmt: skip
@BOUNDED
def test_any_object_created_and_updated(victim: Victim, base, obj, how, query):
    base = next((one for one in BASES if one["kind"] == obj.get("kind")), base)
    kind = kinds.by_kind(base["apiVersion"], base["kind"])
    namespace = "default" if kind.namespaced else ""
    where = url(kind, namespace, "", "", {**query, "dryRun": "All"})
    media = {"Content_Type": f"application/{how}"}
    body = encoded(obj, how)
    judged(victim.ask("POST", where, body, **media))
    # What is there may be changed into anything too.
    stored = orjson.dumps({**base, "metadata": {**base["metadata"], "namespace": namespace}})
    judged(victim.ask("POST", url(kind, namespace, "", "", {}), stored))
    one = url(kind, namespace, base["metadata"].get("name", "x"), "", {"dryRun": "All"})
    judged(victim.ask("PUT", one, body, **media))
    assert victim.faults() == []


@given(
    type=st.sampled_from(sorted(PATCHES)),
    base=st.sampled_from(BASES),
    patch=st.one_of(
        mutated(),
        VALUES,
        st.lists(
            st.fixed_dictionaries(
                {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"])},
                optional={
                    "path": st.sampled_from(
                        ["", "/", "/metadata", "/metadata/name", "/spec", "/spec/-", "/a~2b", "a",
                         "/metadata/labels/a", "/spec/containers/0", "/spec/containers/-1",
                         "/spec/containers/99999999999", "/spec/template/spec/containers/-"]
                    ),
                    "from": st.sampled_from(["/metadata", "/spec", "/x", ""]),
                    "value": VALUES,
                },
            ),
            max_size=3,
        ),
    ),
    directives=st.dictionaries(
        st.sampled_from(["$patch", "$retainKeys", "$setElementOrder/containers",
                         "$deleteFromPrimitiveList/finalizers", "$setElementOrder/x"]),
        VALUES,
        max_size=2,
    ),
    subresource=st.sampled_from(["", "", "status", "scale"]),
)  # fmt: skip
@BOUNDED
def test_any_patch_of_every_type(victim: Victim, type, base, patch, directives, subresource):
    kind = kinds.by_kind(base["apiVersion"], base["kind"])
    if subresource not in ("", *kind.subresources):
        return
    namespace = "default" if kind.namespaced else ""
    judged(victim.ask("POST", url(kind, namespace, "", "", {}), orjson.dumps(base)))
    if isinstance(patch, dict):
        patch = {**patch, **directives}
        if isinstance(patch.get("spec"), dict):
            patch["spec"] = {**patch["spec"], **directives}
    query = {"fieldManager": "fuzz", "dryRun": "All"}
    one = url(kind, namespace, base["metadata"].get("name", "x"), subresource, query)
    judged(victim.ask("PATCH", one, encoded(patch, "json"), Content_Type=PATCHES[type]))
    assert victim.faults() == []
