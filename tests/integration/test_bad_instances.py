# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that openvpn_instance refuses instances that would fail, by name, without a change to running ones."""

from __future__ import annotations

import json
import os
import socket
import time
import typing as t
from pathlib import Path

import pytest
from certificates import Authority

from .openvpn_lab import OpenVpnLab
from .world import call, within


def traces(lab: OpenVpnLab) -> list[Path]:
    """Files that the module has created for the lab's instances."""
    places = [f"/{place}/clustered-openvpn" for place in ("run", "var/lib", "var/log")]
    return [path for place in places for path in Path(place).glob(f"*{lab.prefix}*")]


@pytest.mark.parametrize("program", ["openvpn", "ip", "setpriv"])
def test_without_a_program(lab: OpenVpnLab, program: str) -> None:
    places = [p for d in ("/usr/sbin", "/usr/bin", "/sbin", "/bin") if (p := Path(d, program)).exists()]
    hide = " && ".join(f"mount --bind /dev/null {place}" for place in sorted({p.resolve() for p in places}))
    before = ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]
    args = {"instances": [lab.server()], "supervisor": "process"}
    result = call(lab, "openvpn_instance", args, before=before)
    assert result["failed"]
    assert f"the program {program!r} is missing: install the package" in result["msg"]
    result = call(lab, "openvpn_instance", {**args, "_ansible_check_mode": True}, before=before)
    assert not result.get("failed"), result["msg"]
    assert f"the program {program!r} is missing: install the package" in str(result["warnings"])
    assert not traces(lab)


CA, OTHER = Authority(), Authority("other")


def write(lab: OpenVpnLab, **files: bytes) -> None:
    """Write files that the server's user can read. C(_) in a name stands for a dot."""
    for name, data in files.items():
        (lab.directory / name.replace("_", ".")).write_bytes(data)


def usable(lab: OpenVpnLab) -> None:
    """Write valid keys, certificates and a revocation list."""
    cert, key = CA.issue("server", "server")
    write(lab, ca_crt=CA.pem, server_crt=cert, server_key=key, crl_pem=CA.revocations())


BAD: dict[str, tuple[t.Callable[[], dict[str, bytes]], str, str]] = {
    "expired": (
        lambda: dict(zip(("server_crt", "server_key"), CA.issue("x", until=0, since=-5))),
        "server.crt",
        "expired on",
    ),
    "another key": (lambda: {"server_key": CA.issue("x")[1]}, "server.key", "does not belong to the certificate"),
    "another CA": (
        lambda: dict(zip(("server_crt", "server_key"), OTHER.issue("x"))),
        "server.crt",
        "not signed by the CA",
    ),
    "an expired list": (lambda: {"crl_pem": CA.revocations(since=-5, until=-1)}, "crl.pem", "expired on"),
    "a list of another CA": (lambda: {"crl_pem": OTHER.revocations()}, "crl.pem", "not issued by the CA"),
    "no list": (lambda: {"crl_pem": b"nothing"}, "crl.pem", "contains no revocation list"),
}


@pytest.mark.parametrize("case", BAD)
def test_certificates_and_lists_that_would_serve_nobody(lab: OpenVpnLab, case: str) -> None:
    make, file, sentence = BAD[case]
    usable(lab)
    server, other = lab.server(extra="crl-verify crl.pem\n"), lab.server("s2", port=1195)
    write(lab, **make())

    result = lab.ensure(server, check=True)
    assert not result.get("failed"), result["msg"]
    assert file in str(result["warnings"])
    assert sentence in str(result["warnings"])
    result = lab.ensure(server, other)
    assert result["failed"]
    assert not result["changed"]
    assert result["commands"] == []
    assert f"{server['name']}: " in result["msg"]
    assert f"{lab.directory}/{file}" in result["msg"]
    assert sentence in result["msg"]
    assert "Traceback" not in result["msg"]
    assert "PRIVATE KEY" not in json.dumps(result)
    assert not traces(lab), "the valid instance must not be started either"

    usable(lab)
    assert not (first := lab.ensure(server)).get("failed"), first["msg"]
    write(lab, **make())
    lab.write("s.conf", lab.server_config(extra="crl-verify crl.pem\nmax-clients 5\n"))
    result = lab.ensure(server)
    assert result["failed"]
    assert not result["changed"]
    assert sentence in result["msg"]
    assert result["instances"][0]["pid"] == first["instances"][0]["pid"]
    assert lab.info(server)[0]["ready"]


def test_a_list_that_expires_while_its_server_runs_is_warned_of(lab: OpenVpnLab) -> None:
    usable(lab)
    server = lab.server(extra="crl-verify crl.pem\n")
    assert not lab.ensure(server).get("failed")
    assert "refreshed" not in lab.ensure(server)["instances"][0]
    time.sleep(0.02)
    write(lab, crl_pem=CA.revocations(since=-5, until=-1))
    result = lab.ensure(server)
    assert not result.get("failed")
    assert not result["changed"]
    assert result["instances"][0]["refreshed"] == [f"{lab.directory}/crl.pem"]
    assert "crl.pem expired on" in str(result["warnings"])


def test_files_that_the_user_cannot_read(lab: OpenVpnLab) -> None:
    usable(lab)
    server = lab.server(extra="crl-verify crl.pem\nclient-config-dir ccd\n")
    (lab.directory / "ccd").mkdir()
    for name in ("crl.pem", "server.key", "ccd"):
        path = lab.directory / name
        path.chmod(0o600)
        os.chown(path, 0, 0)
        result = lab.ensure(server)
        assert result["failed"]
        assert f"the user nobody with the group nogroup cannot read {path}; change their owner or mode" in result["msg"]
        path.chmod(0o755)
    assert not traces(lab)
    assert not (result := lab.ensure(server)).get("failed"), result["msg"]


@pytest.mark.parametrize(("kind", "protocol"), [(socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")])
def test_a_port_that_another_process_holds(lab: OpenVpnLab, kind: int, protocol: str) -> None:
    server = lab.server(port=1195, extra=f"proto {protocol}4\n")
    first = lab.ensure(server)
    assert not first.get("failed"), first["msg"]
    with within(lab.host), socket.socket(socket.AF_INET, kind) as somebody:
        somebody.bind(("0.0.0.0", 1194))
        if kind == socket.SOCK_STREAM:
            somebody.listen()
        lab.write("s.conf", lab.server_config(port=1194, extra=f"proto {protocol}4\n"))
        result = lab.ensure(server)
        assert result["failed"]
        assert not result["changed"]
        assert f"{protocol} port 1194 of 192.0.2.2 is held by process {os.getpid()}" in result["msg"]
        assert lab.host in result["msg"]
        assert "give another port" in result["msg"]
        assert result["instances"][0]["pid"] == first["instances"][0]["pid"]
        assert lab.info(server)[0]["ready"]
        assert "is held by process" in str(lab.ensure(server, check=True)["warnings"])
        assert lab.ensure(lab.instance("s3", Path(server["config"]).read_text(), lab.host))["failed"], "a first start"
    assert not (result := lab.ensure(server)).get("failed"), result["msg"]
    assert not lab.ensure(server)["changed"], "its own port is not in use by another process"


def test_two_instances_with_one_port(lab: OpenVpnLab) -> None:
    result = lab.ensure(lab.server(), lab.server("s2"))
    assert result["failed"]
    assert f"udp port 1194 of 192.0.2.2 is already the port of {lab.name('s')} in" in result["msg"]
    assert not traces(lab)


def test_what_another_task_should_have_made(lab: OpenVpnLab) -> None:
    server = {**lab.server(), "user": "no-such-user", "config": "/no/such.conf", "cpus": [8000]}
    result = lab.ensure(server)
    assert result["failed"]
    for part in (
        "user: 'no-such-user' does not exist on this host",
        "config: '/no/such.conf' does not exist",
        "cpus: [8000]: this host has the CPUs 0 to",
    ):
        assert part in result["msg"]
    assert result["instances"][0]["actions"] == []
    result = lab.ensure(server, supervisor="systemd")
    if not Path("/run/systemd/system").is_dir():
        assert "supervisor: 'systemd': systemd does not run on this host" in result["msg"]
