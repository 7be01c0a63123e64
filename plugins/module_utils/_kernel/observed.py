# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel was seen to hold: the same shapes for every observer and every planner. Pure data.

Names follow iproute2. Addresses are normalised text with their prefix ("192.0.2.1/24"), MACs are lower case,
"" is the namespace the module runs in.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Route:
    """A route over one interface; C(dst) is a network, "0.0.0.0/0" and "::/0" for the default."""

    dst: str
    via: str | None = None
    src: str | None = None


@dataclass(frozen=True)
class Link:
    """An interface as it is."""

    name: str
    kind: str | None  # veth, bridge, …; None for hardware and loopback
    index: int = 0
    mac: str | None = None
    mtu: int | None = None
    up: bool = False
    master: str | None = None
    peer_index: int | None = None  # of a veth
    mcast_snooping: bool | None = None  # of a bridge
    flood: bool = True  # of a bridge's port: frames to unknown unicast addresses
    learning: bool = True  # of a bridge's port
    neigh_suppress: bool = False  # of a bridge's port
    addresses: frozenset[str] = frozenset()
    routes: t.Mapping[int, frozenset[Route]] = field(default_factory=dict)  # by route protocol
    neighbours: t.Mapping[str, str] = field(default_factory=dict)  # permanent ones: address -> MAC
    proxies: frozenset[str] = frozenset()  # addresses answered for by proxy ARP or ND
    multicast: frozenset[str] = frozenset()  # MAC addresses that it was told to join
    fdb: frozenset[str] = frozenset()  # static entries of the bridge that point to this port


@dataclass(frozen=True)
class View:
    """One network namespace."""

    netns: str
    exists: bool = False
    links: t.Mapping[str, Link] = field(default_factory=dict)
    sysctls: t.Mapping[str, str] = field(default_factory=dict)  # just the keys that were asked for


Views = t.Mapping[str, View]

# rtnetlink(7): the protocol number says who made a route. An exact list is kept for our own protocol on our own
# interfaces, so nobody else's routes are ever taken for drift.
RTPROT_STATIC = 4
RTPROT_RA = 9  # the kernel's own, from router advertisements
RTPROT_CLUSTERIP = 196  # unassigned in iproute2's rt_protos; routes to service addresses


@dataclass(frozen=True)
class Host:
    """What a host's kernel can do."""

    release: str  # of the kernel
    families: frozenset[str] = frozenset()  # of nftables, of those that matter
    clusterip: bool = False


@dataclass(frozen=True)
class Saved:
    """What a namespace holds of iptables: by tool, the lines of iptables-save; and CLUSTERIP's nodes."""

    lines: t.Mapping[str, t.Sequence[str]] = field(default_factory=dict)
    nodes: frozenset[int] | None = None
