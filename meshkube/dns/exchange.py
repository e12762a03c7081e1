"""One question to one name server, by dnspython: over UDP from a port of its own, then by TCP where
the answer is cut. What comes from elsewhere, or with another id or question, is passed over."""

from __future__ import annotations

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from meshkube.dns import wire
from meshkube.dns.settings import Server
from meshkube.dns.wire import Query

ANSWER_TIMEOUT = 2.0


class NoAnswer(Exception):
    """The server gave none; the text says why."""


async def ask(server: Server, question: dns.message.Message) -> dns.message.Message:
    """The server's whole answer. Raises `NoAnswer`."""
    try:
        response, _ = await dns.asyncquery.udp_with_fallback(
            question,
            server[0],
            timeout=ANSWER_TIMEOUT,
            port=server[1],
            ignore_unexpected=True,
            ignore_errors=True,
        )
    except (dns.exception.DNSException, OSError, EOFError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from None
    return response


def question(query: Query) -> dns.message.Message:
    """The query as it goes out, under an id of its own."""
    name, _ = dns.name.from_wire(query.name, 0)
    message = dns.message.make_query(
        name,
        dns.rdatatype.RdataType.make(query.type),
        dns.rdataclass.IN,
        use_edns=0 if query.edns >= 0 else False,
        want_dnssec=query.dnssec_ok,
        payload=wire.LARGEST_UDP,
    )
    message.flags = dns.flags.Flag(query.flags & (wire.RD | wire.CD))
    return message


def root_question() -> dns.message.Message:
    """A question that every server can answer: whether it is there."""
    return dns.message.make_query(dns.name.root, dns.rdatatype.NS)


def loop_question(name: bytes) -> dns.message.Message:
    """A question for a name that nobody has, given in wire form."""
    asked, _ = dns.name.from_wire(name, 0)
    return dns.message.make_query(asked, dns.rdatatype.HINFO)
