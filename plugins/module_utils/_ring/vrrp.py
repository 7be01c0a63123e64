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
# keepalived's multicast group, which other routers on the LAN may use, and our own: elections in different groups do
# not meet, even with equal identifiers. Rings that were installed before keep keepalived's.
COMMON_GROUP, OWN_GROUP = "224.0.0.18", "224.0.0.181"
FIRST_VRID_BEFORE = 1  # the default of installed rings
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


def highest(slots: int) -> int:
    """The first identifier by which the last slot has the highest one: other routers usually have low ones."""
    return MAX_VRID + 1 - slots


def placeholder(number: int, slot: int) -> str:
    """The address of a slot. keepalived requires one for each instance, and has it on C(lo) while it is MASTER.

    The third byte keeps clusters of one host apart, the last one is the slot.
    """
    return f"127.64.{number}.{slot}"


class Election(t.NamedTuple):
    """How the hosts of a ring elect: the first identifier, the multicast group, the third byte of placeholders."""

    first_vrid: int
    group: str
    placeholder: int


def settings(
    name: str, election: Election, ranks: t.Sequence[t.Sequence[str]], before: Election | None = None
) -> dict[str, t.Any]:
    """All that the role's templates and tasks need, as plain data.

    ranks: for each slot, from slot 1 on, its hosts by preference. Without failover there is none. before: how the hosts
    elect until this run changes it. The filter accepts both meanwhile.
    """
    elections = [one for one in (election, before) if one is not None]
    return {
        "units": {"claims": paths.claims_unit(name), "vrrp": paths.vrrp_unit(name)},
        "configuration": paths.keepalived_conf(name),
        "filter": paths.vrrp_filter(name),
        "fifo": paths.fifo(name),
        "health": paths.health(name),
        "table": filter_table(name),
        "hold": paths.hold(name),
        "group": election.group,
        "accepted": [
            {"group": one.group, "first": one.first_vrid, "last": one.first_vrid + len(ranks) - 1} for one in elections
        ],
        "changes": before is not None,
        "placeholders": f"{placeholder(election.placeholder, 0)}/24",
        "linger": LINGER,
        "instances": [
            {
                "name": instance_name(name, slot),
                "vrid": election.first_vrid + slot - 1,
                "address": placeholder(election.placeholder, slot),
                "priorities": {host: priority(rank) for rank, host in enumerate(hosts)},
            }
            for slot, hosts in enumerate(ranks, 1)
        ],
    }


def filter_table(name: str) -> str:
    """The nftables table, of family C(ip), that accepts VRRP from hosts of the cluster alone."""
    return f"{cluster.table_name(name)}.vrrp"
