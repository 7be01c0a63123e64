# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The observed state of the kernel, as planners receive it. Pure data.

Names follow iproute2. Addresses are normalised text with prefix length ("192.0.2.1/24"), MAC addresses are lower case,
and the namespace "" is the one that the module runs in.
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
    """An interface."""

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
    proxies: frozenset[str] = frozenset()  # addresses that proxy ARP or ND answers for
    multicast: frozenset[str] = frozenset()  # MAC addresses joined by ip maddr add
    fdb: frozenset[str] = frozenset()  # static entries of the bridge that point to this port


@dataclass(frozen=True)
class View:
    """One network namespace."""

    netns: str
    exists: bool = False
    links: t.Mapping[str, Link] = field(default_factory=dict)
    sysctls: t.Mapping[str, str] = field(default_factory=dict)  # only the requested keys


Views = t.Mapping[str, View]

# rtnetlink(7): the protocol number identifies the program that added a route. Only routes of our protocols are compared
# and removed; those of other programs are no drift.
RTPROT_STATIC = 4
RTPROT_RA = 9  # the kernel's own, from router advertisements
RTPROT_CLUSTERIP = 196  # unassigned in iproute2's rt_protos; routes to service addresses


@dataclass(frozen=True)
class Host:
    """The features of a host's kernel."""

    release: str  # of the kernel
    families: frozenset[str] = frozenset()  # the requested nftables families that it supports
    clusterip: bool = False


@dataclass(frozen=True)
class Saved:
    """iptables of a namespace: the lines of iptables-save by tool, and CLUSTERIP's node numbers."""

    lines: t.Mapping[str, t.Sequence[str]] = field(default_factory=dict)
    nodes: frozenset[int] | None = None
