# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired state of one end of a bundle of tunnels, as the file holds it.

C(bundles) has one entry: the parameters of the module C(tunnel_bundle), with its names and units.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import _params as p
from . import values as v


def _one(where: str, value: tuple[t.Any, ...]) -> None:
    if len(value) != 1:
        raise p.ParameterError(where, f"{len(value)} entries", "one entry is needed here")


def _none(where: str, value: tuple[t.Any, ...]) -> None:
    if value:
        raise p.ParameterError(where, f"{len(value)} entries", "a bundle has none")


Empty = t.Annotated[tuple[str, ...], _none]


@dataclass(frozen=True)
class Pair:
    """The addresses of a tunnel: this end's, and the other's."""

    local: v.Address
    peer: v.Address


@dataclass(frozen=True)
class Tunnel:
    """A tunnel. C(rate): Mbit/s, 0 for no limit."""

    number: v.Number
    device: v.Interface
    port: v.Port
    mark: int
    weight: int
    rate: float
    addresses: tuple[Pair, ...]


@dataclass(frozen=True)
class RetiredTunnel(Tunnel):
    """A tunnel that is to be removed. C(drained): until then it stays up, and gets no packets."""

    drained: bool


@dataclass(frozen=True)
class Settings:
    """Parameters of the module C(tunnel_bundle)."""

    name: str
    netns: v.MaybeNetns
    networks: tuple[v.Network, ...]
    addresses: tuple[v.Address, ...]
    mtu: int
    tunnels: tuple[Tunnel, ...]
    spread: t.Literal["per_packet", "per_flow"]
    snat: t.Literal["none", "common", "tunnel"]
    queue: int
    timeout: float
    probe_port: v.Port
    reordering: int
    congestion_control: str
    rule_priority: int
    user: str
    group: str
    device_type: t.Literal["tun", "tap"]
    former_addresses: tuple[v.Address, ...] = ()


@dataclass(frozen=True)
class TunnelInstance:
    """The OpenVPN process of a tunnel."""

    name: str
    netns: v.MaybeNetns
    port: v.Port
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class RetiredInstance:
    """The OpenVPN process of a tunnel that is to be removed."""

    name: str
    netns: v.MaybeNetns


@dataclass(frozen=True)
class End:
    """A host at one end, with its address outside of the tunnels."""

    name: str
    address: v.Address


@dataclass(frozen=True)
class BundleState:
    """Everything that one end of a bundle consists of."""

    name: str
    bundles: t.Annotated[tuple[Settings, ...], _one]
    instances: tuple[TunnelInstance, ...]
    peer: End
    local: End
    retired: tuple[RetiredTunnel, ...] = ()
    gone: tuple[RetiredInstance, ...] = ()
    # Boot programs of the time before format 1 read these of every state.
    namespaces: Empty = ()
    veths: Empty = ()
    bridges: Empty = ()
    addresses: Empty = ()
    servers: Empty = ()
    members: Empty = ()

    @property
    def bundle(self) -> Settings:
        """Its only entry."""
        return self.bundles[0]
