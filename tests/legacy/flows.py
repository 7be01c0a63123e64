# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send flows and find their receivers, for the tests on legacy kernels."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import time
import typing as t

from integration.packets import flow_of, packet_socket
from integration.world import within

MODES = ["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"]
Flow = tuple[str, int]


def random_flows(count: int, seed: int) -> list[Flow]:
    """Source addresses and ports, without those that the kernel drops as martians."""
    rng, flows = random.Random(seed), set()
    while len(flows) < count:
        address = ipaddress.IPv4Address(rng.randrange(0x01000000, 0xE0000000))
        if not (address.is_loopback or address.is_link_local):
            flows.add((str(address), rng.randrange(1024, 65536)))
    return sorted(flows)


def taken(client: str, nodes: t.Sequence[str], protocol: int, frames: t.Mapping[Flow, bytes]) -> dict[Flow, list[str]]:
    """Flow -> the namespaces that receive its first packet, sent from one namespace."""
    found: dict[Flow, list[str]] = {flow: [] for flow in frames}
    receivers = []
    for node in nodes:
        with within(node):
            receivers.append((socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol), node))
    with packet_socket(client, 0) as sender:
        for i, sent in enumerate(frames.values(), 1):
            sender.send(sent)
            if i % 20 == 0 or i == len(frames):
                time.sleep(0.5 if i == len(frames) else 0.01)
                for receiver, node in receivers:
                    for packet in drained(receiver):
                        flow = flow_of(packet)
                        if flow in found:  # packets of other tests are not
                            found[flow].append(node)
    for receiver, _node in receivers:
        receiver.close()
    return found


def drained(receiver: socket.socket) -> t.Iterator[bytes]:
    """Receive all waiting packets."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield receiver.recv(2048, socket.MSG_DONTWAIT)
