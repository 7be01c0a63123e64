# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import sysctl
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.check_mode import CheckModeKernel
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import View

MODULES = ("netns", "veth", "bridge", "clusterip", "clusterip_info", "preflight", "tunnel_bundle")


def test_modules_do_not_import_pyroute2_at_their_start() -> None:
    names = ", ".join(MODULES)
    script = (
        f"import sys; from ansible_collections.clustered.openvpn.plugins.modules import {names}; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "clusterip" in done.stdout
    assert "pyroute2" not in done.stdout


def test_in_check_mode_a_missing_nft_shows_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    warnings: list[str] = []
    key = ("", "inet", "clustered_openvpn_vpn")
    with CheckModeKernel(warnings.append) as kernel:
        assert kernel.tables([key], {"": View("", True)}) == {key: None}
        assert kernel.abilities(["netdev", "ip"]).families == {"netdev", "ip"}
    (warning,) = warnings
    assert warning.startswith("the program 'nft' is missing: install the package nftables (check mode: ")


def test_in_check_mode_a_missing_iproute2_shows_no_routing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    warnings: list[str] = []
    with CheckModeKernel(warnings.append) as kernel:
        assert kernel.routing("").devices == {}
    assert "install the package iproute2" in warnings[0]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.5/rp_filter", "net/ipv4/conf/eth0.5/rp_filter"),
        ("net.ipv4.conf.eth0/5.rp_filter", "net/ipv4/conf/eth0/5/rp_filter"),
    ],
)
def test_a_sysctl_may_be_written_with_slashes(key: str, path: str) -> None:
    assert sysctl.path(key) == f"/proc/sys/{path}"
