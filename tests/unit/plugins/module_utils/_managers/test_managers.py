# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.filter.cluster import cluster_layout
from ansible_collections.clustered.openvpn.plugins.filter.state import host_links
from ansible_collections.clustered.openvpn.plugins.module_utils._managers.managers import (
    MANAGERS,
    MARK,
    Links,
    Seen,
    links_from,
    plan,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import BRIDGED, wanted

NAMES = [manager.name for manager in MANAGERS]
LINKS = links_from("vpn", ["ve-vpn1", "br-vpn"])
DHCPCD = "hostname\n\ninterface eth0\nstatic ip_address=192.0.2.1/24\n"


def after(steps, files):
    """The files after the steps, and the other commands."""
    files = dict(files)
    for step in steps:
        if step.op == "file":
            files[step.args["path"]] = step.args["content"]
        if step.op == "file_remove":
            del files[step.args["path"]]
    return files, [step.text for step in steps if step.op == "command"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("runs", [True, False], ids=["runs", "installed"])
def test_a_file_is_written_once_and_read_where_the_manager_runs(name, runs):
    found = {"/etc/dhcpcd.conf": DHCPCD} if name == "dhcpcd" else {}
    seen = Seen(frozenset({name}), frozenset({name} if runs else ()), found)
    written, commands = after(plan(LINKS, True, seen), found)
    assert len(commands) == runs
    (text,) = written.values()
    assert all(link in text for link in LINKS.interfaces)
    again = Seen(seen.installed, seen.running, written)
    assert plan(LINKS, True, again) == []
    removed, commands = after(plan(LINKS, False, again), written)
    assert (removed, len(commands)) == (found, runs)
    assert plan(LINKS, False, Seen(seen.installed, seen.running, removed)) == []


def test_no_file_for_managers_that_are_not_installed():
    assert plan(LINKS, True, Seen()) == []


def test_the_file_of_networkd_comes_before_all_others():
    steps = plan(LINKS, True, Seen(frozenset({"systemd-networkd"}), frozenset({"systemd-networkd"})))
    assert [step.text for step in steps] == [
        "install -D -m 0644 /dev/stdin /etc/systemd/network/00-clustered-openvpn-vpn.network <<'EOF'\n"
        f"{MARK}\n[Match]\nName=br-vpn\nName=ve-vpn1\n\n[Link]\nUnmanaged=yes\nEOF",
        "networkctl reload",
    ]


def test_links_that_a_manager_has_taken_are_released():
    name = "systemd-networkd"
    seen = Seen(frozenset({name}), frozenset({name}))
    files, _commands = after(plan(LINKS, True, seen), {})
    taken = Seen(seen.installed, seen.running, files, {name: ("ve-vpn1",)})
    assert [step.text for step in plan(LINKS, True, taken)] == ["networkctl reconfigure ve-vpn1"]


def test_two_clusters_share_the_file_of_dhcpcd():
    path, other = "/etc/dhcpcd.conf", Links("other", ("br-other",))
    found = {path: DHCPCD}
    for links in (LINKS, other):
        found, _commands = after(plan(links, True, Seen(frozenset({"dhcpcd"}), files=found)), found)
    assert found[path].index("denyinterfaces br-vpn ve-vpn1\n") < found[path].index("interface eth0")
    for links in (LINKS, other):
        found, _commands = after(plan(links, False, Seen(frozenset({"dhcpcd"}), files=found)), found)
    assert found == {path: DHCPCD}


@pytest.mark.parametrize("manager", MANAGERS, ids=NAMES)
@pytest.mark.parametrize("present", [True, False])
def test_a_foreign_file_is_neither_overwritten_nor_removed(manager, present):
    foreign = "# BEGIN clustered.openvpn vpn\n" if manager.name == "dhcpcd" else "[Match]\nName=br-vpn\n"
    seen = Seen(frozenset({manager.name}), files={manager.path("vpn"): foreign})
    with pytest.raises(ParameterError, match="remove it"):
        plan(LINKS, present, seen)


@pytest.mark.parametrize("link", ["ve-*", "a;b", "!a", "a[b", "a,b"])
def test_names_that_managers_read_as_a_pattern_are_refused(link):
    with pytest.raises(ParameterError, match=r"^interfaces: "):
        links_from("vpn", [link])


def test_the_links_of_a_cluster():
    assert host_links(cluster_layout(wanted(size=2))) == ["br-vpn", "ve-vpn1", "ve-vpn2"]


def test_retired_links_are_listed_until_they_are_removed():
    now = cluster_layout(wanted(size=2), cluster_layout(wanted(size=3)))
    assert host_links(now) == ["br-vpn", "ve-vpn1", "ve-vpn2", "ve-vpn3"]
    assert host_links(now, True) == ["br-vpn", "ve-vpn1", "ve-vpn2"]


def test_a_bridge_of_the_administrator_is_left_to_the_managers():
    names = host_links(cluster_layout(wanted(**BRIDGED, size=2)))
    assert names == ["arp-vpn", "arpx-vpn", "ve-vpn1", "ve-vpn2"]
