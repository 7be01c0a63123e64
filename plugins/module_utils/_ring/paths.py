# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and units of a ring on a host. The role, the units and the programs take their names from here. Pure.

In the text of a unit, C(name) is "%i", the instance that systemd fills in.
"""

from __future__ import annotations

CONFIGURATION = "/etc/clustered-openvpn"  # desired states, as NAME.json
CLAIMS = "clustered-openvpn-claims"  # the unit that gives slots to members; see follower
VRRP = "clustered-openvpn-vrrp"  # the unit of keepalived


def claims_unit(name: str) -> str:
    """The unit, with C(.service), that gives a cluster's slots to the members of the host."""
    return f"{CLAIMS}@{name}.service"


def vrrp_unit(name: str) -> str:
    """The unit, with C(.service), of a cluster's keepalived."""
    return f"{VRRP}@{name}.service"


def desired_state(name: str) -> str:
    """The desired state of a cluster or bundle on the host."""
    return f"{CONFIGURATION}/{name}.json"


def directory(name: str) -> str:
    """Where the role keeps ring.json and the files of keepalived."""
    return f"{CONFIGURATION}/{name}.ring"


def keepalived_conf(name: str) -> str:
    """The configuration of a cluster's keepalived."""
    return f"{directory(name)}/keepalived.conf"


def vrrp_filter(name: str) -> str:
    """The nftables rules that accept VRRP from hosts of the cluster alone."""
    return f"{directory(name)}/vrrp.nft"


def run_directory(name: str) -> str:
    """The runtime directory of the claims unit. systemd removes it when the unit has stopped."""
    return f"/run/{CLAIMS}-{name}"


def fifo(name: str) -> str:
    """keepalived writes the state of its VRRP instances to this FIFO."""
    return f"{run_directory(name)}/fifo"


def health(name: str) -> str:
    """keepalived tracks this file: 0 while a member of the host is healthy."""
    return f"{run_directory(name)}/health"


def saved_state(name: str) -> str:
    """Slots and health, from a claims process that restarts to the one that follows it."""
    return f"{run_directory(name)}/state"


def hold(name: str) -> str:
    """While this file is new, the claims process keeps the slots that it has, whatever keepalived elects."""
    return f"{run_directory(name)}/hold"


def claims_loaded(name: str) -> str:
    """Its modification time is when the claims process last read the desired state."""
    return f"{run_directory(name)}/loaded"


def vrrp_loaded(name: str) -> str:
    """Its modification time is when keepalived last read its configuration."""
    return f"{run_directory(name)}/elected"
