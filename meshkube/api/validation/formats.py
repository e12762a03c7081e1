"""Forms of names, labels, ports and addresses: each check gives the reasons why a text is wrong.

Sources: RFC 1123, RFC 1035, RFC 6335; the Kubernetes reference, "Object Names and IDs" and "Labels
and Selectors". The words are those of apimachinery, so that a user finds them where they look.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from meshkube.api.errors import FieldError
from meshkube.api.validation.faults import invalid

Reasons: TypeAlias = list[str]
NameCheck: TypeAlias = Callable[[str], Reasons]

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD: Final = rf"\*\.{_SUBDOMAIN}"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_PERCENT: Final = "[0-9]+%"
_HEADER: Final = "[-A-Za-z0-9]+"
_ENDS: Final = "must start and end with an alphanumeric character"
_UNDERSCORED: Final = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"


@functools.lru_cache(4096)
def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.ASCII) is not None


def too_long_for(limit: int) -> str:
    return f"must be no more than {limit} characters"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def wrong_form(words: str, pattern: str, *examples: str) -> str:
    """The sentence that names the rule, examples of it, and the pattern."""
    shown = " or ".join(f"'{example}', " for example in examples)
    lead = f" (e.g. {shown}" if shown else " ("
    return f"{words}{lead}regex used for validation is '{pattern}')"


def _length(text: str, limit: int) -> Reasons:
    return [too_long_for(limit)] if len(text.encode()) > limit else []


def dns_label(text: str) -> Reasons:
    """RFC 1123 label: names of namespaces, containers, ports of Services."""
    reasons = _length(text, 63)
    if not _matches(_LABEL, text):
        if _matches(_SUBDOMAIN, text):
            reasons.append("must not contain dots")
        else:
            words = (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or"
                f" '-', and {_ENDS}"
            )
            reasons.append(wrong_form(words, _LABEL, "my-name", "123-abc"))
    return reasons


def dns_subdomain(text: str) -> Reasons:
    """RFC 1123 subdomain: most names."""
    reasons = _length(text, 253)
    if not _matches(_SUBDOMAIN, text):
        words = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
            f" '-' or '.', and {_ENDS}"
        )
        reasons.append(wrong_form(words, _SUBDOMAIN, "example.com"))
    return reasons


def dns_subdomain_with_underscore(text: str) -> Reasons:
    """Search domains of a pod."""
    reasons = _length(text, 253)
    if not _matches(_UNDERSCORED, text):
        words = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
            f" '_', '-' or '.', and {_ENDS}"
        )
        reasons.append(wrong_form(words, _SUBDOMAIN, "example.com"))
    return reasons


def dns_1035_label(text: str) -> Reasons:
    """RFC 1035 label: names of Services."""
    reasons = _length(text, 63)
    if not _matches(_LABEL_1035, text):
        words = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start"
            " with an alphabetic character, and end with an alphanumeric character"
        )
        reasons.append(wrong_form(words, _LABEL_1035, "my-name", "abc-123"))
    return reasons


def wildcard_subdomain(text: str) -> Reasons:
    """`*.example.com`: hosts of Ingresses."""
    reasons = _length(text, 253)
    if not _matches(_WILDCARD, text):
        words = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS"
            " subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and"
            " end with an alphanumeric character"
        )
        reasons.append(wrong_form(words, _WILDCARD, "*.example.com"))
    return reasons


def path_segment(text: str) -> Reasons:
    """Anything that can stand in a URL path: names of roles, of events."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{letter}'" for letter in ("/", "%") if letter in text]


def as_prefix(check: NameCheck, text: str) -> Reasons:
    """The check of a `generateName`: it may end with a dash."""
    if len(text) > 1 and text.endswith("-"):
        text = text[:-2] + "a"
    return check(text)


def qualified_name(text: str) -> Reasons:
    """Keys of labels: `name` or `example.com/name`."""
    prefix, slash, name = text.rpartition("/")
    reasons: Reasons = []
    words = f"must consist of alphanumeric characters, '-', '_' or '.', and {_ENDS}"
    if "/" in prefix:
        form = wrong_form(words, _QUALIFIED, "MyName", "my.name", "123-abc")
        return [
            f"a qualified name {form} with an optional DNS subdomain prefix and '/'"
            " (e.g. 'example.com/MyName')"
        ]
    if slash:
        if not prefix:
            reasons.append("prefix part must be non-empty")
        else:
            reasons += [f"prefix part {reason}" for reason in dns_subdomain(prefix)]
    if not name:
        reasons.append("name part must be non-empty")
    reasons += [f"name part {reason}" for reason in _length(name, 63)]
    if not _matches(_QUALIFIED, name):
        form = wrong_form(words, _QUALIFIED, "MyName", "my.name", "123-abc")
        reasons.append(f"name part {form}")
    return reasons


def label_value(text: str) -> Reasons:
    reasons = _length(text, 63)
    if not _matches(_LABEL_VALUE, text):
        words = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-',"
            f" '_' or '.', and {_ENDS}"
        )
        reasons.append(wrong_form(words, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return reasons


def config_key(text: str) -> Reasons:
    """Keys of ConfigMaps and Secrets: they become file names."""
    reasons = _length(text, 253)
    if not _matches(_CONFIG_KEY, text):
        words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        reasons.append(wrong_form(words, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return reasons + _climbs(text)


def _climbs(text: str) -> Reasons:
    if text in (".", ".."):
        return [f"must not be '{text}'"]
    return ["must not start with '..'"] if text.startswith("..") else []


def env_name(text: str) -> Reasons:
    """Names of environment variables, as widely as Kubernetes 1.33 takes them."""
    reasons = [] if text else ["environment variable name must be non-empty"]
    if any(letter == "=" or not " " <= letter <= "~" for letter in text):
        reasons.append(
            "a valid environment variable name must consist only of printable ASCII characters"
            " other than '='"
        )
    return reasons


def port_number(number: int) -> Reasons:
    return in_range(number, 1, 65535)


def in_range(number: int, low: int, high: int) -> Reasons:
    return [] if low <= number <= high else [between(low, high)]


def port_name(text: str) -> Reasons:
    """RFC 6335 service name: names of container ports, and references to them."""
    reasons = _length(text, 15)
    if not _matches("[-a-z0-9]+", text):
        reasons.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        reasons.append("must contain at least one letter (a-z)")
    if "--" in text:
        reasons.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        reasons.append("must not begin or end with a hyphen")
    return reasons


def percent(text: str) -> Reasons:
    if _matches(_PERCENT, text):
        return []
    words = "a valid percent string must be a numeric string followed by an ending '%'"
    return [wrong_form(words, _PERCENT, "1%", "93%")]


def header_name(text: str) -> Reasons:
    if _matches(_HEADER, text):
        return []
    words = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [wrong_form(words, _HEADER, "X-Header-Name")]


@functools.lru_cache(maxsize=16384)
def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of a text, or nothing; leading zeros are let pass, as Kubernetes does."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if _matches(r"\d+(\.\d+){3}", text):
        try:
            return ipaddress.ip_address(".".join(str(int(part)) for part in text.split(".")))
        except ValueError:
            pass
    return None


NOT_AN_IP: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def ip(text: str) -> Reasons:
    return [NOT_AN_IP] if ip_address(text) is None or "%" in text else []


def faults(path: str, value: str, reasons: Reasons) -> Iterator[FieldError]:
    """One fault for each reason."""
    for reason in reasons:
        yield invalid(path, value, reason)


NOT_A_CIDR: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def cidr(text: str) -> Reasons:
    """An address and the length of its prefix; bits behind the prefix are let pass."""
    address, slash, length = text.partition("/")
    parsed = ip_address(address)
    if not slash or parsed is None or "%" in address or not _matches("[0-9]{1,3}", length):
        return [NOT_A_CIDR]
    return [] if int(length) <= parsed.max_prefixlen else [NOT_A_CIDR]


def strict_ip(text: str) -> Reasons:
    """An address in its canonical form."""
    reasons = ip(text)
    if reasons:
        return reasons
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return ["must not have leading 0s"]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return ["must not be an IPv4-mapped IPv6 address"]
    return [] if str(parsed) == text else [f'must be in canonical form ("{parsed}")']
