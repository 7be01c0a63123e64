# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Effects of the role prerequisites on a host."""

from __future__ import annotations

import pytest
from testinfra.host import Host


@pytest.mark.parametrize("command", ["openvpn --version", "nft --version", "ip -V", "sysctl --version"])
def test_commands_are_there(host: Host, command: str) -> None:
    assert host.run(command).rc in (0, 1)  # openvpn ends with 1


def test_modules_find_pyroute2(host: Host) -> None:
    assert host.run("/usr/bin/python3 -c 'import pyroute2'").rc == 0


def test_the_user_can_do_nothing_but_run_openvpn(host: Host) -> None:
    user = host.user("openvpn")
    assert user.exists
    assert user.group == "openvpn"
    assert user.shell == "/usr/sbin/nologin"
    assert not host.file(user.home).exists


@pytest.mark.parametrize(
    ("path", "group", "mode"),
    [
        ("/etc/clustered-openvpn", "root", 0o755),
        ("/var/lib/clustered-openvpn", "root", 0o755),
        ("/var/log/clustered-openvpn", "openvpn", 0o750),
    ],
)
def test_directories(host: Host, path: str, group: str, mode: int) -> None:
    directory = host.file(path)
    assert directory.is_directory
    assert (directory.user, directory.group, directory.mode) == ("root", group, mode)


def test_networkd_keeps_routes_and_rules_of_others(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/networkd.conf")
    assert "\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no" in settings


def test_the_kernel_was_tried_and_nothing_stayed(host: Host) -> None:
    assert host.check_output("nft list ruleset") == ""


def test_the_user_may_open_the_tun_device(host: Host) -> None:
    assert host.run("runuser -u openvpn -- sh -c ': <>/dev/net/tun'").rc == 0
