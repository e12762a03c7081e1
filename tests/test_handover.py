"""Listening sockets over an exec: whoever connects in between waits, and is answered."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meshkube import handover
from meshkube.handover import VARIABLE, Handover

AFTER = """
import os, socket
from meshkube import handover
handover.HANDOVER.begin(os.environ)
(taken,) = handover.tcp("127.0.0.1", {port})
taken.setblocking(True)
taken.listen()
asks, _ = taken.accept()
asks.sendall(b"after")
"""


def test_who_connects_during_the_restart_is_answered_after_it():
    before = Handover()
    before.begin({})
    listening = before.opened(socket.SOCK_STREAM, "127.0.0.1", 0)
    listening.listen()
    port = listening.getsockname()[1]
    listening.close()  # as the server does that stops
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        environment = before.pass_on(os.environ)
        kept = [int(text) for text in environment[VARIABLE].split(",")]
        subprocess.run(
            [sys.executable, "-c", AFTER.format(port=port)],
            env=environment, pass_fds=kept, check=True, timeout=30,
            cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip
        assert client.recv(100) == b"after"
    before.end()


def test_nothing_is_kept_before_it_begins_and_after_it_ends():
    one = Handover()
    made = one.opened(socket.SOCK_STREAM, "127.0.0.1", 0)
    port = made.getsockname()[1]
    made.close()
    assert one.pass_on({})[VARIABLE] == ""
    one.begin({VARIABLE: "nonsense,99999"})
    one.opened(socket.SOCK_STREAM, "127.0.0.1", port).close()
    assert one.pass_on({})[VARIABLE]
    one.end()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_every_address_means_one_socket_for_each_family():
    made = handover.tcp(None, 0)
    try:
        assert [one.family for one in made][:1] == [socket.AF_INET]
        assert len({one.getsockname()[1] for one in made}) == 1
    finally:
        for one in made:
            one.close()


def test_a_taken_port_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        handover.tcp("127.0.0.1", taken.getsockname()[1])
