# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of openvpn_instance and openvpn_instance_info with real processes, handshakes and network namespaces."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from .openvpn_lab import RUN, TIMEOUT, VPN, OpenVpnLab
from .world import COLLECTIONS, sh


def only(result: dict[str, t.Any]) -> dict[str, t.Any]:
    """The only instance of a result; fails if the module failed."""
    assert not result.get("failed"), result["msg"]
    (instance,) = result["instances"]
    return instance


def alive(pid: int) -> bool:
    """Whether a process runs and is not a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


# --- started ----------------------------------------------------------------------------------------------------------


def test_a_server_and_a_client_become_ready_and_are_left_alone_afterwards(lab: OpenVpnLab) -> None:
    server, client = lab.server(), lab.client()
    first = lab.ensure(server)
    pid = only(first)["pid"]
    assert first["changed"]
    assert only(first)["actions"] == ["started"]
    assert only(lab.ensure(client))["actions"] == ["started"]
    sh(f"ping -c 2 -i 0.2 -W 2 {VPN}.1", lab.client_netns)

    again = lab.ensure(server, client)
    assert not again.get("failed"), again["msg"]
    assert not again["changed"]
    assert again["commands"] == []
    assert again["instances"][0]["pid"] == pid

    at_server, at_client = lab.info(server, client)
    assert (at_server["state"], at_server["ready"], at_server["netns_ok"]) == ("running", True, True)
    assert at_server["version"].startswith("2.")
    assert 0 <= at_server["uptime"] < 60
    (seen,) = at_server["clients"]
    assert seen["common_name"] == "client"
    assert seen["real_address"].startswith("192.0.2.101:")
    assert seen["virtual_address"] == at_client["virtual_address"] == f"{VPN}.2"
    assert seen["bytes_received"] > 0
    assert seen["bytes_sent"] > 0
    assert at_client["remote_address"] == "192.0.2.2:1194"


def test_the_process_has_its_user_its_namespace_and_nothing_more(lab: OpenVpnLab) -> None:
    tun = os.stat("/dev/net/tun")
    server = lab.server(port=443)
    server["cpus"] = [0]
    pid = only(lab.ensure(server))["pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["65534"] * 4
    net_admin_and_net_bind_service = 1 << 12 | 1 << 10
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == net_admin_and_net_bind_service, kind
    assert status["Cpus_allowed_list"] == "0"
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/run/netns/{lab.host}").st_ino
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    log = Path(f"/var/log/clustered-openvpn/{server['name']}.log")
    assert log.stat().st_mode & 0o777 == 0o640
    assert os.readlink(f"/proc/{pid}/fd/1") == str(log)
    assert (RUN / server["name"]).stat().st_mode & 0o777 == 0o750
    assert (RUN / server["name"] / "pid").read_text().strip() == str(pid)
    assert os.stat("/dev/net/tun").st_mode == tun.st_mode, "the device of the machine must not change"


def test_one_that_fails_is_reported_at_once_with_its_log_and_the_others_run(lab: OpenVpnLab) -> None:
    good, bad = lab.server("s"), lab.server("bad", port=1195, extra="no-such-option 1\n")
    begin = time.monotonic()
    result = lab.ensure(good, bad, timeout=60)
    assert time.monotonic() - begin < 20
    assert result["failed"]
    assert result["changed"]
    assert bad["name"] in result["msg"]
    assert "no-such-option" in result["msg"]
    assert good["name"] not in result["msg"]
    by_name = {i["name"]: i for i in result["instances"]}
    assert "error" not in by_name[good["name"]]
    assert alive(by_name[good["name"]]["pid"])
    assert by_name[bad["name"]]["pid"] == 0
    assert [i["state"] for i in lab.info(good, bad)] == ["running", "stopped"]


def test_one_that_does_not_become_ready_is_stopped_again(lab: OpenVpnLab) -> None:
    client = lab.client()  # its server does not run
    result = lab.ensure(client, timeout=2)
    assert result["failed"]
    assert "not ready after 2 s" in result["msg"]
    assert "UDPv4 link remote" in result["msg"], "the log must not consist of management commands only"
    assert lab.info(client)[0]["state"] == "stopped"


def test_a_dead_process_is_started_again(lab: OpenVpnLab) -> None:
    server = lab.server()
    pid = only(lab.ensure(server))["pid"]
    os.kill(pid, signal.SIGKILL)
    result = only(lab.ensure(server))
    assert (result["actions"], result["reason"]) == (["started"], "not running")


def test_a_process_in_a_namespace_that_was_made_anew_is_restarted(lab: OpenVpnLab) -> None:
    server = lab.server()
    pid = only(lab.ensure(server))["pid"]
    sh(f"ip netns del {lab.host}")
    assert lab.info(server)[0]["netns_ok"] is False
    missing = lab.ensure(server)
    assert "does not exist" in missing["msg"]
    lab.netns("host")
    lab.plug(lab.host, "nic0", "192.0.2.2/24")
    assert lab.ensure(server, check=True)["changed"]
    result = only(lab.ensure(server))
    assert result["actions"] == ["restarted"]
    assert "namespace" in result["reason"]
    assert not alive(pid)
    assert lab.info(server)[0]["netns_ok"] is True


def test_a_process_without_a_record_is_found_and_kept(lab: OpenVpnLab) -> None:
    server = lab.server()
    pid = only(lab.ensure(server))["pid"]
    (RUN / f"{server['name']}.json").unlink()
    result = lab.ensure(server)
    assert not result["changed"]
    assert only(result)["pid"] == pid
    assert lab.info(server)[0]["pid"] == pid


# --- changed configurations -------------------------------------------------------------------------------------------


def test_what_is_read_at_the_start_restarts_and_what_is_read_at_a_connect_does_not(lab: OpenVpnLab) -> None:
    (lab.directory / "ccd").mkdir()
    server = lab.server(extra="client-config-dir ccd\n")
    only(lab.ensure(server))
    lab.write("ccd/client", "push-reset\n")
    left_alone = lab.ensure(server)
    assert not left_alone["changed"]
    assert only(left_alone)["refreshed"] == [str(lab.directory / "ccd")]
    with open(lab.directory / "shared.conf", "a") as shared:
        shared.write("max-clients 5\n")
    assert only(lab.ensure(server, check=True))["actions"] == ["restarted"]
    restarted = only(lab.ensure(server))
    assert restarted["actions"] == ["restarted"]
    assert "refreshed" not in restarted
    os.utime(lab.directory / "server.key")
    assert not lab.ensure(server)["changed"]
    with open(lab.directory / "server.crt", "a") as certificate:
        certificate.write("\n")
    assert only(lab.ensure(server))["actions"] == ["restarted"]


def test_a_restart_says_how_many_clients_it_drops(lab: OpenVpnLab) -> None:
    server = lab.server()
    only(lab.ensure(server))
    only(lab.ensure(lab.client()))
    lab.write("s.conf", lab.server_config(extra="max-clients 5\n"))
    for check in (True, False):
        result = lab.ensure(server, check=check)
        assert only(result)["dropped_clients"] == 1
        assert only(result)["reason"].endswith("; this drops 1 client")
        assert result["commands"][0].endswith("  # drops 1 client")
        assert "# drops 1 client\n" in result["diff"]["prepared"]
    os.kill(only(lab.ensure(server))["pid"], signal.SIGSTOP)
    result = lab.ensure(server, state="stopped", check=True)
    assert only(result)["dropped_clients"] is None
    assert "number unknown" in result["commands"][0]
    result = lab.ensure(lab.instances[1], state="stopped")
    assert "dropped_clients" not in only(result), "a client has no clients"


@pytest.mark.parametrize("mistake", ["no-such-option 1\n", "cert missing.crt\n", "up ./missing\nscript-security 2\n"])
def test_a_configuration_that_fails_its_trial_leaves_the_running_instances_alone(lab: OpenVpnLab, mistake: str) -> None:
    server, other = lab.server(), lab.server("s2", port=1195)
    before = {i["name"]: i["pid"] for i in lab.ensure(server, other)["instances"]}
    lab.write("s.conf", lab.server_config(extra=mistake))
    lab.write("s2.conf", lab.server_config("s2", port=1195, extra="max-clients 5\n"))
    result = lab.ensure(server, other)
    assert result["failed"]
    assert not result["changed"]
    assert result["commands"] == []
    assert server["name"] in result["msg"]
    assert mistake.split()[1].removeprefix("./") in result["msg"] or "no-such-option" in result["msg"]
    assert {i["name"]: i["pid"] for i in result["instances"]} == before
    assert all(i["ready"] and i["pid"] == before[i["name"]] for i in lab.info(server, other))


def test_other_cpus_need_no_restart(lab: OpenVpnLab) -> None:
    server, client = lab.server(), lab.client()
    server["cpus"] = [0]
    pid = only(lab.ensure(server))["pid"]
    only(lab.ensure(client))

    def affinities() -> set[frozenset[int]]:
        return {frozenset(os.sched_getaffinity(int(task))) for task in os.listdir(f"/proc/{pid}/task")}

    everything = frozenset(range(os.cpu_count() or 1))
    for cpus, wanted in (([1], frozenset({1})), ([], everything), ([0], frozenset({0}))):
        if max(cpus, default=0) >= len(everything):
            continue
        server["cpus"] = cpus
        before = affinities()
        planned = lab.ensure(server, check=True)
        assert only(planned)["actions"] == ["pinned"]
        assert planned["commands"] == [f"taskset -a -c -p {','.join(map(str, sorted(wanted)))} {pid}"]
        assert affinities() == before
        result = lab.ensure(server)
        assert only(result)["actions"] == ["pinned"]
        assert only(result)["pid"] == pid
        assert affinities() == {wanted}
        assert not lab.ensure(server)["changed"]
    assert lab.info(server)[0]["clients"], "its client stays connected"


def test_a_script_that_openvpn_would_not_run_is_refused_before_it_refuses_clients(lab: OpenVpnLab) -> None:
    server = lab.server(extra="client-connect /bin/true\n")
    result = lab.ensure(server)
    assert result["failed"]
    assert not result["changed"]
    assert "'client-connect /bin/true' in the configuration: OpenVPN runs this script only with" in result["msg"]
    lab.write("s.conf", lab.server_config(extra="client-connect /bin/true\nscript-security 2\nstatus /tmp/s 5\n"))
    result = lab.ensure(server)
    only(result)
    assert any("'status' in the configuration" in str(warning) for warning in result["warnings"])
    only(lab.ensure(lab.client()))


def test_a_trial_does_not_touch_what_the_running_instance_owns(lab: OpenVpnLab) -> None:
    state = Path(f"/var/lib/clustered-openvpn/{lab.name('s')}")
    hook = lab.write("hook", f"#!/bin/sh\necho $1 >>{lab.directory}/hooked/$$\n")
    hook.chmod(0o755)
    (lab.directory / "hooked").mkdir()
    (lab.directory / "hooked").chmod(0o777)
    own = (
        f"up {hook}\nlearn-address {hook}\nscript-security 2\nifconfig-pool-persist {state}/pool 1\n"
        f"status {lab.directory}/hooked/status\nlog {lab.directory}/hooked/log\nwritepid {lab.directory}/hooked/pid\n"
        f"management {lab.directory}/hooked/socket unix\n"
    )
    server = lab.server(extra=own)
    pid = only(lab.ensure(server))["pid"]
    only(lab.ensure(lab.client()))
    time.sleep(1.5)
    files = {path: path.read_bytes() for path in [*state.iterdir(), *(lab.directory / "hooked").iterdir()]}
    assert any(path.name == "pool" for path in files)
    lab.write(
        "s.conf", lab.server_config(extra=own + "cert client.crt\nkey server.key\n")
    )  # the key does not belong to the certificate
    result = lab.ensure(server)
    assert result["failed"]
    after = {path: path.read_bytes() for path in [*state.iterdir(), *(lab.directory / "hooked").iterdir()]}
    log = lab.directory / "hooked/log"
    assert after.pop(log, b"").startswith(files.pop(log, b"")), "the running instance may have appended to its log"
    assert after == files
    assert lab.info(server)[0]["clients"], "its client must stay connected"
    assert alive(pid)


def test_a_client_configuration_is_tried_without_its_server(lab: OpenVpnLab) -> None:
    server, client = lab.server(), lab.client()
    only(lab.ensure(server))
    pid = only(lab.ensure(client))["pid"]
    good = Path(client["config"]).read_text()
    lab.write("c.conf", good + "tls-cipher nothing-of-that-name\n")
    result = lab.ensure(client)
    assert result["failed"]
    assert "new configuration" in result["msg"]
    assert alive(pid)
    lab.write("c.conf", good + "mute 5\n")
    assert only(lab.ensure(client))["actions"] == ["restarted"]


def test_a_directive_that_takes_the_process_away_is_refused(lab: OpenVpnLab) -> None:
    server = lab.server(extra="daemon\n")
    result = lab.ensure(server)
    assert result["failed"]
    assert "'daemon'" in result["msg"]


# --- other states -----------------------------------------------------------------------------------------------------


def test_stopped_restarted_absent(lab: OpenVpnLab) -> None:
    server = lab.server()
    pid = only(lab.ensure(server))["pid"]
    assert only(lab.ensure(server, state="restarted", check=True))["pid"] == pid
    restarted = only(lab.ensure(server, state="restarted"))
    assert restarted["pid"] != pid
    assert only(lab.ensure(server, state="stopped", check=True))["actions"] == ["stopped"]
    assert alive(restarted["pid"])
    assert lab.ensure(server, state="stopped")["changed"]
    assert not alive(restarted["pid"])
    assert not lab.ensure(server, state="stopped")["changed"]
    assert lab.info(server)[0]["state"] == "stopped"
    only(lab.ensure(server))
    assert lab.ensure({"name": server["name"]}, state="absent")["changed"], "only the name is required"
    assert not lab.ensure({"name": server["name"]}, state="absent")["changed"]
    assert lab.info(server)[0]["state"] == "absent"
    assert not Path(f"/var/log/clustered-openvpn/{server['name']}.log").exists()
    assert Path(server["config"]).exists()


def test_a_process_that_does_not_listen_to_sigterm_is_killed(lab: OpenVpnLab) -> None:
    server = lab.server()
    pid = only(lab.ensure(server))["pid"]
    os.kill(pid, signal.SIGSTOP)
    only(lab.ensure(server, state="stopped"))
    assert not alive(pid)


def test_check_mode_takes_what_is_missing_as_made_by_earlier_tasks(lab: OpenVpnLab) -> None:
    new = {"name": lab.name("new"), "netns": lab.name("new"), "user": "no-such-user", "group": "nogroup"}
    result = lab.ensure(new, check=True)
    assert result["changed"]
    assert len(result["warnings"]) == 3
    assert lab.ensure(new)["failed"]
    assert not (RUN / new["name"]).exists()


def test_the_commands_of_the_diff_do_what_the_module_does(lab: OpenVpnLab) -> None:
    server = lab.server()
    result = lab.ensure(server, check=True)
    assert result["diff"]["prepared"] == "\n".join(result["commands"]) + "\n"
    sh(result["diff"]["prepared"])
    again = lab.ensure(server)
    assert not again["changed"], again["commands"]
    assert lab.info(server)[0]["ready"]
    sh(lab.ensure(server, state="absent", check=True)["diff"]["prepared"])
    time.sleep(1)
    assert not lab.ensure(server, state="absent")["changed"]


# --- the management socket --------------------------------------------------------------------------------------------


def test_a_busy_management_socket_is_no_dead_instance(lab: OpenVpnLab) -> None:
    server = lab.server()
    only(lab.ensure(server))
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.connect(str(RUN / server["name"] / "management.sock"))
        somebody.recv(100)
        begin = time.monotonic()
        (seen,) = lab.info(server)
        assert time.monotonic() - begin < 10
        assert seen["state"] == "running"
        assert "busy" in seen["message"]
        result = lab.ensure(server)
        assert not result.get("failed"), result["msg"]
        assert "busy" in str(result["warnings"])


def test_a_process_that_hangs_is_not_ready(lab: OpenVpnLab) -> None:
    server = lab.server()
    pid = only(lab.ensure(server))["pid"]
    os.kill(pid, signal.SIGSTOP)
    status = RUN / server["name"] / "status"
    os.utime(status, (time.time() - 60,) * 2)
    result = lab.ensure(server, timeout=3)
    assert result["failed"]
    assert "not ready" in result["msg"]
    assert alive(pid)
    os.kill(pid, signal.SIGCONT)


def test_it_works_from_ansible(lab: OpenVpnLab) -> None:
    server = lab.server()
    args = json.dumps({"instances": [server], "supervisor": "process", "timeout": TIMEOUT})
    command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-c", "local", "-o"]
    done = subprocess.run(
        [*command, "-m", "clustered.openvpn.openvpn_instance", "-a", args],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "CHANGED" in done.stdout, done.stdout + done.stderr
    assert lab.info(server)[0]["ready"]
