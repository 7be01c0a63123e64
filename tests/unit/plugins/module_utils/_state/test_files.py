# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in C(installed) were written by the release before format 1 (commit de9d873)."""

from __future__ import annotations

import base64
import contextlib
import json
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.filter.bundle import bundle_layout
from ansible_collections.clustered.openvpn.plugins.filter.cluster import cluster_layout, cluster_ring
from ansible_collections.clustered.openvpn.plugins.filter.state import desired_states, state_text, stored_ring
from ansible_collections.clustered.openvpn.plugins.module_utils._boot import program
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import layout as _bundle_layout
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.bundle import bundle_from
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.registry import AUTO, ENGINES
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.hashing import HASHES
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.registry import UPLINKS
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import failover
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.ring import ring
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.plugins.module_utils._state.cluster import ClusterState, Settings
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils import layouts
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils._bundle import test_layout as bundles
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils._ring import test_ring as rings

INSTALLED = {path.parent.name: path for path in sorted((Path(__file__).parent / "installed").glob("*/*.json"))}
ROUTED = INSTALLED["routed"]
GOOD = json.loads(ROUTED.read_text())


def load(path, content=None):
    read = files.load_ring if path.name == "ring.json" else files.load
    return read(str(path), path.read_bytes() if content is None else content)


def test_the_installed_files_are_of_each_kind():
    states = {name: load(path) for name, path in INSTALLED.items()}
    clusters = {name: state for name, state in states.items() if isinstance(state, ClusterState)}
    assert {state.cluster.uplink for state in clusters.values()} == {"routed", "bridged", "local"}
    empty = [name for name in layouts.NOTHING if not any(getattr(s.retired, name) for s in clusters.values())]
    assert empty == []
    assert states["retired-tunnels"].retired
    assert states["retired-tunnels"].bundle.former_addresses


@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_file_is_read_and_differs_only_by_its_format(name):
    state = load(INSTALLED[name])
    text = files.text(state)
    assert text == json.dumps({**json.loads(INSTALLED[name].read_text()), "format": 1}, indent=4, sort_keys=True) + "\n"
    assert load(INSTALLED[name], text.encode()) == state


def test_a_run_on_an_installed_host_changes_the_format_alone():
    for name, laid_out in (
        ("routed", lambda before: cluster_layout(ROUTED_WANTED, before)),
        ("bundle", lambda before: bundle_layout(BUNDLE_WANTED, before)),
    ):
        before = json.loads(INSTALLED[name].read_text())
        assert laid_out(before) == {**before, "format": 1}
        assert laid_out(laid_out(before)) == laid_out(before)
    before = json.loads(INSTALLED["vpn.ring"].read_text())
    hosts = {f"h{n}": rings.settings(n, total_nodes=16, slots=16, members=2) for n in (1, 2)}
    # It stores how the ring elects, which releases before did not.
    election = {"first_vrid": 1, "group": "224.0.0.18", "placeholder": 1}
    after = state_text(cluster_ring(hosts, [before]), finished=True)
    assert after == files.text(files.ring_of({**before, **election}))
    assert state_text(cluster_ring(hosts, [json.loads(after)]), finished=True) == after


ROUTED_WANTED = layouts.wanted(
    size=2, pin=True, total_nodes=16, ipv6_address="2001:db8::10", instances=[layouts.UDP_IPV6, layouts.TCP]
)
BUNDLE_WANTED = {**bundles.SETTINGS, "ends": bundles.ENDS_IPV6, "end": 1, "rate": 40}


@pytest.mark.parametrize("name", INSTALLED)
def test_a_finished_state_has_nothing_left_to_remove_or_move(name):
    state = files.finished(load(INSTALLED[name]))
    assert files.finished(state) == state
    found = files.document(state)
    if "retired" in found:
        assert not any(found["retired"].values() if isinstance(found["retired"], dict) else found["retired"])


def test_files_of_the_time_before_ipv6_are_completed():
    old = {**GOOD, "cluster": {**GOOD["cluster"], "engine": "xt_cluster"}}
    del old["addresses"], old["cluster"]["hash_as"], old["cluster"]["forward_ipv6"]
    state = files.state_of(old)
    assert [one.address for one in state.addresses] == ["192.0.2.10"]
    assert (state.cluster.hash_as, state.cluster.forward_ipv6) == ("xt_cluster", False)


def slurped(path, content):
    return {"source": f"/etc/clustered-openvpn/{path}", "content": base64.b64encode(content).decode()}


def test_the_roles_read_all_files_of_a_host():
    read = [slurped("vpn.json", ROUTED.read_bytes()), slurped("site.json", INSTALLED["bundle"].read_bytes())]
    states = desired_states(read)
    assert set(states) == {"vpn", "site"}
    assert states["vpn"] == {**GOOD, "format": 1}
    assert state_text(states["vpn"]) == files.text(files.state_of(GOOD))
    with pytest.raises(AnsibleFilterError, match=r"^/etc/clustered-openvpn/other.json is damaged \(servers: null is"):
        desired_states([*read, slurped("other.json", changed(servers=None))])


def test_the_role_reads_the_ring_of_a_host_if_there_is_one():
    content = INSTALLED["vpn.ring"].read_bytes()
    assert stored_ring(slurped("vpn.ring/ring.json", content)) == {**json.loads(content), "format": 1}
    assert stored_ring({"failed": True, "msg": "file not found: /etc/clustered-openvpn/vpn.ring/ring.json"}) == {}
    with pytest.raises(AnsibleFilterError, match=r"vpn.ring/ring.json is damaged \(it is not an object\)"):
        stored_ring(slurped("vpn.ring/ring.json", b"[]"))


def test_the_format_allows_each_engine_hash_and_uplink():
    allowed = {key: set(t.get_args(kind)) for key, kind in t.get_type_hints(Settings).items()}
    assert allowed["uplink"] == set(UPLINKS)
    assert allowed["engine"] == {AUTO, *ENGINES}
    assert allowed["hash_as"] == {"", *HASHES}


def changed(**members):
    return json.dumps({**GOOD, **members}).encode()


BACKUP = "): restore it from a backup, or remove it and run the role again"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1, column 1: no valid JSON: Expecting value"),
        (ROUTED.read_bytes()[:2000], "line "),
        (b"[]", "it is not an object"),
        (b"null", "it is not an object"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"name": ' * 100_000, "it is nested too deeply"),
        (b'{"name": "\xff"}', "byte 10 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "line 1, column 1: no valid JSON: Unexpected UTF-8 BOM"),
        (b'{"name": "vpn", "name": "vpn"}', 'the member "name" is there twice'),
        (b'{"name": NaN}', "NaN is not a number in JSON"),
        (b'{"name": -Infinity}', "-Infinity is not a number in JSON"),
        (b'{"name": 1' + b"0" * 5000 + b"}", "no valid JSON: Exceeds the limit"),
        (changed(servers=None), "servers: null is not a list"),
        (changed(servers="vpn1-udp"), 'servers: "vpn1-udp" is not a list'),
        (changed(servers={}), "servers: an object is not a list"),
        (changed(cluster=[]), "cluster: a list is not an object"),
        (changed(take_interface=0), "take_interface: 0 is not true or false"),
        (changed(nodes=[{"local_nodes": [True]}]), "nodes[0].local_nodes[0]: true is not a whole number"),
        (changed(nodes=[{"local_nodes": [0]}]), "nodes[0].local_nodes[0]: 0: a number from 1 to 65536 is needed here"),
        (changed(nodes=[{"local_nodes": [1.5]}]), "nodes[0].local_nodes[0]: 1.5 is not a whole number"),
        (changed(push=["a\nb"]), "push[0]: 'a\\nb': write it without control characters"),
        (changed(push=["x" * 5000]), "push[0]: longer than 4096 characters"),
        (
            changed(cluster={**GOOD["cluster"], "hash_init": 10**4000}),
            "cluster.hash_init: a number of more than 20 digits",
        ),
        (
            changed(cluster={**GOOD["cluster"], "hash_init": -1}),
            "cluster.hash_init: -1 is not between 0 and 4294967295",
        ),
        (changed(cluster={**GOOD["cluster"], "uplink": "direct"}), 'cluster.uplink: "direct" is not "routed" or'),
        (changed(cluster={**GOOD["cluster"], "address": "a"}), "cluster.address: 'a': write an address"),
        (changed(namespaces=[{"name": "vpn1", "sysctls": {"a": 1}}]), "namespaces[0].sysctls.a: 1 is not a text"),
        (changed(failover={"slots": 64}), "failover.placeholders: missing"),
        (changed(server=[]), "server: unknown member"),
        (changed(format=0), "format: 0 is not 1"),
        (changed(format=True), "format: true is not 1"),
        (changed(format="2"), 'format: "2" is not 1'),
        (changed(format=None), "format: null is not 1"),
    ],
)
def test_a_damaged_file_is_one_sentence_with_path_and_remedy(content, reason):
    with pytest.raises(files.StateError) as error:
        files.load("/etc/clustered-openvpn/vpn.json", content)
    assert str(error.value).startswith(f"/etc/clustered-openvpn/vpn.json is damaged ({reason}")
    assert str(error.value).endswith(BACKUP)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("content", [changed(format=2), b'{"format": 99, "clusters": []}'])
def test_a_file_of_a_newer_release_is_left_to_it(content):
    with pytest.raises(files.StateError, match=r"vpn\.json was written by a newer release of clustered.openvpn"):
        files.load("/etc/clustered-openvpn/vpn.json", content)


def test_a_file_under_another_name_is_refused():
    with pytest.raises(files.StateError, match=r"two.json is damaged \(it holds the desired state of 'vpn'"):
        files.load("/etc/clustered-openvpn/two.json", ROUTED.read_bytes())


def test_a_ring_names_its_hosts_everywhere():
    damaged = json.loads(INSTALLED["vpn.ring"].read_text())
    del damaged["claims"]["h2"]
    with pytest.raises(files.StateError, match=r"ring.json is damaged \(claims: has no entry of the host h2\)"):
        files.load_ring("/etc/clustered-openvpn/vpn.ring/ring.json", json.dumps(damaged).encode())


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    st.sampled_from(
        ["", "vpn1", "192.0.2.1", "10.0.0.0/8", "02:00:00:00:00:01", "2001:db8::1/64", "default", 0, 1, 256]
    ),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def places(document, at=()):
    """Paths to all members and entries of a document."""
    entries = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in entries:
        yield (*at, key)
        yield from places(value, (*at, key))


def altered(document, place, value):
    (key, *rest), copied = place, document.copy()
    copied[key] = altered(document[key], rest, value) if rest else value
    return copied


@st.composite
def nearly_installed(draw, names):
    """A file of an installation in which one or two values are others."""
    path = INSTALLED[draw(st.sampled_from(names))]
    document = json.loads(path.read_text())
    for _change in range(draw(st.integers(1, 2))):
        # Now and then a value that stands elsewhere in the file: of the right type, at the wrong place.
        elsewhere = document
        for key in draw(st.sampled_from([*places(document)])):
            elsewhere = elsewhere[key]
        document = altered(
            document, draw(st.sampled_from([*places(document)])), draw(st.one_of(JSON, st.just(elsewhere)))
        )
    return path, json.dumps(document).encode()


@given(st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_whatever_the_file_holds_there_is_a_state_or_one_error(content):
    for read in (files.load, files.load_ring):
        with pytest.raises(files.StateError, match=r"^/x/vpn\.json (is damaged|was written)"):
            read("/x/vpn.json", content)


HOST = {
    "interfaces": ["lo", "eth0", "br0", "ve-vpn1", "ve-vpn2", "ve-vpn3"],
    "lo": {},
    "eth0": {},
    "br0": layouts.LAN["br0"],
}


@given(nearly_installed([name for name in INSTALLED if not name.endswith(".ring")]))
def test_each_reader_takes_a_state_that_was_loaded(given_file):
    path, content = given_file
    try:
        state = load(path, content)
    except files.StateError:
        return
    document = json.loads(files.text(state))
    assert files.state_of(document) == state
    for use in (
        lambda: program.parts_of(state, True),
        lambda: failover.failover_from(state),
        lambda: layouts.layout(document, facts=HOST, size=1),
        lambda: layouts.layout(document, **{**layouts.BRIDGED, "facts": {**layouts.LAN, **HOST}}),
        lambda: layouts.layout(
            others=[{**document, "name": "two"}], failover=layouts.FAILOVER, ipv6_address="2001:db8::9"
        ),
        lambda: bundles.lay_out(document, tunnels=1),
        lambda: isinstance(state, ClusterState) or bundle_from(_bundle_layout.draining(state)),
    ):
        with contextlib.suppress(ParameterError, files.StateError):
            use()


@given(nearly_installed([name for name in INSTALLED if name.endswith(".ring")]))
def test_the_next_ring_takes_a_ring_that_was_loaded(given_file):
    path, content = given_file
    try:
        before = files.document(load(path, content))
    except files.StateError:
        return
    hosts = {
        "h1": rings.settings(1, total_nodes=16, slots=16),
        "h2": {},
        "h3": rings.settings(3, total_nodes=16, slots=16),
    }
    with contextlib.suppress(ParameterError):
        state_text(ring(hosts, [before]))
