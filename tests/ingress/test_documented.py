"""What `docs/ingress.md` says of annotations is what is read, and each is shown by a case that
sends real requests (`tests/e2e/ingress_cases`); so is each field."""

import re
from pathlib import Path

from meshkube.ingress import annotations, client_auth, pod_annotations
from tests.e2e.ingress_cases import (  # noqa: F401 -- each adds its cases
    fields,
    guards,
    protocols,
    redirects,
    to_pods,
    traffic,
)
from tests.e2e.ingress_cases.case import CASES, PREFIX
from tests.e2e.ingress_cases.objects import FAULTS
from tests.ingress.test_fields import spec_fields

DOCUMENT = Path(__file__).parents[2] / "docs/ingress.md"
READ = annotations.TABLE.keys() | pod_annotations.TABLE.keys() | client_auth.TABLE.keys()


def tables() -> str:
    """The parts of the document whose tables name annotations in their first column."""
    text = DOCUMENT.read_text()
    parts = [
        text.partition(heading)[2].partition("\n## ")[0]
        for heading in (
            "\n## Annotations\n",
            "\nClient certificates, by ingress-nginx's annotations:",
        )
    ]
    assert all(parts)
    return "\n".join(parts)


def documented() -> set[str]:
    first = [re.split(r"(?<!\\)\|", row)[1] for row in tables().splitlines() if row[:3] == "| `"]
    return {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}


def shown() -> set[str]:
    """Also by an Ingress that stands beside a case's own."""
    more = {
        name.removeprefix(PREFIX)
        for case in CASES.values()
        for each in case.more
        for name in each["metadata"]["annotations"]
    }
    return {name for case in CASES.values() for name in case.shows} | more


def test_the_document_names_each_annotation_that_is_read_and_no_other() -> None:
    assert documented() == READ


def test_each_documented_annotation_has_a_case() -> None:
    assert documented() - shown() == set()


def test_each_field_has_a_case() -> None:
    wanted = {name for name in spec_fields() if ".resource." not in name}
    assert wanted - shown() == set()


def test_each_reason_of_an_event_has_a_case() -> None:
    room = DOCUMENT.parents[1] / "meshkube/ingress"
    source = "".join((room / name).read_text() for name in ("findings.py", "routes.py"))
    reasons = set(re.findall(r'Finding\(\s*"([A-Z]\w+)"', source))
    assert reasons == {reason for _, reason, _ in FAULTS.values()}
