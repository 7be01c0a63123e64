# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reconnect the clients of moved buckets: their former server sends them a RESTART.

Without it, a client stays with its former server for long: it still receives that server's pings, until the server's
ping-restart expires because the client's packets no longer arrive.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._openvpn.management import Management, ask
from .moved import misplaced_clients


@dataclass(frozen=True)
class Hashing:
    """The hash that assigns clients to buckets, named as the parameters of the module C(clusterip)."""

    total_nodes: int
    hash_init: int
    hashmode: str
    hash_as: str


def send_restarts(
    path: str, port: int, local_nodes: t.Collection[int], hashing: Hashing, *, dry_run: bool = False
) -> dict[int, str]:
    """Send a RESTART to the misplaced clients of one server, so that they reconnect: client id -> common name.

    C(path): its management socket. C(port): the port of the service. C(local_nodes): the buckets of its member.
    C(dry_run): only find the clients. Raises ManagementError.
    """
    ports = {"sourceip": (), "sourceip-sourceport": (None,)}.get(hashing.hashmode, (None, port))
    found: dict[int, str] = {}

    def conversation(management: Management) -> None:
        clients = management.status().clients
        args = (hashing.total_nodes, hashing.hash_init, ports, hashing.hash_as)
        for client in misplaced_clients(clients, local_nodes, *args):
            if not dry_run:
                management.command(f"client-kill {client.cid} RESTART")
            found[client.cid] = client.common_name

    ask(path, conversation)
    return found
