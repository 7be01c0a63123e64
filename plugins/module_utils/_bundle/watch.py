# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watch of a bundle's tunnels at one end: which of them carry packets, and so are in the spread.

Both ends send a small datagram through each tunnel, a few in the time after which a silent one is dead, and say in it
whether they hear the other one. A tunnel is good while anything comes out of it, for a busy one may lose datagrams of
ours, and while the other end hears us. So both ends agree, also when packets are lost in one direction only.

A tunnel that was dead is back when datagrams have gone there and back in that time: what a frozen process had in its
queue comes out of it late, and says nothing about now.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
import typing as t

from .._kernel import namespaces, nft
from .._kernel.command import CommandError
from .._kernel.kernel import Kernel
from .._kernel.ruleset import Listing, plan_table
from . import reconcile, spread
from .bundle import Bundle, Tunnel
from .liveness import Health, interval

# A mark of ours, whether the sender hears the other end, its time, and the other end's time that it has read last.
HELLO = struct.Struct("!8s?dd")
MARK = b"cluster1"
REPAIR = 1.0  # seconds between two looks at the table, while rules of the host change
SO_BINDTODEVICE = 25
TOS_CONTROL = 0xC0  # network control: ahead of other packets where a queue knows priorities


def received_packets(text: str) -> dict[str, int]:
    """C(/proc/net/dev): interface -> packets that were received. Pure."""
    lines = (line.partition(":") for line in text.splitlines()[2:])
    return {name.strip(): int(numbers.split()[1]) for name, _colon, numbers in lines}


def watch(bundle: Bundle, until: t.Callable[[], bool], say: t.Callable[[str], None]) -> None:
    """Watch in the bundle's namespace, until C(until) says to stop, which is asked a few times in a second."""
    with Kernel() as kernel, namespaces.within(bundle.netns):
        Watch(bundle, kernel, say).run(until)


class Watch:
    """The sockets, one a tunnel, and what is known. To be made in the bundle's namespace, and used there."""

    def __init__(self, bundle: Bundle, kernel: Kernel, say: t.Callable[[str], None]) -> None:
        self._bundle, self._kernel, self._say = bundle, kernel, say
        self._sockets: dict[int, socket.socket] = {}
        self._unopened: set[int] = set()
        self._counts: dict[str, int] = {}
        self._rules, self._generation = nft.Generation(), -1
        self._live = spread.live_in(bundle, self._listing())
        now = time.monotonic()
        # Those that are in the spread have their time to show that they are alive.
        self.health = {x.number: Health(bundle.timeout) for x in bundle.tunnels}
        for number in self._live:
            self.health[number] = Health(bundle.timeout, now, good=True, live=True)
        self._carried(now)

    def run(self, until: t.Callable[[], bool]) -> None:
        """Round after round."""
        pause = interval(self._bundle.timeout)
        look = 0.0
        try:
            while not until():
                start = time.monotonic()
                for tunnel in self._bundle.tunnels:
                    self._send(tunnel)
                self._receive(start + pause)
                now = time.monotonic()
                self._carried(now)
                live = [n for n, health in self.health.items() if health.judge(now)]
                if live != self._live or (now - look > REPAIR and self._touched()):
                    look = now
                    self._spread(live)
        finally:
            self._rules.close()
            for sock in self._sockets.values():
                sock.close()

    def _send(self, tunnel: Tunnel) -> None:
        health, now = self.health[tunnel.number], time.monotonic()
        hello = HELLO.pack(MARK, health.hears(now), now, health.theirs)
        try:
            sock = self._sockets.get(tunnel.number) or self._open(tunnel)
            sock.sendto(hello, (tunnel.probed.peer, self._bundle.probe_port))
        except BlockingIOError:
            return  # its queue is full: packets tell enough
        except OSError:  # the device has gone, or was made anew: another socket at the next round
            self._close(tunnel.number)

    def _open(self, tunnel: Tunnel) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, tunnel.device.encode())
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS_CONTROL)
            sock.bind((tunnel.probed.local, self._bundle.probe_port))
        except OSError as exc:
            sock.close()
            if tunnel.number not in self._unopened:  # once, and not each round
                self._unopened.add(tunnel.number)
                place = f"{tunnel.probed.local} port {self._bundle.probe_port} on {tunnel.device}"
                self._say(f"{self._bundle.name}: {place} cannot be watched: {exc.strerror}")
            raise
        self._unopened.discard(tunnel.number)
        self._sockets[tunnel.number] = sock
        return sock

    def _close(self, number: int) -> None:
        if number in self._sockets:
            self._sockets.pop(number).close()

    def _receive(self, until: float) -> None:
        """Take what comes until then, or until the other end says that it does not hear us any more."""
        numbers = {sock: number for number, sock in self._sockets.items()}
        peers = {tunnel.number: tunnel.probed.peer for tunnel in self._bundle.tunnels}
        while True:
            left = max(0.0, until - time.monotonic())
            ready = select.select(list(numbers), [], [], left)[0]
            for sock in ready:
                with contextlib.suppress(OSError, struct.error):  # a refusal that came back, or nothing of ours
                    data, (sender, _port) = sock.recvfrom(64)
                    mark, hears_us, theirs, ours = HELLO.unpack(data)
                    if mark == MARK and sender == peers[numbers[sock]]:
                        health = self.health[numbers[sock]]
                        health.received(time.monotonic(), hears_us, theirs, ours)
                        left = left if hears_us or not health.live else 0.0
            if not left:
                return

    def _carried(self, now: float) -> None:
        with open("/proc/net/dev", encoding="utf-8") as file:
            counts = received_packets(file.read())
        for tunnel in self._bundle.tunnels:
            count = counts.get(tunnel.device, 0)
            if count != self._counts.get(tunnel.device, count):
                self.health[tunnel.number].carried(now)
            self._counts[tunnel.device] = count

    def _touched(self) -> bool:
        """Whether somebody has changed rules: a table that was flushed and made anew deals nothing out by itself."""
        before = self._generation
        try:
            self._generation = self._rules.now()
        except OSError:
            return True
        return self._generation != before

    def _listing(self) -> Listing:
        return reconcile.bundle_table(self._kernel, self._bundle)

    def _spread(self, live: list[int]) -> None:
        """Only these are given packets from now on, by one transaction; whatever else differs is put right with it."""
        try:
            listing = self._listing()
            lines = [] if listing is None else plan_table(spread.table(self._bundle, live), listing)
            if lines:
                nft.run(lines)
        except CommandError as exc:  # somebody changed it in the meantime: the next round sees it
            self._say(f"{self._bundle.name}: {exc}")
            self._generation = -1
            return
        if live != self._live:
            self._say(f"{self._bundle.name}: spread over {', '.join(map(str, live)) or 'no tunnel'}")
            self._live = live
