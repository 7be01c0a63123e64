# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VRRP of a ring: priorities, identifiers, instance names and addresses, as in keepalived.conf. Pure.

Each slot is one VRRP instance of keepalived.
"""

from __future__ import annotations

import re
import typing as t

from .._cluster import cluster
from . import paths

# VRRP's priorities go up to 254; 255 is reserved for the owner of the address. The difference between two ranks keeps
# elections apart, as a lower priority waits longer before it takes over (RFC 5798, 6.1: Skew_Time).
HIGHEST, STEP = 250, 8
MAX_HOSTS = HIGHEST // STEP
MAX_VRID = 255  # RFC 5798, 5.2.3
SHORTEST_ADVERT = 0.01  # seconds
LONGEST_ADVERT = 40.95  # seconds: twelve bits of hundredths, RFC 5798, 5.2.7
# Seconds for which a host still accepts the packets of a slot that another host has taken over, so that no moment is
# without an owner.
LINGER = 0.1

# A line of keepalived's FIFO: INSTANCE "vpn-12" MASTER 250
_STATE = re.compile(r'^INSTANCE "[a-z0-9_-]+-([0-9]{1,3})" ([A-Z_]+)( [0-9]+)?\Z')


def priority(rank: int) -> int:
    """The priority of the host that is 0th, 1st, 2nd … in the order of a slot's hosts."""
    return HIGHEST - STEP * rank


def instance_name(cluster_name: str, slot: int) -> str:
    """The VRRP instance of a slot."""
    return f"{cluster_name}-{slot}"


def parse_state(line: str) -> tuple[int, str] | None:
    """The slot and the state (MASTER, BACKUP, FAULT …) in a line of keepalived's FIFO; None for other lines."""
    match = _STATE.match(line)
    return (int(match.group(1)), match.group(2)) if match else None


def placeholder(first_vrid: int, slot: int) -> str:
    """The address of a slot. keepalived requires one for each instance, and has it on C(lo) while it is MASTER.

    The third byte keeps clusters of one host apart, the last one is the slot.
    """
    return f"127.64.{first_vrid}.{slot}"


def settings(name: str, first_vrid: int, ranks: t.Sequence[t.Sequence[str]]) -> dict[str, t.Any]:
    """All that the role's templates and tasks need, as plain data.

    ranks: for each slot, from slot 1 on, its hosts by preference. Without failover there is none.
    """
    return {
        "units": {"claims": paths.claims_unit(name), "vrrp": paths.vrrp_unit(name)},
        "configuration": paths.keepalived_conf(name),
        "filter": paths.vrrp_filter(name),
        "fifo": paths.fifo(name),
        "health": paths.health(name),
        "table": filter_table(name),
        "placeholders": f"{placeholder(first_vrid, 0)}/24",
        "linger": LINGER,
        "instances": [
            {
                "name": instance_name(name, slot),
                "vrid": first_vrid + slot - 1,
                "address": placeholder(first_vrid, slot),
                "priorities": {host: priority(rank) for rank, host in enumerate(hosts)},
            }
            for slot, hosts in enumerate(ranks, 1)
        ],
    }


def filter_table(name: str) -> str:
    """The nftables table, of family C(ip), that accepts VRRP from hosts of the cluster alone."""
    return f"{cluster.table_name(name)}.vrrp"
