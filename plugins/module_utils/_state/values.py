# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types of single values in the desired state: texts and numbers with their checks."""

from __future__ import annotations

import typing as t

from .. import _params as p


def _within(lowest: int, highest: int) -> t.Callable[[str, int], None]:
    def check(where: str, value: int) -> None:
        if not lowest <= value <= highest:
            raise p.ParameterError(where, value, f"a number from {lowest} to {highest} is needed here")

    return check


def _bridge(where: str, value: str) -> None:
    if value:
        p.interface_name(where, value)


def _unicast(where: str, value: str) -> None:
    if value:
        p.mac(where, value)


Port = t.Annotated[int, _within(1, 65535)]
Bucket = t.Annotated[int, _within(1, 65536)]
Number = t.Annotated[int, _within(1, 65536)]  # of a member, a tunnel, a host
Address = t.Annotated[str, p.address]  # 192.0.2.1
InterfaceAddress = t.Annotated[str, p.interface_address]  # 192.0.2.1/24
Network = t.Annotated[str, p.network]
NetworkIPv4 = t.Annotated[str, lambda where, value: p.network(where, value, version=4)]
Destination = t.Annotated[str, p.destination]  # a network, or "default"
Interface = t.Annotated[str, p.interface_name]
MaybeInterface = t.Annotated[str, _bridge]  # "": none
Netns = t.Annotated[str, p.netns_name]
MaybeNetns = t.Annotated[str, lambda where, value: p.netns_name(where, value, allow_empty=True)]  # "": the host's own
Mac = t.Annotated[str, _unicast]  # "": none
ClusterMac = t.Annotated[str, lambda where, value: p.mac(where, value, multicast=True)]
