# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import bundle as _bundle
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

ROLE = Path(__file__).parents[5] / "roles/tunnel_bundle"
PARAMS = {
    "name": "site",
    "networks": ["10.99.0.128/25", "192.168.2.0/24"],
    "addresses": ["10.99.0.1"],
    "device_type": "tun",
    "spread": "per_packet",
    "snat": "none",
    "mtu": 1448,
    "queue": 1000,
    "user": "openvpn",
    "group": "openvpn",
    "timeout": 1.5,
    "probe_port": 11940,
    "reordering": 0,
    "congestion_control": "",
    "rule_priority": 10000,
}


def tunnel(number, weight=1, **other):
    addresses = [{"local": f"10.99.0.{number + 1}", "peer": f"10.99.0.{number + 129}"}]
    made = {"number": number, "device": f"site-{number}", "port": 1194 + number, "mark": 1194 + number}
    return {**made, "weight": weight, "addresses": addresses, **other}


def bundle(*weights, **other):
    given = {**PARAMS, "tunnels": [tunnel(i + 1, weight) for i, weight in enumerate(weights)], **other}
    return _bundle.bundle_from(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tunnels": []}, "tunnels: 0"),
        ({"tunnels": [tunnel(1), tunnel(1)]}, "named twice"),
        ({"tunnels": [tunnel(1), tunnel(2, port=1195)]}, "port: 1195: named twice"),
        ({"tunnels": [tunnel(1, mark=254)]}, "mark: 254"),
        ({"tunnels": [tunnel(1, weight=0), tunnel(2, weight=0)]}, "weight"),
        ({"networks": []}, "networks"),
        ({"networks": ["10.99.0.0/24"]}, "contains 10.99.0.1, an address of this end"),
        ({"networks": ["fd00::/64"]}, "no IPv6 addresses"),
        ({"probe_port": 1195}, "probe_port: 1195: this is the port of a tunnel"),
        ({"timeout": 0.01}, "timeout: 0.01"),
        ({"mtu": 500}, "mtu: 500"),
        ({"name": "Site"}, "name: 'Site'"),
        ({"congestion_control": "a b"}, "congestion_control"),
    ],
)
def test_what_cannot_be_is_refused_with_words(given, message):
    with pytest.raises(ParameterError) as refused:
        _bundle.bundle_from({**PARAMS, "tunnels": [tunnel(1)], **given})
    assert message in str(refused.value)


@pytest.mark.parametrize("rate", [0.1, 0.7, 33.3, 66.6, 123.457, 99_999.9])
def test_a_rate_is_one_that_tc_can_hold(rate):
    (made,) = bundle(1, tunnels=[tunnel(1, rate=rate)]).tunnels
    assert made.rate % 8 == 0
    assert made.rate == pytest.approx(rate * 1_000_000, abs=8)


def test_no_cluster_can_have_the_name_of_the_table():
    assert bundle(1).table == "clustered_openvpn_site.bundle"


def test_the_role_has_the_defaults_of_the_module():
    role = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    renamed = {"queue": "txqueuelen"}
    by_the_role = {"addresses", "former_addresses", "mtu", "networks"}  # computed from other settings
    differ = {"reordering"}  # the module leaves it to the kernel
    for name, option in _bundle.BUNDLE_OPTIONS.items():
        if "default" in option and name not in by_the_role | differ:
            assert role[f"tunnel_bundle_{renamed.get(name, name)}"] == option["default"], name
