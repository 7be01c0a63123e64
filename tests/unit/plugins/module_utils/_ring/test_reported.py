# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A compromised host reports anything: nothing of it reaches another host unchecked, and the error names the host."""

from __future__ import annotations

import copy
import re
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.audit import audit
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.ring import ring

from . import test_audit
from .test_ring import CHECK, settings, three

INJECTION = "192.0.2.2 } accept } }\ntable ip evil { chain c { type filter hook input priority 0; policy drop; } }\n#"

HOSTILE: dict[str, list[t.Any]] = {
    "vrrp_address": [
        *(INJECTION, "192.0.2.2; drop", "2001:db8::2", "0.0.0.0", "224.0.0.18", "127.0.0.1", "192.0.2.2/24"),
        *(["192.0.2.2"], 3221225986, {"a": 1}, None, True, "192.0.2.2\n", "١٩٢.0.2.2", "192.0.2.02"),
    ],
    "vrrp_interface": [
        *('eth0" accept', "eth0\nx", "eth0 x", "a" * 16, "../x", ["eth0"], None, 0),
    ],
    "vrrp_mac": ["02:00:00:00:00:01\n", "02:00:00:00:00:01 return", "03:00:00:00:00:01", "x", None, 5],
    "vrrp_group": ["224.0.0.181\n}", None, ["224.0.0.181"]],
    "number": ["1; x", -1, 65537, 1.5, True, None],
    "weight": ["1", True, 10**9, None, [1], 0.5],
    "members": ["1", None, True, 10**12],
    "name": ["vpn\n", ["vpn"], None, 1],
    "first_vrid": ["1-255", None, 1.0],
    "advert_interval": ["0.3\n}", None, float("nan"), float("inf"), True],
    "services": ["x", ["x"], {"a": 1}],
    "local_nodes": ["1", [None], [True], {"a": 1}],
    "check": ["x", {}, {**CHECK, "fall": "x"}, {**CHECK, "command": 1}],
    "facts": [
        *("x", [], {"interfaces": ["eth0"], "eth0": {"ipv4": {"address": INJECTION, "netmask": "255.255.255.0"}}}),
        *({"interfaces": 5}, {"interfaces": ["eth0"], "eth0": 5}, {"interfaces": [5]}, {"processor_vcpus": "2; x"}),
        {"interfaces": ["eth0"], "eth0": {"ipv6": [{"address": "::1"}]}},
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HOSTILE.items() for value in values])
def test_a_hostile_setting_is_refused_with_the_name_of_the_host(name: str, value: t.Any) -> None:
    with pytest.raises(ParameterError, match=r"\bh2\b") as caught:
        ring({**three(), "h2": settings(2, **{name: value})})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", settings(1))
def test_a_setting_that_a_host_leaves_out_is_refused(name: str) -> None:
    short = {key: value for key, value in settings(2).items() if key != name}
    with pytest.raises(ParameterError, match=rf"^{name}: .*\bh2\b"):
        ring({**three(), "h2": short})


@pytest.mark.parametrize("name", ["pki_directory", "clusterip_cluster_check_command", "tunnel_bundle_networks"])
def test_facts_that_are_variables_of_roles_are_refused(name: str) -> None:
    facts = {**settings(2)["facts"], name: "/etc"}
    with pytest.raises(ParameterError, match=rf"^{name}: 'h2': .*returns the variable as a fact.*inject_facts_as_vars"):
        ring({**three(), "h2": settings(2, facts=facts)})


def changed(stored: t.Any, path: tuple[t.Any, ...], value: t.Any) -> t.Any:
    result = copy.deepcopy(stored)
    at = result
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return result


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hosts", "h3", "address"), INJECTION),
        (("hosts", "h3", "address"), "2001:db8::1"),
        (("hosts", "h3", "mac"), "02:00:00:00:00:01 return"),
        (("group",), "224.0.0.181\n}"),
        (("first_vrid",), "1"),
        (("hosts", "h3", "number"), "1"),
        (("hosts", "h3", "weight"), -1),
        (("members", "h3", 0, "name"), "../../etc"),
        (("members", "h3", 0, "cpus"), ["1;x"]),
        (("claims", "h3"), ["all"]),
        (("preferred", "h3"), [0]),
        (("slots",), "64"),
        (("generation",), 10**9),
        (("generation",), "9"),
        (("evil",), 1),
    ],
)
def test_a_hostile_stored_ring_is_refused_with_the_name_of_the_host(path: tuple[t.Any, ...], value: t.Any) -> None:
    before = {**ring(three()), "generation": 7}
    stored = {"h1": ring(three()), "h2": changed(before, path, value), "h3": {}}
    with pytest.raises(ParameterError, match=r"\bh2\b"):
        ring({**three(), "h3": {}}, stored)


anything: t.Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted(settings(2))
# What the templates of the role take from the ring, besides the names of hosts, which are those of the inventory.
ADDRESS = re.compile(r"(\d{1,3}\.){3}\d{1,3}\Z", re.ASCII)


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=4))
def test_a_ring_of_anything_is_refused_or_has_addresses_alone(junk: dict[str, t.Any]) -> None:
    try:
        made = ring({**three(), "h2": {**settings(2), **junk}})
    except ParameterError:
        return
    assert all(ADDRESS.match(host["address"]) for host in made["hosts"].values())
    assert all(type(host["number"]) is int and type(host["weight"]) is int for host in made["hosts"].values())


@given(
    st.lists(st.sampled_from(["hosts", "h3", "address", "members", "claims", "generation", "x"]), max_size=3), anything
)
def test_a_stored_ring_of_anything_is_refused_or_has_addresses_alone(path: list[str], junk: t.Any) -> None:
    before = ring(three())
    stored: t.Any = copy.deepcopy(before)
    at = stored
    for key in path[:-1]:
        at = at.setdefault(key, {}) if isinstance(at, dict) else {}
    if not path:
        stored = junk
    elif isinstance(at, dict):
        at[path[-1]] = junk
    try:
        made = ring({**three(), "h3": {}}, {"h1": before, "h2": stored})
    except ParameterError:
        return
    assert all(ADDRESS.match(host["address"]) for host in made["hosts"].values())


@given(st.sampled_from(["cluster", "cluster_ipv6", "told", "arp", "sysctls", "snooping"]), anything)
def test_the_audit_takes_any_findings(name: str, junk: t.Any) -> None:
    try:
        problems = audit({**test_audit.HEALTHY, "h2": {**test_audit.HEALTHY["h2"], name: junk}})
    except ParameterError as exc:
        problems = [str(exc)]
        if "h2" not in problems[0]:
            raise
    assert all(isinstance(one, str) for one in problems)


def test_the_audit_counts_no_buckets_that_a_host_invents() -> None:
    huge = {**test_audit.HEALTHY["h2"]["cluster"], "total_nodes": 10**12}
    with pytest.raises(ParameterError, match=r"^cluster: .*h2 reports it"):
        audit({**test_audit.HEALTHY, "h2": {**test_audit.HEALTHY["h2"], "cluster": huge}})
