# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients whose bucket has moved away from the server that still holds them. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.clustered.openvpn.plugins.module_utils import _hash
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import Client

# 192.0.2.1:1234, tcp4-server:192.0.2.1:1234, 2001:db8::1:1234, [2001:db8::1]:1234
_REAL = re.compile(r"^(?:(?:udp|tcp)[46]?(?:-server)?:)?\[?(?P<address>.+?)\]?(?::(?P<port>\d{1,5}))?\Z")


def strangers(
    clients: t.Iterable[Client],
    local_nodes: t.Collection[int],
    total_nodes: int,
    hash_init: int,
    ports: t.Sequence[int | None],
) -> list[Client]:
    """Those of a server's clients that hash to a bucket which is not its own.

    ports: what the hashmode adds to the address: nothing, or None for the client's port, and the service's port.
    A client whose address cannot be read is not among them.
    """
    result = []
    for client in clients:
        ends = _REAL.match(client.real_address)
        try:
            address = str(ipaddress.ip_address(ends["address"])) if ends else ""
            added = tuple(int(ends["port"]) if port is None else port for port in ports) if ends else ()
        except (TypeError, ValueError):
            continue
        if address and _hash.bucket(address, total_nodes, hash_init, added) not in local_nodes:
            result.append(client)
    return result
