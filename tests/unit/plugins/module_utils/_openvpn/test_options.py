# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.config import (
    SCRIPT_DIRECTIVES,
    Config,
    read_config,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.options import (
    OVERRIDDEN,
    blocked_scripts,
    client_addresses,
    extra_options_errors,
    overridden,
)

HERE, THERE = "openvpn_server_extra_options", "openvpn_server_instances"
UDP = {"name": "vpn1-udp", "network": "10.8.0.0/24", "port": 1194, "protocol": "udp", "local": "192.0.2.10"}
TCP = {"name": "vpn1-tcp", "network": "10.9.0.0/24", "port": 443, "protocol": "tcp", "local": "192.0.2.10"}
SECOND = {**UDP, "name": "vpn2-udp", "network": "10.8.1.0/24"}


def errors(*lines: str, instances=(UDP, TCP), variable: str = THERE) -> list[str]:
    return extra_options_errors(HERE, lines, instances, variable)


def config(text: str) -> Config:
    made = read_config("/c/a.conf", {"/c/a.conf": text.encode()}.get)
    assert made
    return made


@pytest.mark.parametrize("script", SCRIPT_DIRECTIVES)
def test_a_script_needs_script_security(script: str) -> None:
    (error,) = errors(f"{script} /etc/openvpn/hook")
    assert error.startswith(f"{HERE}: '{script} /etc/openvpn/hook': OpenVPN runs this script only with")
    assert "'script-security 2'; add that option" in error
    assert errors("script-security 2", f"{script} /etc/openvpn/hook") == []
    assert errors("script-security 2", f"{script} /etc/openvpn/hook", "script-security 1")  # the last one counts
    assert blocked_scripts(config(f"{script} /x\n"))
    assert not blocked_scripts(config(f"{script} /x\nscript-security 2\n"))


def test_a_password_in_the_environment_needs_level_3() -> None:
    (error,) = errors("script-security 2", "auth-user-pass-verify /hook via-env")
    assert "'script-security 3'" in error
    assert errors("script-security 3", "auth-user-pass-verify /hook via-env") == []
    assert errors("script-security 2", "auth-user-pass-verify /hook via-file") == []


def test_the_level_of_an_instance_is_its_own() -> None:
    loud = {**TCP, "extra_options": ["script-security 2"]}
    assert errors("up /hook", instances=[loud]) == []
    (error,) = errors("up /hook", instances=[UDP, loud])
    assert error.startswith(f"{HERE}: 'up /hook'")
    (error,) = errors(instances=[UDP, {**TCP, "extra_options": ["up /hook"]}])
    assert error.startswith(f"{THERE}[vpn1-tcp].extra_options: 'up /hook'")


@pytest.mark.parametrize(
    "option",
    [
        *(f"{name} x" for name in OVERRIDDEN),
        *("daemon", "user root", "group root", "chroot /srv", "--status /run/x 1", "management 127.0.0.1 7505"),
        *("management-client-auth", "management-hold", "management-client-user root", "management-query-passwords"),
    ],
)
def test_options_of_the_supervisor_are_refused(option: str) -> None:
    (error,) = errors(option)
    assert error.startswith(f"{HERE}: '{option.removeprefix('--')}': ")
    assert error.endswith("; remove the option")


@pytest.mark.parametrize(
    "option",
    [
        *("port 1195", "lport 1195", "proto tcp-server", "local 192.0.2.11", "server 10.99.0.0 255.255.255.0"),
        *("ifconfig-pool 10.99.0.2 10.99.0.9", "ifconfig-push 10.99.0.2 255.255.255.0"),
    ],
)
def test_options_that_contradict_the_layout_are_refused(option: str) -> None:
    (error,) = errors(option)
    assert "contradicts the " in error
    assert extra_options_errors("openvpn_client_extra_options", [option], [{"name": "branch"}], "i") == []


def test_an_error_is_reported_once_for_all_members() -> None:
    members = [{**UDP, "name": f"vpn{k}-udp", "extra_options": ["status /x"]} for k in range(1, 9)]
    (error,) = errors(instances=members, variable="netns_cluster_instances")
    assert error.startswith("netns_cluster_instances[udp].extra_options: 'status /x': ")


def test_ordinary_options_and_inline_files_are_accepted() -> None:
    lines = [
        "verb 4",
        "max-clients 50",
        "port-share 127.0.0.1 8443",
        "# status x",
        "<extra-certs>\nport 1\n</extra-certs>",
    ]
    assert errors(*lines, "plugin /usr/lib/x.so", 'push "dhcp-option DNS 192.0.2.1"') == []
    assert errors(*lines, instances=()) == []


def test_overridden_directives_of_a_configuration() -> None:
    assert overridden(config("verb 3\nserver 10.8.0.0 255.255.255.0\n")) == []
    (warning,) = overridden(config("status /run/x 5\nstatus /run/y 5\n"))
    assert warning.startswith("'status' in the configuration: the status file is ")


def test_fixed_addresses_of_clients() -> None:
    both = [UDP, SECOND]
    listing = "/ccd/a:ifconfig-push 10.8.1.5 255.255.255.0\n/ccd/b:  ifconfig-push 192.168.7.5 255.255.255.0\n"
    failed, warned = client_addresses(listing, both)
    assert failed == [
        "/ccd/b: 'ifconfig-push 192.168.7.5 255.255.255.0' is outside of 10.8.0.0/24, 10.8.1.0/24;"
        " use an address of the server's network"
    ]
    assert warned == [
        "/ccd/a: 'ifconfig-push 10.8.1.5 255.255.255.0' is outside of the network of vpn1-udp;"
        " there, no packets reach the client"
    ]
    assert client_addresses("/ccd/a:ifconfig-push 10.8.0.5 255.255.255.0", [UDP]) == ([], [])
    assert client_addresses("/ccd/a:ifconfig-ipv6-push fd12::5/64", [UDP]) == ([], []), "no IPv6 of ours"
    failed, _warned = client_addresses("/ccd/a:ifconfig-ipv6-push fd13::5/64", [{**UDP, "network_ipv6": "fd12::/64"}])
    assert len(failed) == 1
    assert client_addresses("nonsense\n:\n/ccd/a:ifconfig-push\n", both) == ([], [])
    failed, _warned = client_addresses("/ccd/a:ifconfig-push nonsense x", both)
    assert len(failed) == 1
