"""Wrong options, in the words of kube-apiserver 1.33."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshkube.api.errors import ApiError
from meshkube.control.apiserver.option_faults import (
    check_delete,
    check_list,
    check_watch,
    check_write,
)

EXACT = "Forbidden: resourceVersionMatch"


@pytest.mark.parametrize(
    ("check", "kind", "field", "message"),
    [
        (lambda: check_list({"resourceVersionMatch": "Exact"}), "ListOptions",
         "resourceVersionMatch", f"{EXACT} is forbidden unless resourceVersion is provided"),
        (lambda: check_list({"resourceVersionMatch": "Exact", "resourceVersion": "0"}),
         "ListOptions", "resourceVersionMatch",
         f'{EXACT} "exact" is forbidden for resourceVersion "0"'),
        (lambda: check_list({"sendInitialEvents": "true"}), "ListOptions", "sendInitialEvents",
         "Forbidden: sendInitialEvents is forbidden for list"),
        (lambda: check_watch({"resourceVersionMatch": "NotOlderThan"}), "ListOptions",
         "resourceVersionMatch",
         f"{EXACT} is forbidden for watch unless sendInitialEvents is provided"),
        (lambda: check_write("create", {"fieldValidation": "X"}), "CreateOptions",
         "fieldValidation",
         'Unsupported value: "X": supported values: "", "Ignore", "Strict", "Warn"'),
        (lambda: check_write("update", {"dryRun": "x"}), "UpdateOptions", "dryRun",
         'Unsupported value: []string{"x"}: supported values: "All"'),
        (lambda: check_write("patch", {}, applies=True), "PatchOptions", "fieldManager",
         "Required value: is required for apply patch"),
        (lambda: check_write("patch", {"force": "true"}), "PatchOptions", "force",
         "Forbidden: may not be specified for non-apply patch"),
        (lambda: check_delete({"propagationPolicy": "x"}, ""), "DeleteOptions",
         "propagationPolicy", 'Unsupported value: "x": supported values: "Foreground", '
         '"Background", "Orphan", "nil"'),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_field(
    check: Callable[[], None], kind: str, field: str, message: str
) -> None:
    with pytest.raises(ApiError) as refused:
        check()
    error = refused.value
    assert (error.code, error.reason) == (422, "Invalid")
    assert (error.details["group"], error.details["kind"]) == ("meta.k8s.io", kind)
    assert [(cause["field"], cause["message"]) for cause in error.details["causes"]] == [
        (field, message)
    ]


@pytest.mark.parametrize("body", [{"gracePeriodSeconds": "x"}, {"preconditions": []}])
def test_a_delete_of_wrong_types_is_a_bad_request(body: dict) -> None:
    with pytest.raises(ApiError) as refused:
        check_delete(body, "")
    assert refused.value.code == 400


def test_what_is_right_passes() -> None:
    check_list({"resourceVersionMatch": "NotOlderThan", "resourceVersion": "5"})
    check_watch({"resourceVersionMatch": "NotOlderThan", "sendInitialEvents": "true"})
    check_write("patch", {"fieldManager": "m", "force": "true", "dryRun": "All"}, applies=True)
    check_delete({"propagationPolicy": "Orphan", "gracePeriodSeconds": 0}, "All")
