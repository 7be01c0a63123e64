# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the clients of a server whose bucket belongs to another member. Pure."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import typing as t

from .._openvpn.management import Client
from . import hashing

# Some versions of OpenVPN print the protocol first: tcp4-server:192.0.2.1:1234
_PROTOCOL = re.compile(r"^(?:udp|tcp)[46]?(?:-server)?:")
_WITH_PORT = re.compile(r"^\[?(?P<address>.+?)\]?:(?P<port>\d{1,5})\Z")


def client_endpoint(text: str) -> tuple[str, int | None]:
    """Parse the real address of a client in C(status): its address, and its port if given. Raises ValueError.

    An IPv4 client is printed as 192.0.2.1:1234, on IPv6 sockets too; an IPv6 client as [2001:db8::1]:1234, by OpenVPN
    before 2.6 as 2001:db8::1.
    """
    text = _PROTOCOL.sub("", text)
    with contextlib.suppress(ValueError):  # without a port: ::1:1234 is a valid address
        return _unmapped(text), None
    match = _WITH_PORT.match(text)
    if not match:
        raise ValueError(f"{text!r} is not the address of a client")
    return _unmapped(match["address"]), int(match["port"])


def _unmapped(text: str) -> str:
    """The source address of the packet: dual-stack sockets print IPv4 addresses as ::ffff:192.0.2.1."""
    address = ipaddress.ip_address(text)
    return str(getattr(address, "ipv4_mapped", None) or address)


def misplaced_clients(
    clients: t.Iterable[Client],
    local_nodes: t.Collection[int],
    total_nodes: int,
    hash_init: int,
    ports: t.Sequence[int | None],
    hash_as: str = hashing.DEFAULT,
) -> list[Client]:
    """The clients of a server that hash to a bucket outside C(local_nodes), the buckets of its member.

    C(ports): the ports that the hashmode adds to the address, with None for the port of the client. A client is left
    out if its address, or a port that is hashed, cannot be parsed.
    """
    result = []
    for client in clients:
        try:
            address, client_port = client_endpoint(client.real_address)
        except ValueError:
            continue
        if client_port is None and None in ports:
            continue
        hashed = tuple(client_port or 0 if port is None else port for port in ports)
        if hashing.bucket(address, total_nodes, hash_init, hashed, hash_as) not in local_nodes:
            result.append(client)
    return result
