# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import claim
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines import nft_listing
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.registry import uplink_of
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import step
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, Model, a_cluster

TABLE = "clustered_openvpn_vpn"
A, B = MACS[1], MACS[2]
ALL_A = [
    {"netns": "vpn1", "mac": A, "local_nodes": [1, 2, 3, 4]},
    {"netns": "vpn2", "mac": B, "local_nodes": []},
]


def host():
    model = Model("vpn1", "vpn2")
    model.add("", "nic", up=True)
    model.add("", "br-vpn", "bridge", up=True)
    for cluster in (a_cluster(), a_cluster(address="2001:db8::10")):
        model.apply(step("sysctl", key=key, value="7") for key in uplink_of(cluster).host_sysctls(cluster))
    return model


def converge(model, cluster, present=True, elsewhere=None):
    """Apply the planned steps, and check that none are left; returns them."""
    steps = claim.plan(cluster, present, model.views, model.listings, elsewhere)
    model.apply(steps)
    assert [s.text for s in claim.plan(cluster, present, model.views, model.listings, elsewhere)] == []
    return steps


def test_the_hosts_sysctls_are_remembered_and_are_again_what_they_were():
    model = host()
    before = dict(model.views[""].sysctls)
    forwarding, nic = "net/ipv4/conf/br-vpn/forwarding", "net/ipv4/conf/nic/forwarding"
    model.apply([step("sysctl", key=nic, value="1")])  # another program has set it
    converge(model, a_cluster())
    assert model.views[""].sysctls[forwarding] == "1"
    assert nft_listing.sysctls_in(model.listings["", "netdev", TABLE])[forwarding] == "7"
    converge(model, a_cluster(state="absent"), present=False)
    assert dict(model.views[""].sysctls) == {**before, nic: "1"}


def test_the_last_cluster_of_a_host_takes_its_sysctls_back():
    model, second = host(), {"name": "two", "address": "192.0.2.20"}
    before = dict(model.views[""].sysctls)
    converge(model, a_cluster())
    first = nft_listing.sysctls_in(model.listings["", "netdev", TABLE])
    converge(model, a_cluster(**second), elsewhere=first)
    held = nft_listing.sysctls_in(model.listings["", "netdev", "clustered_openvpn_two"])
    assert held == first
    changed = dict(model.views[""].sysctls)
    converge(model, a_cluster(state="absent"), present=False, elsewhere=held)
    assert dict(model.views[""].sysctls) == changed
    converge(model, a_cluster(**second, state="absent"), present=False)
    assert dict(model.views[""].sysctls) == before


def owners(model):
    held = nft_listing.owners_on_host(model.listings["", "netdev", TABLE])
    return {bucket: mac for mac, buckets in held.items() for bucket in buckets}


def test_a_cluster_is_made_once():
    model = host()
    assert claim.moved(a_cluster(), True, model.listings) == 4
    converge(model, a_cluster())
    assert claim.moved(a_cluster(), True, model.listings) == 0
    assert owners(model) == {1: A, 2: A, 3: B, 4: B}
    assert all("192.0.2.10/32" in model.views[netns].links["lo"].addresses for netns in ("vpn1", "vpn2"))


def test_rules_come_before_addresses_and_the_host_after_its_members():
    places = [(s.netns, s.op) for s in converge(host(), a_cluster())]
    assert places[:5] == [("vpn1", "nft"), ("vpn1", "addr_add"), ("vpn2", "nft"), ("vpn2", "addr_add"), ("", "nft")]
    assert {netns for netns, op in places[5:]} == {""}
    assert places[-1] == ("", "proxy_add")


def test_two_addresses_of_one_name_are_apart():
    model, six = host(), a_cluster(address="2001:db8::10")
    converge(model, a_cluster())
    four = dict(model.listings)
    converge(model, six)
    assert model.views["vpn1"].links["lo"].addresses == {"192.0.2.10/32", "2001:db8::10/128"}
    assert all(model.listings[key] == listing for key, listing in four.items())
    assert converge(model, a_cluster()) == []
    converge(model, a_cluster(), present=False)
    assert converge(model, six) == []
    assert owners(model) == {}


def test_removing_goes_the_other_way_round_and_leaves_nothing():
    model = host()
    converge(model, a_cluster())
    places = [(s.netns, s.op) for s in converge(model, a_cluster(state="absent"), present=False)]
    assert places[0] == ("", "proxy_del")
    assert places[-5:] == [("", "nft"), ("vpn1", "addr_del"), ("vpn1", "nft"), ("vpn2", "addr_del"), ("vpn2", "nft")]
    assert model.listings == {}


def test_removing_what_was_never_there_is_nothing():
    for model in (host(), Model()):
        assert claim.plan(a_cluster(state="absent"), False, model.views, model.listings) == []


def test_moving_buckets_touches_their_elements_alone_in_one_transaction():
    model = host()
    converge(model, a_cluster())
    after = a_cluster(nodes=ALL_A)
    assert claim.moved(after, True, model.listings) == 2
    assert [s.args["lines"] for s in converge(model, after)] == [
        [f"delete element netdev {TABLE} owner {{ 3, 4 }}", f"add element netdev {TABLE} owner {{ 3 : {A}, 4 : {A} }}"]
    ]
    assert claim.moved(after, True, model.listings) == 0
    assert claim.moved(after, False, model.listings) == 4


def test_structure_without_claims_keeps_the_owners():
    model = host()
    converge(model, a_cluster())
    before = owners(model)
    keep = a_cluster(claims="keep", nodes=ALL_A, hash_init=7)
    assert claim.moved(keep, True, model.listings) == 0
    assert [s.op for s in converge(model, keep)] == ["nft"]  # another seed: other rules
    assert owners(model) == before


@pytest.mark.parametrize(
    ("claims", "expected"),
    [("add", {1: A, 2: A, 3: A, 4: A}), ("release", {3: B, 4: B}), ("keep", {1: A, 2: A, 3: B, 4: B})],
)
def test_claims_of_one_member(claims, expected):
    model = host()
    converge(model, a_cluster())
    converge(model, a_cluster(claims=claims, nodes=ALL_A))
    assert owners(model) == expected


@pytest.mark.parametrize(
    ("by_hand", "repair"),
    [
        (step("addr_del", "vpn2", dev="lo", address="192.0.2.10/32"), [("vpn2", "addr_add")]),
        (step("nft", "vpn1", lines=[f"delete table ip {TABLE}"]), [("vpn1", "nft")]),
        (step("nft", lines=[f"delete table ip {TABLE}"]), [("", "nft")]),
        (step("nft", lines=[f"flush chain netdev {TABLE} host"]), [("", "nft")]),
        (step("nft", lines=[f"delete element netdev {TABLE} owner {{ 1 }}"]), [("", "nft")]),
    ],
)
def test_drift_is_put_right_where_it_is(by_hand, repair):
    model = host()
    converge(model, a_cluster())
    model.apply([by_hand])
    assert [(s.netns, s.op) for s in converge(model, a_cluster())] == repair


def test_the_tables_to_list_are_those_that_are_planned():
    model = host()
    converge(model, a_cluster())
    assert set(model.listings) <= set(claim.tables_of(a_cluster()))


def test_in_a_flood_members_accept_new_buckets_before_others_release_them():
    model = host()
    converge(model, a_cluster(distribution="flood"))
    steps = converge(model, a_cluster(distribution="flood", nodes=ALL_A))
    assert [(s.netns, s.args["lines"]) for s in steps] == [
        ("vpn1", [f"add element netdev {TABLE} owned {{ 3, 4 }}"]),
        ("vpn2", [f"delete element netdev {TABLE} owned {{ 3, 4 }}"]),
    ]


@pytest.mark.parametrize(("before", "after"), [("steer", "flood"), ("flood", "steer")])
def test_the_distribution_can_be_changed_and_removed(before, after):
    model = host()
    converge(model, a_cluster(distribution=before))
    converge(model, a_cluster(distribution=after, claims="keep"))
    cluster = a_cluster(distribution=after)
    assert claim.plan(cluster, True, model.views, model.listings) == [], "the owners came along"
    fresh = host()
    converge(fresh, cluster)
    assert model.listings == fresh.listings
    assert claim.owners_of(cluster, model.listings) == {A: {1, 2}, B: {3, 4}}
    converge(model, a_cluster(state="absent", distribution=after), present=False)
    assert model.listings == {}
