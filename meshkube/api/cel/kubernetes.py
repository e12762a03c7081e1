"""Quantities, addresses, URLs and named formats: what Kubernetes adds to CEL for its own values.

Source: the Kubernetes documents, "Common Expression Language in Kubernetes", its libraries.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from meshkube.api import quantities
from meshkube.api.cel.functions import Function, text
from meshkube.api.cel.operators import no_overload
from meshkube.api.cel.values import NONE, Budget, CelError, Optional, Value
from meshkube.api.validation import formats

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Quantity:
    """An amount: `100m`, `1Gi`."""

    __slots__ = ("amount",)

    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(self.amount)

    def cel_string(self) -> str:
        return str(quantities.canonical(format(self.amount, "f")))


class Cidr:
    """An address with the length of its network's prefix."""

    __slots__ = ("address", "network")

    def __init__(self, read: str) -> None:
        interface = ipaddress.ip_interface(read)
        self.address: Address = interface.ip
        self.network: Network = interface.network

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cidr) and (other.address, other.network) == (
            self.address,
            self.network,
        )

    def __hash__(self) -> int:
        return hash((self.address, self.network))

    def cel_string(self) -> str:
        return f"{self.address}/{self.network.prefixlen}"


class Url:
    """A URL that was read."""

    __slots__ = ("parts", "raw")

    def __init__(self, raw: str, parts: SplitResult) -> None:
        self.raw = raw
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class Format:
    """A named format of text."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[str], list[str]]) -> None:
        self.check = check


def _quantity(budget: Budget, value: Value) -> Quantity:
    try:
        return Quantity(quantities.parse(text(value, "quantity")))
    except (ValueError, ArithmeticError) as error:
        raise CelError(f"quantity {value!r}: {error}") from None


def _cidr(budget: Budget, value: Value) -> Cidr:
    held = text(value, "cidr")
    try:
        if "/" not in held:
            raise ValueError("no prefix length")
        return Cidr(held)
    except ValueError as error:
        raise CelError(f"CIDR {held!r}: {error}") from None


def _ip(budget: Budget, value: Value) -> Address:
    if isinstance(value, Cidr):
        return value.address
    held = formats.ip_address(text(value, "ip"))
    if held is None:
        raise CelError(f"IP Address {value!r} is not valid")
    return held


def _url(budget: Budget, value: Value) -> Url:
    held = text(value, "url")
    try:
        parts = urlsplit(held)
        fine = bool(parts.scheme) or held.startswith("/")
        _ = parts.port
    except ValueError:
        fine = False
    if not fine:
        raise CelError(f"URL parse error during conversion from string: {held!r}")
    return Url(held, parts)


def _reads(read: Function) -> Function:
    def check(budget: Budget, value: Value) -> bool:
        try:
            read(budget, value)
        except CelError:
            return False
        return True

    return check


def _canonical(budget: Budget, value: Value) -> bool:
    return bool(str(_ip(budget, value)) == value)


def _of(type_: Any, name: str, call: Callable[..., Value], *others: Any) -> Function:
    """A method of values of one type."""

    def method(budget: Budget, value: Value, *arguments: Value) -> Value:
        fits = isinstance(value, type_) and all(
            isinstance(argument, wanted)
            for argument, wanted in zip(arguments, others, strict=False)
        )
        if not fits:
            raise no_overload(name, value, *arguments)
        return call(value, *arguments)

    return method


def _as_integer(value: Quantity) -> int:
    if value.amount != value.amount.to_integral_value():
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _amount(other: Value) -> Decimal:
    return other.amount if isinstance(other, Quantity) else Decimal(int(other))


def _compare(value: Quantity, other: Quantity) -> int:
    return (value.amount > other.amount) - (value.amount < other.amount)


_Q: Final = Quantity
_IP: Final = (ipaddress.IPv4Address, ipaddress.IPv6Address)
_QUANTITIES: Final[dict[tuple[str, int], Function]] = {
    ("isInteger", 1): _of(_Q, "isInteger", lambda q: q.amount == q.amount.to_integral_value()),
    ("asInteger", 1): _of(_Q, "asInteger", _as_integer),
    ("asApproximateFloat", 1): _of(_Q, "asApproximateFloat", lambda q: float(q.amount)),
    ("sign", 1): _of(_Q, "sign", lambda q: (q.amount > 0) - (q.amount < 0)),
    ("isGreaterThan", 2): _of(_Q, "isGreaterThan", lambda q, o: q.amount > o.amount, _Q),
    ("isLessThan", 2): _of(_Q, "isLessThan", lambda q, o: q.amount < o.amount, _Q),
    ("compareTo", 2): _of(_Q, "compareTo", _compare, _Q),
    ("add", 2): _of(_Q, "add", lambda q, o: Quantity(q.amount + _amount(o)), (_Q, int)),
    ("sub", 2): _of(_Q, "sub", lambda q, o: Quantity(q.amount - _amount(o)), (_Q, int)),
}


def _contains_ip(cidr: Cidr, other: Value) -> bool:
    address = _ip(Budget(1), other) if isinstance(other, str) else other
    return bool(address.version == cidr.network.version and address in cidr.network)


def _contains_cidr(cidr: Cidr, other: Value) -> bool:
    inner = (_cidr(Budget(1), other) if isinstance(other, str) else other).network
    if inner.version != cidr.network.version:
        return False
    low, high = cidr.network.network_address, cidr.network.broadcast_address
    return int(low) <= int(inner.network_address) and int(inner.broadcast_address) <= int(high)


def _global_unicast(ip: Address) -> bool:
    return not (ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local)


_NET: Final[dict[tuple[str, int], Function]] = {
    ("family", 1): _of(_IP, "family", lambda ip: ip.version),
    ("isUnspecified", 1): _of(_IP, "isUnspecified", lambda ip: ip.is_unspecified),
    ("isLoopback", 1): _of(_IP, "isLoopback", lambda ip: ip.is_loopback),
    ("isLinkLocalMulticast", 1): _of(
        _IP,
        "isLinkLocalMulticast",
        lambda ip: ip in ipaddress.ip_network("224.0.0.0/24" if ip.version == 4 else "ff02::/16"),
    ),
    ("isLinkLocalUnicast", 1): _of(_IP, "isLinkLocalUnicast", lambda ip: ip.is_link_local),
    ("isGlobalUnicast", 1): _of(_IP, "isGlobalUnicast", _global_unicast),
    ("containsIP", 2): _of(Cidr, "containsIP", _contains_ip, (*_IP, str)),
    ("containsCIDR", 2): _of(Cidr, "containsCIDR", _contains_cidr, (Cidr, str)),
    ("ip", 1): _of(Cidr, "ip", lambda cidr: cidr.address),
    ("masked", 1): _of(Cidr, "masked", lambda cidr: Cidr(str(cidr.network))),
    ("prefixLength", 1): _of(Cidr, "prefixLength", lambda cidr: cidr.network.prefixlen),
}


def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


def _hostname(url: Url) -> str:
    host = _host(url)
    return host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]


_URLS: Final[dict[tuple[str, int], Function]] = {
    ("getScheme", 1): _of(Url, "getScheme", lambda url: url.parts.scheme),
    ("getHost", 1): _of(Url, "getHost", _host),
    ("getHostname", 1): _of(Url, "getHostname", _hostname),
    ("getPort", 1): _of(Url, "getPort", lambda url: str(url.parts.port or "")),
    ("getEscapedPath", 1): _of(Url, "getEscapedPath", lambda url: url.parts.path),
    ("getQuery", 1): _of(
        Url, "getQuery", lambda url: parse_qs(url.parts.query, keep_blank_values=True)
    ),
}


_FORMATS: Final[dict[str, Callable[[str], list[str]]]] = {
    "dns1123Label": formats.dns_label,
    "dns1123Subdomain": formats.dns_subdomain,
    "dns1035Label": formats.dns_1035_label,
    "qualifiedName": formats.qualified_name,
    "labelValue": formats.label_value,
    "dns1123LabelPrefix": lambda text: formats.as_prefix(formats.dns_label, text),
    "dns1123SubdomainPrefix": lambda text: formats.as_prefix(formats.dns_subdomain, text),
    "dns1035LabelPrefix": lambda text: formats.as_prefix(formats.dns_1035_label, text),
}


def _validate(format_: Format, value: str) -> Optional:
    reasons = format_.check(value)
    return Optional(True, list(reasons)) if reasons else NONE


def _named_format(budget: Budget, name: Value) -> Optional:
    check = _FORMATS.get(text(name, "format.named"))
    return Optional(True, Format(check)) if check is not None else NONE


def _format(name: str) -> Function:
    found = Format(_FORMATS[name])
    return lambda budget: found


GLOBAL: Final[dict[tuple[str, int], Function]] = {
    ("quantity", 1): _quantity,
    ("isQuantity", 1): _reads(_quantity),
    ("ip", 1): _ip,
    ("isIP", 1): _reads(_ip),
    ("ip.isCanonical", 1): _canonical,
    ("cidr", 1): _cidr,
    ("isCIDR", 1): _reads(_cidr),
    ("url", 1): _url,
    ("isURL", 1): _reads(_url),
    ("format.named", 1): _named_format,
    **{(f"format.{name}", 0): _format(name) for name in _FORMATS},
}
METHODS: Final[dict[tuple[str, int], Function]] = {
    **_QUANTITIES,
    **_NET,
    **_URLS,
    ("validate", 2): _of(Format, "validate", _validate, str),
}
