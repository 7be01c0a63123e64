# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.ring import ring

CHECK = {"command": [], "interval": 0.5, "timeout": 0.8, "fall": 2, "rise": 2}


def settings(host, **changes):
    """The settings of one host, as the role passes them."""
    return {
        "name": "vpn",
        "address": "192.0.2.10",
        "ipv6_address": "",
        "clustermac": "",
        "hash_init": 0,
        "total_nodes": 256,
        "hashmode": "sourceip",
        "hash_as": "nftables",
        "services": [],
        "failover": True,
        "slots": 64,
        "first_vrid": 1,
        "advert_interval": 0.3,
        "failback": False,
        "unicast": False,
        "weight": 1,
        "number": 0,
        "local_nodes": None,
        "vrrp_interface": "eth0",
        "vrrp_address": f"192.0.2.{host}",
        "vrrp_mac": "",
        "vrrp_group": "",
        "check": CHECK,
        "members": 0,
        "members_max": 16,
        "facts": {
            "interfaces": ["eth0"],
            "eth0": {"ipv4": {"address": f"192.0.2.{host}", "netmask": "255.255.255.0"}},
            "processor_vcpus": 2,
        },
        "leaving": False,
        **changes,
    }


def three(**changes):
    return {f"h{n}": settings(n, **changes) for n in (1, 2, 3)}


def test_three_hosts():
    made = ring(three())
    assert made["hosts"]["h2"] == {"number": 2, "weight": 1, "address": "192.0.2.2"}
    assert sorted(len(slots) for slots in made["preferred"].values()) == [21, 21, 22]
    assert len(made["ranks"]) == 64
    assert sorted(b for buckets in made["claims"].values() for b in buckets) == list(range(1, 257))
    assert made["members"]["h3"] == [{"name": "vpn", "number": 3}]
    assert set(made["moves"]) == {""}
    assert made["generation"] == 1


def test_the_same_again_moves_nothing():
    before = ring(three())
    after = ring(three(), [before, {}, before])
    assert after["moves"] == {}
    assert after["generation"] == 1
    assert after["ranks"] == before["ranks"]


def test_a_host_that_is_down_stays_what_it_was():
    before = ring(three())
    after = ring({**three(), "h2": {}}, [before])
    assert after == {**before, "moves": {}, "held": {"h1": 22, "h2": 21, "h3": 21}}


def test_a_host_that_was_never_seen_has_no_part_yet():
    assert set(ring({**three(), "h4": {}})["hosts"]) == {"h1", "h2", "h3"}


def test_the_newest_knowledge_counts():
    old = ring(three())
    new = ring({**three(), "h4": settings(4)}, [old])
    assert new["generation"] == 2
    again = ring({**three(), "h4": settings(4)}, [old, new, old])
    assert again["moves"] == {}


def test_numbers_stay_when_hosts_come_and_go():
    before = ring(three())
    without = {host: mine for host, mine in three().items() if host != "h1"}
    after = ring({"h0": settings(9), **without}, [before])
    assert {host: facts["number"] for host, facts in after["hosts"].items()} == {"h0": 1, "h2": 2, "h3": 3}


def test_a_host_that_leaves_has_no_slots():
    after = ring({**three(), "h2": settings(2, leaving=True)}, [ring(three())])
    assert set(after["hosts"]) == {"h1", "h3"}


def test_members_have_numbers_of_their_own():
    made = ring(three(members=2, members_max=4))
    assert [m["name"] for host in ("h1", "h2", "h3") for m in made["members"][host]] == [
        *("vpn1", "vpn2", "vpn5", "vpn6", "vpn9", "vpn10")
    ]
    assert made["members"]["h1"][1] == {"name": "vpn2", "number": 2, "cpus": [1]}


def test_engines_that_hash_alike_are_alike():
    hosts = {**three(), "h2": settings(2, hash_as="xt_cluster")}
    assert ring(hosts) == ring(three())


def test_buckets_of_a_host_that_is_down_are_its_own_still():
    hosts = {
        "h1": settings(1, failover=False, slots=1, total_nodes=4, local_nodes=[1, 3], vrrp_address=""),
        "h2": settings(2, failover=False, slots=1, total_nodes=4, local_nodes=[2, 4], vrrp_address=""),
    }
    before = ring(hosts)
    assert ring({**hosts, "h2": {}}, [before])["claims"] == before["claims"]


def test_slots_stay_as_many_as_they_are():
    before = ring(three())
    with pytest.raises(ParameterError, match=r"^slots: 32: the cluster has 64; keep that number"):
        ring(three(slots=32), [before])
    assert ring(three(failover=False), [before])["slots"] == 256


def test_buckets_can_be_said_without_failover():
    hosts = {
        "h1": settings(1, failover=False, slots=1, total_nodes=4, local_nodes=[1, 3]),
        "h2": settings(2, failover=False, slots=1, total_nodes=4, local_nodes=[2, 4]),
    }
    assert ring(hosts)["claims"] == {"h1": [1, 3], "h2": [2, 4]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hash_init": 7}, r"hash_init: 7: set on h2, but h1 has 0; use the same value on all hosts"),
        ({"total_nodes": 128}, r"total_nodes: 128: set on h2, but h1 has 256"),
        ({"clustermac": "03:00:00:00:00:01"}, r"clustermac: '03:00:00:00:00:01': set on h2"),
        ({"address": "192.0.2.11"}, r"address: '192.0.2.11': set on h2"),
        ({"vrrp_address": "192.0.2.1"}, r"vrrp_address: '192.0.2.1': named twice"),
        ({"members": 17}, r"members: 17: use 0, for the host itself, to 16"),
        ({"local_nodes": [1]}, r"local_nodes: \[1\]: remove it on h2, or set failover to false"),
        ({"hash_as": "clusterip"}, r"hash_as: 'clusterip': set on h2, but h1 has 'nftables'"),
        ({"vrrp_address": ""}, r"vrrp_interface: 'eth0': has no IPv4 address on h2"),
        ({"check": {**CHECK, "command": "nc -z"}}, r"check_command: 'nc -z': use a list"),
        ({"check": {**CHECK, "command": ["nc", 80]}}, r"check_command: \['nc', 80\]: use a list"),
        ({"check": {**CHECK, "fall": 0}}, r"check_fall: 0: use at least 1 check in a row"),
        ({"check": {**CHECK, "timeout": 0}}, r"check_timeout: 0: use seconds above 0"),
    ],
)
def test_one_host_is_told_something_else(changes, message):
    with pytest.raises(ParameterError, match=f"^{message}"):
        ring({**three(), "h2": settings(2, **changes)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"address": "192.0.2.3"}, r"address: '192.0.2.3': it is an own address of h3"),
        ({"address": "nonsense"}, r"address: 'nonsense': write an address"),
        ({"clustermac": "02:00:00:00:00:01"}, r"clustermac: '02:00:00:00:00:01': a multicast"),
        ({"slots": 256}, r"slots: 256: use a divisor of total_nodes \(256\) up to 255"),
        ({"slots": 60}, r"slots: 60: use a divisor of total_nodes \(256\) up to 255"),
        ({"first_vrid": 200}, r"first_vrid: 200: use 1 to 192: 64 slots need as many identifiers up to 255"),
        ({"advert_interval": 41}, r"advert_interval: 41: use 0.01 to 40.95 seconds"),
        ({"weight": 0}, r"weight: .*: use weights of 0 or more"),
        ({"number": 1}, r"number: 1: named twice"),
        ({"first_vrid": 193}, r"first_vrid: 193: use 1 to 192"),
        ({"vrrp_group": "224.0.1.1"}, r"vrrp_group: '224.0.1.1': use an IPv4 multicast group of the LAN"),
        ({"vrrp_group": "192.0.2.1"}, r"vrrp_group: '192.0.2.1': use an IPv4 multicast group of the LAN"),
        ({"vrrp_group": "224.0.0.x"}, r"vrrp_group: '224.0.0.x': use an IPv4 multicast group of the LAN"),
        ({"leaving": True}, r"hosts: .*: all of them leave the cluster"),
        ({"failover": False, "local_nodes": [1]}, r"local_nodes: 1: h1 and h2 own it"),
    ],
)
def test_what_no_host_can_be_settings(changes, message):
    with pytest.raises(ParameterError, match=f"^{message}"):
        ring(three(**changes))


def test_the_result_has_the_vrrp_instances_of_all_slots():
    made = ring(three(first_vrid=101))
    instances = made["vrrp"]["instances"]
    assert [one["vrid"] for one in instances] == list(range(101, 165))
    for one, hosts in zip(instances, made["ranks"]):
        assert list(one["priorities"].items()) == list(zip(hosts, (250, 242, 234)))
    assert instances[0]["name"] == "vpn-1"
    assert instances[63]["address"] == "127.64.101.64"
    assert ring(three(failover=False))["vrrp"]["instances"] == []


def test_buckets_of_nobody():
    hosts = {host: {**mine, "local_nodes": [], "failover": False} for host, mine in three().items()}
    with pytest.raises(ParameterError, match=r"^local_nodes: \[3, .*no host owns these buckets"):
        ring({**hosts, "h1": {**hosts["h1"], "local_nodes": [1, 2]}})


def election_of(made):
    return made["first_vrid"], made["group"], made["placeholder"]


def stored_before(made):
    """The ring as a release without identifiers stored it."""
    return {key: value for key, value in made.items() if key not in ("first_vrid", "group", "placeholder", "vrrp")}


def test_a_new_ring_elects_in_a_group_of_its_own_with_the_highest_identifiers():
    assert election_of(ring(three(first_vrid=0))) == (192, "224.0.0.181", 192)
    assert election_of(ring(three(first_vrid=0, slots=32))) == (224, "224.0.0.181", 224)
    assert election_of(ring(three(first_vrid=7, vrrp_group="224.0.0.18"))) == (7, "224.0.0.18", 7)
    again = ring(three(first_vrid=0), [ring(three(first_vrid=0))])
    assert election_of(again) == (192, "224.0.0.181", 192)


@pytest.mark.parametrize(("first_vrid", "kept"), [(0, 1), (1, 1), (101, 101)])
def test_an_installed_ring_keeps_identifiers_and_group(first_vrid, kept):
    installed = ring(three(first_vrid=kept))
    after = ring(three(first_vrid=first_vrid), [stored_before(installed)])
    assert election_of(after) == (kept, "224.0.0.18", kept)
    assert after["moves"] == {}
    assert after["generation"] == installed["generation"]
    assert election_of(ring(three(first_vrid=0), [after])) == election_of(after)


def test_a_ring_changes_how_it_elects_when_the_variables_say_so():
    before = ring(three(first_vrid=0), [stored_before(ring(three(first_vrid=1)))])
    after = ring(three(first_vrid=192, vrrp_group="224.0.0.181"), [before])
    assert election_of(after) == (192, "224.0.0.181", 1), "placeholders stay: the claims process knows their network"
    assert after["vrrp"]["changes"]
    assert after["vrrp"]["accepted"] == [
        {"group": "224.0.0.181", "first": 192, "last": 255},
        {"group": "224.0.0.18", "first": 1, "last": 64},
    ]
    assert after["vrrp"]["placeholders"] == "127.64.1.0/24"
    assert (after["moves"], after["generation"]) == ({}, before["generation"])
    again = ring(three(first_vrid=0), [after])
    assert election_of(again) == election_of(after)
    assert not again["vrrp"]["changes"]
    assert again["vrrp"]["accepted"] == after["vrrp"]["accepted"][:1]


def test_hosts_never_elect_apart():
    before = ring(three(first_vrid=0))
    with pytest.raises(ParameterError, match=r"^first_vrid: 9: h2 is not in this run, and would elect apart"):
        ring({**three(first_vrid=9), "h2": {}}, [before])
    with pytest.raises(ParameterError, match=r"^vrrp_group: '224.0.0.18': hosts or weights change as well"):
        ring(
            {**three(first_vrid=0, vrrp_group="224.0.0.18"), "h4": settings(4, first_vrid=0, vrrp_group="224.0.0.18")},
            [before],
        )


def test_a_new_mac_address_moves_nothing():
    before = ring(three(vrrp_mac="02:00:00:00:00:01"))
    assert before["hosts"]["h1"]["mac"] == "02:00:00:00:00:01"
    after = ring(three(vrrp_mac="02-00-00-00-00-02"), [before])
    assert after["hosts"]["h1"]["mac"] == "02:00:00:00:00:02"
    assert (after["moves"], after["generation"]) == ({}, before["generation"])
