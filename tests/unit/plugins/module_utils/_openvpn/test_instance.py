# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.command_line import (
    capabilities,
    confined_command,
    openvpn_command,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.config import Config
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import (
    Instance,
    from_dict,
    instances_from,
    to_dict,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.plan import Desired, Observed, plan
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

ONE = Instance("vpn1-udp", "server", "vpn1", "/etc/openvpn/server/vpn1-udp.conf", management="/run/m1")
TWO = replace(ONE, name="vpn2-udp", netns="vpn2", management="/run/m2")
RUNS = Observed(pid=17, active=True, enabled=True, drop_in="text", files=("/run/x",))
NONE = Observed(in_netns=False)


def ops(desired: Desired, *observed: Observed, drop_in: str | None = "text") -> list[str]:
    instances = [ONE, TWO][: len(observed)]
    steps = plan(desired, [(i, o, drop_in) for i, o in zip(instances, observed)])
    return [f"{s.op} {s.instance.name[3] if s.instance else '*'}{' tried' if s.trial else ''}" for s in steps]


@pytest.mark.parametrize(
    ("desired", "observed", "steps"),
    [
        (Desired(), RUNS, []),
        (Desired(), NONE, ["write 1", "reload *", "enable 1", "start 1"]),
        (Desired(), replace(RUNS, pid=0, active=False), ["start 1"]),
        (Desired(), replace(RUNS, pid=0), ["restart 1"]),
        (Desired(), replace(RUNS, in_netns=False), ["restart 1"]),
        (Desired(), replace(RUNS, current=False), ["restart 1 tried"]),
        (Desired(), replace(RUNS, current=False, in_netns=False), ["restart 1 tried"]),
        (Desired(), replace(RUNS, drop_in="old"), ["write 1", "reload *", "restart 1 tried"]),
        (Desired(), replace(RUNS, repin=True), ["pin 1"]),
        (Desired(), replace(RUNS, drop_in="old", repin=True, only_cpus=True), ["write 1", "reload *", "pin 1"]),
        (Desired(), replace(RUNS, drop_in="old", only_cpus=True), ["write 1", "reload *"]),
        (Desired(), replace(RUNS, current=False, repin=True), ["restart 1 tried"]),
        (Desired("stopped"), replace(RUNS, repin=True), ["stop 1"]),
        (Desired(), replace(RUNS, needs_reload=True), ["reload *"]),
        (Desired(), replace(RUNS, enabled=False), ["enable 1"]),
        (Desired(enabled=False), RUNS, ["disable 1"]),
        (Desired("restarted"), RUNS, ["restart 1"]),
        (Desired("restarted"), replace(RUNS, current=False), ["restart 1 tried"]),
        (Desired("restarted"), replace(RUNS, pid=0, active=False), ["start 1"]),
        (Desired("stopped"), RUNS, ["stop 1"]),
        (Desired("stopped"), replace(RUNS, pid=0), ["stop 1"]),
        (Desired("stopped"), replace(RUNS, pid=0, active=False), []),
        (Desired("stopped"), NONE, []),
        (Desired("stopped", enabled=False), RUNS, ["disable 1", "stop 1"]),
        (Desired("stopped", enabled=True), NONE, ["write 1", "reload *", "enable 1"]),
        (Desired("absent"), RUNS, ["stop 1", "disable 1", "remove 1", "reload *"]),
        (Desired("absent"), NONE, []),
        (Desired("absent"), replace(NONE, files=("/run/x",)), ["remove 1"]),
    ],
)
def test_steps_under_systemd(desired: Desired, observed: Observed, steps: list[str]) -> None:
    assert ops(desired, observed) == steps


@pytest.mark.parametrize(
    ("desired", "observed", "steps"),
    [
        (Desired(), NONE, ["start 1"]),
        (Desired(), replace(RUNS, drop_in=None, enabled=False), []),
        (Desired(enabled=False), replace(RUNS, drop_in=None, enabled=False), []),
        (Desired("absent"), replace(RUNS, drop_in=None, enabled=False), ["stop 1", "remove 1"]),
    ],
)
def test_steps_for_plain_processes(desired: Desired, observed: Observed, steps: list[str]) -> None:
    assert ops(desired, observed, drop_in=None) == steps


def test_units_are_complete_and_loaded_once_before_processes_start() -> None:
    assert ops(Desired(), NONE, NONE) == [
        "write 1",
        "write 2",
        "reload *",
        "enable 1",
        "enable 2",
        "start 1",
        "start 2",
    ]


def test_only_what_differs_is_touched() -> None:
    assert ops(Desired(), RUNS, replace(RUNS, current=False)) == ["restart 2 tried"]


# --- command lines ----------------------------------------------------------------------------------------------------


def test_openvpn_alone() -> None:
    assert " ".join(openvpn_command(ONE, systemd=False)) == (
        "/usr/sbin/openvpn --log-append /var/log/clustered-openvpn/vpn1-udp.log --cd /etc/openvpn/server"
        " --config vpn1-udp.conf --management /run/m1 unix --status /run/clustered-openvpn/vpn1-udp/status 10"
        " --status-version 2 --writepid /run/clustered-openvpn/vpn1-udp/pid"
    )


def test_openvpn_under_systemd_as_a_client() -> None:
    client = replace(ONE, role="client")
    assert " ".join(openvpn_command(client, systemd=True)) == (
        "/usr/sbin/openvpn --suppress-timestamps --nobind --cd /etc/openvpn/server --config vpn1-udp.conf"
        " --management /run/m1 unix --status /run/clustered-openvpn/vpn1-udp/status 10 --status-version 2"
    )


SETPRIV = (
    "setpriv --reuid openvpn --regid openvpn --init-groups --bounding-set -all,+net_admin --inh-caps -all,+net_admin"
    " --ambient-caps -all,+net_admin true"
)
TUN = "mount -t tmpfs -o mode=0755 tmpfs /dev/net && mknod -m 0666 /dev/net/tun c 10 200"


@pytest.mark.parametrize(
    ("netns", "own_tun", "cpus", "line"),
    [
        ("", False, (), SETPRIV),
        ("vpn1", False, (0, 2), f"ip netns exec vpn1 taskset -c 0,2 {SETPRIV}"),
        ("vpn1", True, (), f'ip netns exec vpn1 sh -c {TUN} && exec "$@" sh {SETPRIV}'),
        ("", True, (), f'unshare --mount sh -c {TUN} && exec "$@" sh {SETPRIV}'),
    ],
)
def test_confined(netns: str, own_tun: bool, cpus: tuple[int, ...], line: str) -> None:
    instance = replace(ONE, cpus=cpus)
    assert " ".join(confined_command(instance, ["net_admin"], ["true"], netns=netns, own_tun=own_tun)) == line


@pytest.mark.parametrize(("port", "caps"), [("1194", ["net_admin"]), ("443", ["net_admin", "net_bind_service"])])
def test_capabilities(port: str, caps: list[str]) -> None:
    assert capabilities(Config("/c", (("port", port),), (), "")) == caps


# --- parameters -------------------------------------------------------------------------------------------------------


def item(**args: t.Any) -> dict[str, t.Any]:
    defaults = {"role": "server", "netns": None, "config": None, "cpus": [], "user": "openvpn", "group": "openvpn"}
    return {"name": "a", **defaults, "management": None, **args}


def test_defaults() -> None:
    (made,) = instances_from([item(name="a", role="client", cpus=[1, 0, 1])])
    management = "/run/clustered-openvpn/a/management.sock"
    assert made == Instance("a", "client", "", "/etc/openvpn/client/a.conf", (0, 1), "openvpn", "openvpn", management)
    assert from_dict(to_dict(made)) == made


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"name": "a/b"}, "instances[0].name"),
        ({"name": "-a"}, "instances[0].name"),
        ({"name": "a.b"}, "instances[0].name"),
        ({"name": ""}, "instances[0].name"),
        ({"netns": "a/b"}, "instances[0].netns"),
        ({"config": "a.conf"}, "instances[0].config"),
        ({"config": "/etc/a\nExecStart=b"}, "instances[0].config"),
        ({"management": "/run/" + "x" * 110}, "instances[0].management"),
        ({"user": "a b"}, "instances[0].user"),
        ({"cpus": [-1]}, "instances[0].cpus"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, t.Any], where: str) -> None:
    with pytest.raises(ParameterError) as error:
        instances_from([item(**wrong)])
    assert str(error.value).startswith(where)


@pytest.mark.parametrize(
    "second", [{"name": "a"}, {"name": "b", "management": "/run/clustered-openvpn/a/management.sock"}]
)
def test_instances_do_not_share(second: dict[str, t.Any]) -> None:
    with pytest.raises(ParameterError, match="twice"):
        instances_from([item(), item(**second)])
