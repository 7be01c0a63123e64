# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.bridged import Bridged
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import step
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import Model, a_cluster

BRIDGED = Bridged()
CLUSTER = a_cluster(uplink="bridged", bridge="br0", clustermac="03:00:c0:00:02:0a")
MAC = "02:00:c0:00:02:0a"


def host(**bridge):
    model = Model("vpn1", "vpn2")
    model.add("", "br0", "bridge", up=True, mtu=9000, **bridge)
    model.add("", "nic", up=True, master="br0")
    return model


def ready():
    model = host()
    model.apply(BRIDGED.plan_host(CLUSTER, model.views[""]))
    return model


def texts(steps):
    return [s.text for s in steps]


def test_the_neighbour_entry_by_which_the_bridge_answers_comes_last_and_goes_first():
    assert texts(BRIDGED.plan_host(CLUSTER, host().views[""])) == [
        "sysctl -w net/ipv4/conf/br0/forwarding=1",
        "sysctl -w net/ipv4/conf/br0/send_redirects=0",
        "ip link add arp-vpn address fe:00:c0:00:02:0a mtu 9000 type veth peer name arpx-vpn mtu 9000",
        "ip link set dev arp-vpn master br0",
        "bridge link set dev arp-vpn neigh_suppress on",
        f"bridge fdb replace {MAC} dev arp-vpn master static",
        "ip route replace 192.0.2.10/32 dev br0 proto 196",
        f"ip neigh replace 192.0.2.10 lladdr {MAC} dev br0 nud permanent",
    ]
    assert BRIDGED.plan_host(CLUSTER, ready().views[""]) == []
    assert texts(BRIDGED.plan_no_host(CLUSTER, ready().views[""])) == [
        "ip neigh del 192.0.2.10 dev br0",
        "ip route del 192.0.2.10/32 dev br0 proto 196",
        "ip link del dev arp-vpn",
    ]


@pytest.mark.parametrize(
    ("by_hand", "repair"),
    [
        (step("link_up", dev="arp-vpn"), ["ip link set dev arp-vpn down"]),
        (step("fdb_del", dev="arp-vpn", mac=MAC), [f"bridge fdb replace {MAC} dev arp-vpn master static"]),
        (
            step("link_nomaster", dev="arp-vpn"),
            [
                "ip link set dev arp-vpn master br0",
                "bridge link set dev arp-vpn neigh_suppress on",
                f"bridge fdb replace {MAC} dev arp-vpn master static",
            ],
        ),
        (
            step("neigh_del", dev="br0", address="192.0.2.10"),
            [f"ip neigh replace 192.0.2.10 lladdr {MAC} dev br0 nud permanent"],
        ),
    ],
)
def test_drift_is_put_right_alone(by_hand, repair):
    model = ready()
    model.apply([by_hand])
    assert texts(BRIDGED.plan_host(CLUSTER, model.views[""])) == repair


@pytest.mark.parametrize(
    ("changes", "bridge", "message"),
    [
        ({"bridge": "nic"}, {}, "bridge: 'nic': is not a bridge"),
        ({"interface": "lo"}, {}, "interface: 'lo': is not a port of br0"),
        ({"distribution": "flood"}, {"mcast_snooping": True}, "distribution: 'flood': br0 has mcast_snooping on"),
    ],
)
def test_what_cannot_work_is_refused(changes, bridge, message):
    cluster = a_cluster(**{"uplink": "bridged", "bridge": "br0", **changes})
    with pytest.raises(ParameterError) as error:
        BRIDGED.refuse(cluster, host(**bridge).views[""])
    assert str(error.value).startswith(message)
