# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A ring of two hosts whose rules get lost: the keeper, a run and the audit; and a loss that cannot be repaired.

The tests of this file use the same hosts, in their order.
"""

from __future__ import annotations

import time
import typing as t

import pytest

from .cluster import say, wait_until
from .ring import TABLE, WEB, Ring

FILTER = f"{TABLE}.vrrp"
KEEPER = "clustered-openvpn-keeper@vpn"
HEALTH = "/run/clustered-openvpn-claims-vpn/health"


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Ring]:
    """Configured by the playbook, and serving."""
    made = Ring(
        "keep",
        tmp_path_factory.mktemp("keep"),
        hosts=2,
        clients=1,
        members=0,
        clusterip_cluster_instances=[],
        clusterip_cluster_services=[{"protocol": "tcp", "port": WEB}],
        clusterip_cluster_check_command=["nc", "-z", "127.0.0.1", "80"],
    )
    try:
        made.converge()
        yield made
    finally:
        made.remove()


def is_complete(ring: Ring, host: str) -> bool:
    """Whether the host equals its desired state, with the VRRP filter."""
    tables = ring.run_on(host, "nft list tables")
    checked = ring.run_on(host, "clustered-openvpn check vpn", check=False)
    return FILTER in tables and checked == "No changes needed."


def test_flushed_rules_return_with_the_claims(ring: Ring, capsys: pytest.CaptureFixture[str]) -> None:
    before = ring.wait_until_owned(10)
    assert set(before.values()) == {"h1", "h2"}
    start = time.monotonic()
    ring.run_on("h1", "nft flush ruleset")
    after = ring.wait_until_owned(5)
    say(capsys, f"all buckets are owned again after {time.monotonic() - start:.1f} s")
    assert after == before
    wait_until(lambda: is_complete(ring, "h1"), 5, "the rules")
    assert ring.run_on("h1", f"cat {HEALTH}") == "0"


def test_a_run_and_the_audit_notice_a_lost_filter(ring: Ring) -> None:
    ring.run_on("h1", f"systemctl stop {KEEPER}; nft delete table ip {FILTER}")
    assert f"table ip {FILTER}" in ring.run_on("h1", "clustered-openvpn check vpn", check=False)
    status, output = ring.play("audit.yml")
    assert status != 0
    assert "h1: differs from its desired state" in output
    ring.run_on("h1", "systemctl reload clustered-openvpn@vpn")
    assert is_complete(ring, "h1")
    ring.run_on("h1", f"nft delete table ip {FILTER}")
    changed = ring.changed(ring.converge())
    assert changed == {"h1": 1, "h2": 0}
    assert is_complete(ring, "h1")
    ring.wait_until_active("h1", KEEPER)
    assert ring.changed(ring.converge()) == {"h1": 0, "h2": 0}


def test_what_cannot_be_repaired_makes_the_host_unhealthy_until_it_is_back(ring: Ring) -> None:
    path = "/etc/clustered-openvpn/vpn.ring/vrrp.nft"
    ring.run_on("h1", f"mv {path} {path}.away; nft delete table ip {FILTER}")
    wait_until(lambda: set(ring.wait_until_owned(10).values()) == {"h2"}, 10, "the other host has all buckets")
    assert ring.run_on("h1", f"cat {HEALTH}") == "1"
    assert "no such file" in ring.run_on("h1", f"systemctl show --value --property StatusText {KEEPER}")
    ring.run_on("h1", f"mv {path}.away {path}; systemctl reload {KEEPER}")
    wait_until(lambda: ring.run_on("h1", f"cat {HEALTH}") == "0", 10, "the host is healthy")
    assert is_complete(ring, "h1")


def test_a_removal_leaves_no_table_and_no_unit(ring: Ring) -> None:
    ring.converge("many_hosts.yml", clusterip_cluster_state="absent")
    for host in ring.hosts:
        assert "clustered_openvpn" not in ring.run_on(host, "nft list tables")
        assert ring.run_on(host, "systemctl list-units --all --plain --no-legend 'clustered-openvpn*.service'") == ""
        assert ring.run_on(host, "ls /etc/systemd/system | grep clustered || true") == ""
