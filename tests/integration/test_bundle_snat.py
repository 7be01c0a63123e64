# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SNAT: a thousand flows are answered, through any tunnel and after a tunnel has failed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
import typing as t
from itertools import count
from pathlib import Path

import pytest

from .bundle_lab import HOSTS, BundleLab
from .world import within

_numbers = count()
FLOWS = 1000
VICTIM = 2


@pytest.fixture(scope="module")
def lab(pki: Path) -> t.Iterator[BundleLab]:
    """Three tunnels; end B has no route to the site of end A."""
    made = BundleLab(f"v{os.getpid() % 10000}x{next(_numbers)}", pki, tunnels=3, timeout=1.0)
    try:
        made.converge(snat="common")
        yield made
    finally:
        made.remove()


class Mirror:
    """Answers each datagram, and records the source addresses."""

    def __init__(self, netns: str, address: str, port: int):
        with within(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self._socket.bind((address, port))
        self._socket.settimeout(0.2)
        self.sources: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                data, source = self._socket.recvfrom(64)
                self.sources.add(source[0])
                self._socket.sendto(data, source)

    def stop(self) -> None:
        """Stop answering."""
        self._over.set()
        self._thread.join()
        self._socket.close()


def answered(socks: list[socket.socket], each: int) -> int:
    """Send C(each) datagrams on each flow, in turn; the number that were answered on their own flow."""
    good = 0

    def take(seconds: float) -> int:
        found = 0
        for sock in select.select(socks, [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    assert sock.recv(64) == str(sock.fileno()).encode(), "the answer of another flow"
                    found += 1
        return found

    for _round in range(each):
        for i, sock in enumerate(socks):
            sock.send(str(sock.fileno()).encode())
            if i % 25 == 24:
                good += take(0)
                time.sleep(0.01)
    end = time.monotonic() + 5
    while good < each * len(socks) and time.monotonic() < end:
        good += take(0.2)
    return good


@pytest.mark.parametrize("spread", ["per_packet", "per_flow"])
@pytest.mark.parametrize("snat", ["common", "tunnel"])
def test_a_thousand_flows_are_answered_also_after_a_tunnel_has_failed(
    lab: BundleLab, snat: str, spread: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.converge(snat=snat, spread=spread)
    lab.wait_live([1, 2, 3])
    port = 5000 + next(_numbers)  # so that no flow has a translation yet
    before = lab.counts(0, port)
    mirror = Mirror(lab.host_b, HOSTS[1][0], port)
    socks: list[socket.socket] = []
    stopped = 0
    try:
        with within(lab.host_a):
            for _flow in range(FLOWS):
                socks.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
                socks[-1].connect((HOSTS[1][0], port))
        first = answered(socks, 2)
        used = {n: count - before[n] for n, count in lab.counts(0, port).items()}
        stopped = lab.pid(1, VICTIM)
        os.kill(stopped, signal.SIGSTOP)
        lab.wait_live([1, 3], 5)
        meanwhile = answered(socks, 2)
    finally:
        if stopped:
            os.kill(stopped, signal.SIGCONT)
        for sock in socks:
            sock.close()
        mirror.stop()
    with capsys.disabled():
        print(f"\n  {snat}, {spread}: {first} and {meanwhile} of {2 * FLOWS}; sent by tunnel {used}; {mirror.sources}")
    assert (first, meanwhile) == (2 * FLOWS, 2 * FLOWS)
    assert min(used.values()) > 0.5 * sum(used.values()) / 3, "all tunnels were used"
    # The translation of the first packet of a flow stays valid, also after the failure.
    own = {"10.99.0.1"} if snat == "common" else {"10.99.0.2", "10.99.0.3", "10.99.0.4"}
    assert mirror.sources == own
