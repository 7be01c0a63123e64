# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The throughput of a bundle, and a transfer that continues while tunnels are added and removed."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import typing as t
from itertools import count
from pathlib import Path

import pytest

from .bundle_lab import HOSTS, BundleLab, Counter, send
from .world import within

_numbers = count()
RATE = 10  # Mbit/s of each tunnel: low, so that the machine is not the limit
SIZE = 1200


@pytest.fixture(scope="module")
def lab(pki: Path) -> t.Iterator[BundleLab]:
    """A bundle of one tunnel at first."""
    made = BundleLab(f"z{os.getpid() % 10000}x{next(_numbers)}", pki, tunnels=1, rate=RATE)
    try:
        made.converge()
        yield made
    finally:
        made.remove()


class Transfer:
    """A TCP connection from the host of end A to that of end B; bytes of a pattern, and their digest."""

    def __init__(self, lab: BundleLab, port: int, *, congestion: str = "", reordering: int = 0):
        self.received, self.sent = 0, 0
        self.digests = [hashlib.sha256(), hashlib.sha256()]
        self._over = threading.Event()
        if reordering:
            with within(lab.host_a):
                Path("/proc/sys/net/ipv4/tcp_reordering").write_text(str(reordering))
        with within(lab.host_b):
            listener = socket.create_server((HOSTS[1][0], port))
        with within(lab.host_a):
            self._out = socket.socket()
        if congestion:
            self._out.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        self._out.settimeout(60)
        self._out.connect((HOSTS[1][0], port))
        self._in = listener.accept()[0]
        self._in.settimeout(60)
        listener.close()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        block = os.urandom(1 << 16)
        while not self._over.is_set():
            self._out.sendall(block)
            self.digests[0].update(block)
            self.sent += len(block)
        self._out.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        while data := self._in.recv(1 << 18):
            self.digests[1].update(data)
            self.received += len(data)

    def rate(self, warm: float = 2.0, seconds: float = 4.0) -> float:
        """Throughput in Mbit/s, after a warm-up."""
        time.sleep(warm)
        start, before = time.monotonic(), self.received
        time.sleep(seconds)
        return (self.received - before) * 8e-6 / (time.monotonic() - start)

    def end(self) -> None:
        """Close the connection."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        self._out.close()
        self._in.close()


def datagrams(lab: BundleLab, rate: float, seconds: float) -> tuple[int, int, float]:
    """Send C(rate) Mbit/s; packets sent, packets that arrived, and the Mbit/s that arrived."""
    counter = Counter(lab.host_b, HOSTS[1][0], 5000)
    total = int(rate * 1e6 / 8 / SIZE * seconds)
    try:
        send(lab.host_a, (HOSTS[1][0], 5000), total, rate=total / seconds, size=SIZE)
        counter.wait(total, 3)
        times = [moment for moment, _number in counter.arrived]
    finally:
        counter.stop()
    return total, len(times), (len(times) - 1) * SIZE * 8e-6 / (times[-1] - times[0])


def test_tunnels_add_up(lab: BundleLab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.wait_live([1])
    # More than it can: what comes out is what it carries.
    _sent, _arrived, one = datagrams(lab, 1.5 * RATE, 4)
    flows = {1: Transfer(lab, 6001)}
    single = flows[1].rate()
    flows[1].end()
    assert 0.8 * RATE < one < 1.05 * RATE
    lines = [f"one tunnel: UDP {one:.1f}, one TCP flow {single:.1f} Mbit/s"]
    for tunnels in (2, 4):
        lab.converge(tunnels=tunnels)
        lab.wait_live(range(1, tunnels + 1))
        sent, arrived, rate = datagrams(lab, 0.97 * tunnels * one, 4)
        lines.append(f"{tunnels} tunnels: UDP {rate:.1f} Mbit/s, {arrived} of {sent} packets")
        assert arrived == sent, lines
    for congestion, reordering in (("bbr", 0), ("cubic", 300)):
        flow = Transfer(lab, 6002 + reordering, congestion=congestion, reordering=reordering)
        wide = flow.rate()
        flow.end()
        lines.append(f"one TCP flow ({congestion}, tcp_reordering {reordering or 3}): {wide:.1f} Mbit/s")
        assert wide >= 1.8 * single, lines
    with capsys.disabled():
        print("".join(f"\n  {line}" for line in lines))


def test_four_flows_spread_where_each_keeps_to_a_tunnel(lab: BundleLab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.converge(tunnels=4, spread="per_flow")
    lab.wait_live([1, 2, 3, 4])
    before = lab.counts(0, 5000)
    for port in range(4):
        with within(lab.host_a), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((HOSTS[0][0], 7000 + port))
            for _packet in range(100):
                sock.sendto(b"x", (HOSTS[1][0], 5000))
    used = {number: count - before[number] for number, count in lab.counts(0, 5000).items()}
    with capsys.disabled():
        print(f"\n  four flows of 100 packets, per flow: {used}")
    assert sum(used.values()) == 400
    assert all(packets % 100 == 0 for packets in used.values()), "a flow keeps to its tunnel"
    assert len([packets for packets in used.values() if packets]) > 1


def test_a_transfer_goes_on_while_tunnels_come_and_go(lab: BundleLab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.converge(tunnels=4, spread="per_packet")
    lab.wait_live([1, 2, 3, 4])
    assert lab.converge(check=True) == [], "no changes"
    stays = [lab.pid(end, number) for end in (0, 1) for number in (1, 2)]
    transfer = Transfer(lab, 6009)
    seconds = []
    try:
        for tunnels in (2, 6):
            start = time.monotonic()
            lab.converge(tunnels=tunnels)
            lab.wait_live(range(1, tunnels + 1))
            seconds.append(time.monotonic() - start)
            time.sleep(1)
    finally:
        transfer.end()
    with capsys.disabled():
        print(f"\n  {transfer.received / 1e6:.1f} MB while 4 tunnels became 2 and then 6; {seconds} s")
    assert transfer.received == transfer.sent
    assert transfer.digests[0].digest() == transfer.digests[1].digest()
    assert [lab.pid(end, number) for end in (0, 1) for number in (1, 2)] == stays, "other tunnels were not restarted"
    assert lab.converge(check=True) == [], "no changes"
