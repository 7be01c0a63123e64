# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watch of a bundle: probes its tunnels, takes dead ones out of the spread, and puts them back when they are alive.

It runs at both ends. Each probe reports whether its sender receives packets from the tunnel, so both ends agree on the
live tunnels, also when packets are lost in one direction only.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
import typing as t

from .._kernel import namespaces, nft
from .._kernel.command import CommandError
from .._kernel.kernel import Kernel
from .._kernel.ruleset import Listing, plan_table
from . import reconcile, spread
from .bundle import Bundle, Tunnel
from .liveness import Liveness
from .probe import Probe, interval, open_socket

REPAIR_INTERVAL = 1.0  # seconds between two comparisons of the table while the host's rules change


def watch(bundle: Bundle, until: t.Callable[[], bool], log: t.Callable[[str], None]) -> None:
    """Watch the tunnels in the bundle's namespace until C(until), called once per probe interval, returns true."""
    with Kernel() as kernel, namespaces.within(bundle.netns):
        TunnelWatch(bundle, kernel, log).run(until)


# name: bytes, packets …; the name is any bytes but white space, colon and slash
_RECEIVED = re.compile(rb"^ *([^\s:]+): *[0-9]+ +([0-9]+) ", re.M)


def received_packets(text: bytes) -> dict[str, int]:
    """C(/proc/net/dev): interface -> number of received packets. Pure."""
    return {name.decode(errors="surrogateescape"): int(packets) for name, packets in _RECEIVED.findall(text)}


class TunnelWatch:
    """One socket and one Liveness per tunnel. Create and use it inside the bundle's namespace."""

    def __init__(self, bundle: Bundle, kernel: Kernel, log: t.Callable[[str], None]) -> None:
        self._bundle, self._kernel, self._log = bundle, kernel, log
        self._sockets: dict[int, socket.socket] = {}
        self._failed: set[int] = set()  # tunnels whose socket could not be opened
        self._packets: dict[str, int] = {}
        self._rules, self._generation = nft.Generation(), -1
        self._live = spread.live_tunnels(bundle, self._listing())
        now = time.monotonic()
        # Tunnels that are in the spread stay in it for the timeout.
        self.tunnels = {x.number: Liveness(bundle.timeout) for x in bundle.tunnels}
        for number in self._live:
            self.tunnels[number] = Liveness(bundle.timeout, now, peer_receiving=True, live=True)
        self._count_packets(now)

    def run(self, until: t.Callable[[], bool]) -> None:
        """Probe and update the spread, once per interval."""
        pause = interval(self._bundle.timeout)
        compared = 0.0
        try:
            while not until():
                start = time.monotonic()
                for tunnel in self._bundle.tunnels:
                    self._send(tunnel)
                self._receive(start + pause)
                now = time.monotonic()
                self._count_packets(now)
                live = [number for number, tunnel in self.tunnels.items() if tunnel.update(now)]
                if live != self._live or (now - compared > REPAIR_INTERVAL and self._rules_changed()):
                    compared = now
                    self._update_spread(live)
        finally:
            self._rules.close()
            for sock in self._sockets.values():
                sock.close()

    def _send(self, tunnel: Tunnel) -> None:
        state, now = self.tunnels[tunnel.number], time.monotonic()
        probe = Probe(state.receiving(now), now, state.peer_time)
        try:
            sock = self._sockets.get(tunnel.number) or self._open(tunnel)
            sock.sendto(probe.pack(), (tunnel.probed.peer, self._bundle.probe_port))
        except BlockingIOError:
            return  # the queue of the device is full: the packets in it serve as well
        except OSError:  # the device was removed or recreated: the next round opens another socket
            self._close(tunnel.number)

    def _open(self, tunnel: Tunnel) -> socket.socket:
        try:
            sock = open_socket(self._bundle, tunnel)
        except OSError as exc:
            if tunnel.number not in self._failed:  # log it once, not in each round
                self._failed.add(tunnel.number)
                where = f"{tunnel.probed.local} port {self._bundle.probe_port} on {tunnel.device}"
                self._log(f"{self._bundle.name}: cannot open the probe socket {where}: {exc.strerror}")
            raise
        self._failed.discard(tunnel.number)
        self._sockets[tunnel.number] = sock
        return sock

    def _close(self, number: int) -> None:
        if number in self._sockets:
            self._sockets.pop(number).close()

    def _receive(self, until: float) -> None:
        """Receive probes until then, or until one reports that the other end of a live tunnel receives nothing."""
        numbers = {sock: number for number, sock in self._sockets.items()}
        peers = {tunnel.number: tunnel.probed.peer for tunnel in self._bundle.tunnels}
        while True:
            left = max(0.0, until - time.monotonic())
            ready = select.select(list(numbers), [], [], left)[0]
            for sock in ready:
                with contextlib.suppress(OSError):  # an ICMP error
                    data, (sender, _port) = sock.recvfrom(64)
                    probe = Probe.parse(data)
                    if probe and sender == peers[numbers[sock]]:
                        tunnel = self.tunnels[numbers[sock]]
                        tunnel.probe_received(time.monotonic(), probe)
                        left = left if probe.receiving or not tunnel.live else 0.0
            if not left:
                return

    def _count_packets(self, now: float) -> None:
        with open("/proc/net/dev", "rb") as file:
            packets = received_packets(file.read())
        for tunnel in self._bundle.tunnels:
            count = packets.get(tunnel.device, 0)
            if count != self._packets.get(tunnel.device, count):
                self.tunnels[tunnel.number].packets_received(now)
            self._packets[tunnel.device] = count

    def _rules_changed(self) -> bool:
        """Whether nftables rules of the host have changed: a table that was recreated has no live tunnels yet."""
        before = self._generation
        try:
            self._generation = self._rules.now()
        except OSError:
            return True
        return self._generation != before

    def _listing(self) -> Listing:
        return reconcile.bundle_table(self._kernel, self._bundle)

    def _update_spread(self, live: list[int]) -> None:
        """Spread packets over these tunnels, in one transaction that also repairs the rest of the table."""
        try:
            listing = self._listing()
            lines = [] if listing is None else plan_table(spread.table(self._bundle, live), listing)
            if lines:
                nft.run(lines)
        except CommandError as exc:  # the table changed since it was listed: the next round tries again
            self._log(f"{self._bundle.name}: {exc}")
            self._generation = -1
            return
        if live != self._live:
            numbers = ", ".join(map(str, live))
            self._log(
                f"{self._bundle.name}: packets are spread over tunnels {numbers}"
                if live
                else f"{self._bundle.name}: no tunnel is alive; packets to the other site are rejected"
            )
            self._live = live
