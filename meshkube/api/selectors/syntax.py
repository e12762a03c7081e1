"""What a label's key and value may be, and what is wrong with one that may not.

Source: the Kubernetes documents, "Labels and Selectors: Syntax and character set".
"""

from __future__ import annotations

import re

_NAME_FORMAT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_FORMAT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FORMAT = rf"{_LABEL_FORMAT}(\.{_LABEL_FORMAT})*"
_VALUE_FORMAT = f"({_NAME_FORMAT})?"

_NAME = re.compile(_NAME_FORMAT, re.ASCII)
_SUBDOMAIN = re.compile(_SUBDOMAIN_FORMAT, re.ASCII)
_VALUE = re.compile(_VALUE_FORMAT, re.ASCII)

_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    " '.', and must start and end with an alphanumeric character"
)
_VALUE_RULE = f"a valid label must be an empty string or consist of {_NAME_RULE[16:]}"


def qualified_name_faults(text: str) -> list[str]:
    """Faults of a key such as `app` or `example.com/app`; empty where there are none."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return [
            f"a qualified name {_regex(_NAME_RULE, _NAME_FORMAT, 'MyName', 'my.name', '123-abc')}"
            " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    faults = _prefix_faults(prefix) if slash else []
    if not name:
        faults.append("name part must be non-empty")
    elif len(name) > 63:
        faults.append("name part must be no more than 63 characters")
    if not _NAME.fullmatch(name):
        rule = _regex(_NAME_RULE, _NAME_FORMAT, "MyName", "my.name", "123-abc")
        faults.append(f"name part {rule}")
    return faults


def _prefix_faults(prefix: str) -> list[str]:
    if not prefix:
        return ["prefix part must be non-empty"]
    faults = []
    if len(prefix) > 253:
        faults.append("prefix part must be no more than 253 characters")
    if not _SUBDOMAIN.fullmatch(prefix):
        rule = _regex(_SUBDOMAIN_RULE, _SUBDOMAIN_FORMAT, "example.com")
        faults.append(f"prefix part {rule}")
    return faults


def label_value_faults(text: str) -> list[str]:
    """Faults of a label's value; empty where there are none."""
    faults = []
    if len(text) > 63:
        faults.append("must be no more than 63 characters")
    if not _VALUE.fullmatch(text):
        faults.append(_regex(_VALUE_RULE, _VALUE_FORMAT, "MyValue", "my_value", "12345"))
    return faults


def _regex(rule: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} (e.g. {shown}regex used for validation is '{pattern}')"
