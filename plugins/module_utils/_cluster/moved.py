# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients whose bucket has moved away from the server that still holds them. Pure."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import typing as t

from .._openvpn.management import Client
from . import hashing

# The protocol comes first in some versions: tcp4-server:192.0.2.1:1234
_PROTOCOL = re.compile(r"^(?:udp|tcp)[46]?(?:-server)?:")
_WITH_PORT = re.compile(r"^\[?(?P<address>.+?)\]?:(?P<port>\d{1,5})\Z")


def real_end(text: str) -> tuple[str, int | None]:
    """A client's address, and its port where it is told. Raises ValueError.

    192.0.2.1:1234, also on a socket of IPv6. That of an IPv6 client is 2001:db8::1 until OpenVPN 2.6, and
    [2001:db8::1]:1234 from then on.
    """
    text = _PROTOCOL.sub("", text)
    with contextlib.suppress(ValueError):  # the whole first: ::1:1234 is an address, too
        return _unmapped(text), None
    ends = _WITH_PORT.match(text)
    if not ends:
        raise ValueError(f"{text!r} is no address")
    return _unmapped(ends["address"]), int(ends["port"])


def _unmapped(text: str) -> str:
    """As the packet has it, which was hashed: a socket of both families has IPv4 as ::ffff:192.0.2.1."""
    address = ipaddress.ip_address(text)
    return str(getattr(address, "ipv4_mapped", None) or address)


def strangers(
    clients: t.Iterable[Client],
    local_nodes: t.Collection[int],
    total_nodes: int,
    hash_init: int,
    ports: t.Sequence[int | None],
    hash_as: str = hashing.DEFAULT,
) -> list[Client]:
    """Those of a server's clients that hash to a bucket which is not its own.

    ports: what the hashmode adds to the address: nothing, or None for the client's port, and the service's port.
    A client whose address, or port where that counts, cannot be read is not among them.
    """
    result = []
    for client in clients:
        try:
            address, own_port = real_end(client.real_address)
        except ValueError:
            continue
        if own_port is None and None in ports:
            continue
        added = tuple(own_port or 0 if port is None else port for port in ports)
        if hashing.bucket(address, total_nodes, hash_init, added, hash_as) not in local_nodes:
            result.append(client)
    return result
