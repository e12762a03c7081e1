import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.selectors import (
    FieldSelector,
    LabelSelector,
    Requirement,
    Term,
    check_fields,
    field_values,
    from_label_selector,
    from_labels,
    parse_fields,
    parse_labels,
)

WEB = {"app": "web", "tier": "front", "size": "5"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web , tier = front ", True),
        ("app=api", False),
        ("app!=api", True),
        ("app!=web", False),
        ("absent!=x", True),
        ("app in (web,api)", True),
        ("app in (api)", False),
        ("absent in (x)", False),
        ("app notin (api)", True),
        ("app notin (web)", False),
        ("absent notin (x)", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("!app", False),
        ("! app", False),
        ("size>4", True),
        ("size>5", False),
        ("size<6", True),
        ("app>1", False),
        ("app=", False),
        ("absent=", False),
        ("app in (web,api),!absent,size>1,tier!=back", True),
        ("in in (a)", False),
        ("app,tier", True),
        ("app in (,web)", True),
        ("app in ()", False),
    ],
)
def test_label_selectors_match_as_kubernetes_does(text: str, expected: bool) -> None:
    assert parse_labels(text).matches(WEB) is expected


def test_an_empty_value_matches_an_empty_label_only() -> None:
    assert parse_labels("app=").matches({"app": ""})
    assert parse_labels("app in (,x)").matches({"app": ""})
    assert not parse_labels("app=").matches({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b)", "found ')', expected: ',' or 'end of string'"),
        ("a=====b", "unable to parse requirement: found '==', expected: identifier"),
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "a>b",
            'unable to parse requirement: values[0]: Invalid value: "b": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_errors_are_worded_as_kubernetes_words_them(text: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(text)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    assert caught.value.message == message


def test_all_faults_of_a_requirement_are_told() -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels("a>-x")
    assert caught.value.message.startswith(
        "unable to parse requirement: [values[0]: Invalid value: \"-x\": for 'Gt', 'Lt' operators,"
        ' the value must be an integer, values[0][a]: Invalid value: "-x": a valid label must be'
    )


def test_a_bad_key_or_value_says_what_a_good_one_is() -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels("-a=b")
    assert caught.value.message == (
        'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of'
        " alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
        " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
        " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
    )
    with pytest.raises(ApiError) as caught:
        parse_labels("app=a/b")
    assert caught.value.message.startswith(
        'unable to parse requirement: values[0][app]: Invalid value: "a/b": a valid label must be'
        " an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start"
    )
    for text in ("a/b/c", "/a", "A/b", f"{'x' * 64}", f"{'x' * 254}/a", f"a={'x' * 64}", "a/=b"):
        with pytest.raises(ApiError):
            parse_labels(text)


def test_the_text_of_a_selector_reads_back_as_itself() -> None:
    text = "a=b,c in (x,y),!d,e,f!=g,h notin (i),j>1"
    selector = parse_labels(text)
    assert str(selector) == "a=b,c in (x,y),!d,e,f!=g,h notin (i),j>1"
    assert parse_labels(str(selector)) == selector


def test_a_selector_object_has_every_operator() -> None:
    selector = from_label_selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "size", "operator": "NotIn", "values": ["6"]},
                {"key": "app", "operator": "Exists"},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches(WEB)
    assert not selector.matches({**WEB, "gone": ""})
    assert ("app", "web") in selector.exact


def test_an_empty_selector_object_matches_all_and_an_absent_one_nothing() -> None:
    assert from_label_selector({}).matches({})
    assert from_label_selector({}).empty
    assert not from_label_selector(None).matches(WEB)
    assert not from_label_selector(None).empty


def test_a_bad_selector_object_is_refused() -> None:
    with pytest.raises(ApiError, match='"Maybe" is not a valid label selector operator'):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "Maybe"}]})
    with pytest.raises(ApiError, match="values set can't be empty"):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "In"}]})
    with pytest.raises(ApiError, match="values set must be empty"):
        from_label_selector(
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}
        )


def test_a_plain_map_is_a_selector() -> None:
    assert from_labels({"app": "web"}).matches(WEB)
    assert not from_labels({"app": "web", "x": "y"}).matches(WEB)


WORDS = st.sampled_from(["a", "b", "in", "notin", "x.y/z", "1"])
REQUIREMENTS = st.one_of(
    st.builds(Requirement, WORDS, st.sampled_from(["=", "==", "!="]), st.tuples(st.just("a"))),
    st.builds(
        Requirement,
        WORDS,
        st.sampled_from(["in", "notin"]),
        st.sets(st.sampled_from(["a", "b", "in"]), min_size=1).map(lambda s: tuple(sorted(s))),
    ),
    st.builds(Requirement, WORDS, st.sampled_from(["exists", "!"])),
    st.builds(Requirement, WORDS, st.sampled_from(["gt", "lt"]), st.tuples(st.just("7"))),
)


@given(
    st.lists(REQUIREMENTS, max_size=4),
    st.dictionaries(WORDS, st.sampled_from(["a", "b", "in", "7", "8"])),
)
def test_text_and_back_changes_no_match(
    requirements: list[Requirement], labels: dict[str, str]
) -> None:
    selector = LabelSelector(requirements)
    assert parse_labels(str(selector)) == selector
    assert selector.matches(labels) == all(one.matches(labels) for one in requirements)


@given(st.text(alphabet="ab=!(),<> in", max_size=14))
def test_any_text_parses_or_raises_a_bad_request(text: str) -> None:
    with contextlib.suppress(ApiError):
        assert parse_labels(text).matches({"a": "b"}) in (True, False)


POD = {
    "metadata": {"name": "p", "namespace": "shop"},
    "spec": {"nodeName": "n1", "restartPolicy": "Always", "serviceAccountName": "default"},
    "status": {"phase": "Running", "podIP": "10.42.0.3"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("spec.nodeName=n1", True),
        ("spec.nodeName==n1", True),
        ("spec.nodeName!=n1", False),
        ("spec.nodeName=n1,status.phase!=Failed", True),
        ("metadata.name=p,metadata.namespace=shop", True),
        ("spec.hostNetwork=false", True),
        ("status.nominatedNodeName=", True),
        ("status.podIP=10.42.0.4", False),
        (",spec.nodeName=n1,", True),
    ],
)
def test_field_selectors_match_the_fields_of_the_kind(text: str, expected: bool) -> None:
    selector = parse_fields(text)
    check_fields(kinds.POD, selector)
    assert selector.matches(field_values(kinds.POD, POD)) is expected
    assert selector.matches_object(kinds.POD, POD) is expected


@pytest.mark.parametrize(
    ("kind", "obj", "text"),
    [
        (kinds.NODE, {}, "spec.unschedulable=false"),
        (kinds.NODE, {"spec": {"unschedulable": True}}, "spec.unschedulable=true"),
        (kinds.SECRET, {"type": "Opaque"}, "type=Opaque"),
        (kinds.NAMESPACE, {"status": {"phase": "Active"}}, "status.phase=Active"),
        (kinds.REPLICA_SET, {}, "status.replicas=0"),
        (kinds.SERVICE, {"spec": {"type": "NodePort"}}, "spec.type=NodePort"),
        (kinds.EVENT, {"involvedObject": {"kind": "Pod"}}, "involvedObject.kind=Pod"),
        (kinds.EVENT, {"source": {"component": "kubelet"}}, "source=kubelet"),
        (kinds.EVENT, {"reportingComponent": "me"}, "source=me,reportingComponent=me"),
        (kinds.EVENTS_EVENT, {"regarding": {"name": "p"}}, "regarding.name=p"),
    ],
)
def test_each_kind_offers_its_own_fields(kind: kinds.Kind, obj: dict, text: str) -> None:
    selector = parse_fields(text)
    check_fields(kind, selector)
    assert selector.matches_object(kind, obj)


def test_a_field_the_kind_does_not_offer_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        check_fields(kinds.POD, parse_fields("spec.color=red"))
    assert caught.value.code == 400
    assert caught.value.message == "field label not supported: spec.color"
    with pytest.raises(ApiError) as caught:
        check_fields(kinds.CONFIG_MAP, parse_fields("data.a=b"))
    assert caught.value.message == (
        '"data.a" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("z,c", "invalid selector: 'z,c'; can't understand 'c'"),
        (r"a=b\c", r"invalid field selector: invalid escape sequence: \c"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_field_selector_errors_are_worded_as_kubernetes_words_them(text: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_fields(text)
    assert caught.value.message == message


def test_escapes_stand_for_themselves() -> None:
    selector = parse_fields(r"reason=a\,b\=c\\d")
    assert selector.exact("reason") == r"a,b=c\d"
    assert selector.exact("type") is None
    assert parse_fields(str(selector)) == selector


@given(st.text(alphabet="ab,=\\!"), st.booleans())
def test_any_value_survives_writing_and_reading(value: str, negated: bool) -> None:
    selector = FieldSelector((Term("reason", value, negated),))
    assert parse_fields(str(selector)) == selector
    assert selector.matches({"reason": value}) is not negated
