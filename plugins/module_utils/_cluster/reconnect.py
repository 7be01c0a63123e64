# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients whose bucket has another owner by now are told to connect anew, by the server that still talks to them.

Or they would stay with it for long: its pings go on reaching them, until it has missed theirs for its own ping-restart.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._openvpn.management import Management, ask
from .moved import strangers


@dataclass(frozen=True)
class Hashing:
    """How clients fall into buckets; the names are those of C(clusterip)'s parameters."""

    total_nodes: int
    hash_init: int
    hashmode: str
    hash_as: str


def tell(
    path: str, port: int, local_nodes: t.Collection[int], hashing: Hashing, *, dry: bool = False
) -> dict[int, str]:
    """Tell the clients of the server with that management socket and port. Client id -> common name.

    C(dry): they are looked for only. Raises ManagementError.
    """
    ports = {"sourceip": (), "sourceip-sourceport": (None,)}.get(hashing.hashmode, (None, port))
    told: dict[int, str] = {}

    def conversation(management: Management) -> None:
        clients = management.status().clients
        of_ring = (hashing.total_nodes, hashing.hash_init, ports, hashing.hash_as)
        for client in strangers(clients, local_nodes, *of_ring):
            if not dry:
                management.command(f"client-kill {client.cid} RESTART")
            told[client.cid] = client.common_name

    ask(path, conversation)
    return told
