# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper repairs each drift alone within two seconds, and costs nothing while nothing happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.clustered.openvpn.plugins.filter.bundle import bundle_layout

from .keeper import RunningKeeper
from .served import differences, differences_at_last
from .test_drift import CLIENTS, DRIFTS, FORMS, HARMLESS, NAMESPACES, Drifting, Form, built
from .test_packets import ADDRESS
from .world import World, sh

LIMIT = 2.0  # seconds from the damage to the end of its repair


@pytest.fixture(scope="module")
def kept() -> t.Iterator[t.Callable[[Form], tuple[Drifting, RunningKeeper]]]:
    """A cluster of a form with its keeper, built once."""
    made: dict[Form, tuple[Drifting, RunningKeeper]] = {}
    with contextlib.ExitStack() as stack:

        def of(form: Form) -> tuple[Drifting, RunningKeeper]:
            if form not in made:
                made.clear()
                stack.close()
                drifting = stack.enter_context(built(*form))
                made[form] = drifting, stack.enter_context(RunningKeeper(drifting.world, drifting.built.layout))
            return made[form]

        yield of


@pytest.mark.parametrize(
    ("form", "drift"),
    [
        pytest.param(form, drift, marks=() if form == ("routed", "steer") else pytest.mark.soak)
        for form in FORMS
        for drift in DRIFTS[form]
        if drift not in HARMLESS
    ],
    ids=lambda part: "-".join(part) if isinstance(part, tuple) else part,
)
def test_each_drift_alone_is_repaired_within_two_seconds(
    kept: t.Callable[[Form], tuple[Drifting, RunningKeeper]], form: Form, drift: str
) -> None:
    drifting, keeper = kept(form)
    began = time.monotonic()
    drifting.damage(DRIFTS[form][drift])
    elapsed = keeper.repaired(began)
    print(f"{drift}: repaired after {elapsed:.2f} s")
    assert not differences_at_last(lambda: drifting.state, drifting.now)
    if drift in NAMESPACES:
        drifting.serve()
    if drift.startswith("NIC deleted"):  # a new one has a new MAC address, which is in no neighbour cache
        for i in range(CLIENTS):
            sh("ip neigh flush all", drifting.world.name(f"c{i + 1}"))
    assert drifting.wrong() == []
    assert elapsed < LIMIT, keeper.log[-8:]


# It hears of the namespaces of tests that run beside it, so the figure is for a machine that does nothing else.
@pytest.mark.soak
@pytest.mark.parametrize("seconds", [60, 600])
def test_nothing_is_logged_and_no_cpu_time_used_while_nothing_happens(
    kept: t.Callable[[Form], tuple[Drifting, RunningKeeper]], seconds: int
) -> None:
    drifting, keeper = kept(("routed", "steer"))
    assert not differences(drifting.state, drifting.now())
    time.sleep(20)  # bridges announce their ports again 15 s after the last change of them
    before, lines = keeper.cpu(), len(keeper.log)
    time.sleep(seconds)
    used = (keeper.cpu() - before) * 600 / seconds
    print(f"CPU time of ten idle minutes, from {seconds} s: {used:.3f} s")
    assert keeper.log[lines:] == []
    assert used < 0.1


Kept = t.Callable[[Form], tuple[Drifting, RunningKeeper]]
PROXY = "ip -n {host} neigh del proxy {address} dev nic0"


def test_links_of_others_cost_next_to_nothing(kept: Kept) -> None:
    drifting, keeper = kept(("routed", "steer"))
    before, lines = keeper.cpu(), len(keeper.log)
    pairs = range(100)
    names = [f"o{i}" for i in pairs]
    sh(
        "; ".join(f"ip link add {one} type veth peer name {one}p; ip link set {one} up" for one in names),
        drifting.world.host,
    )
    sh("; ".join(f"ip link del {one}" for one in names), drifting.world.host)
    keeper.quiet(1)
    used = keeper.cpu() - before
    print(f"CPU time for a hundred veth pairs of others: {used:.3f} s")
    assert keeper.log[lines:] == []
    assert used < 0.5


def test_repairs_that_another_program_undoes_get_rarer_and_check_says_so(kept: Kept) -> None:
    drifting, keeper = kept(("routed", "steer"))
    lines, end = len(keeper.log), time.monotonic() + 8
    while time.monotonic() < end:
        with contextlib.suppress(AssertionError):  # it is not repaired yet
            drifting.damage(PROXY)
        time.sleep(0.1)
    repairs = sum(line.startswith("repaired") for _when, line in keeper.log[lines:])
    assert 6 <= repairs <= 8
    found = [line for _when, line in keeper.log[lines:] if line.startswith("another program undoes a step")]
    assert found
    assert f"ip neigh add proxy {ADDRESS} dev nic0; the next repair follows after 2 s" in found[0]
    assert "another program undoes a step" in keeper.problem.read_text()
    undo = PROXY.format(host=drifting.world.host, address=ADDRESS)
    # While check runs, however long that takes.
    undoing = subprocess.Popen(["sh", "-c", f"for _ in $(seq 200); do {undo} 2>/dev/null; sleep 0.1; done"])
    try:
        checked = keeper.run("check")
    finally:
        undoing.kill()
        undoing.wait()
    assert checked.returncode == 1, checked.stdout
    assert "another program undoes a step" in checked.stdout
    keeper.quiet(10, most=30)
    assert not keeper.problem.exists()
    assert keeper.log[-1][1] == "all parts exist again"
    assert keeper.run("check").stdout == "No changes needed.\n"


def test_a_missing_nic_is_a_problem_until_it_is_back(kept: Kept) -> None:
    drifting, keeper = kept(("routed", "steer"))
    lines = len(keeper.log)
    sh("ip link set nic0 name gone0", drifting.world.host)
    end = time.monotonic() + 10
    while not keeper.problem.exists():
        assert time.monotonic() < end, keeper.log[-5:]
        time.sleep(0.05)
    assert "nic0" in keeper.problem.read_text()
    time.sleep(3)
    assert len(keeper.log) - lines < 100, "it tries again and again"
    sh("ip link set gone0 name nic0; ip link set nic0 up", drifting.world.host)
    end = time.monotonic() + LIMIT
    while keeper.problem.exists():
        assert time.monotonic() < end, keeper.log[-5:]
        time.sleep(0.05)
    assert not differences_at_last(lambda: drifting.state, drifting.now)


def test_it_pauses_while_a_run_changes_the_desired_state(kept: Kept) -> None:
    drifting, keeper = kept(("routed", "steer"))
    keeper.state.write_bytes(keeper.state.read_bytes())
    drifting.damage(PROXY)
    keeper.quiet(3)
    assert keeper.log[-1][1].startswith("paused: the desired state on disk has changed")
    assert differences(drifting.state, drifting.now())
    assert "paused: a run that has changed the desired state is not complete" in keeper.run("check").stdout
    began = time.monotonic()
    keeper.process.send_signal(signal.SIGHUP)
    keeper.repaired(began)
    assert not differences(drifting.state, drifting.now())


def test_members_are_kept_without_the_capability_to_hear_them() -> None:
    with (
        built("bridged", "flood") as drifting,
        RunningKeeper(drifting.world, drifting.built.layout, without="net_broadcast") as keeper,
    ):
        for drift in ("member's ruleset flushed", "own address removed", "namespace deleted"):
            began = time.monotonic()
            drifting.damage(DRIFTS["bridged", "flood"][drift])
            elapsed = keeper.repaired(began)
            print(f"{drift}: repaired after {elapsed:.2f} s")
            assert not differences_at_last(lambda: drifting.state, drifting.now)
            assert elapsed < LIMIT + 0.5


BUNDLE = {
    "name": "wide",
    "port": 1195,
    "network": "10.99.0.0/24",
    "ipv6_network": "",
    "outer_mtu": 1500,
    "tunnels": 3,
    "device_type": "tun",
    "spread": "per_packet",
    "snat": "none",
    "queue": 1000,
    "timeout": 1.2,
    "reordering": 0,
    "probe_port": 11940,
    "congestion_control": "",
    "rule_priority": 10000,
    "user": "nobody",
    "group": "nogroup",
    "end": 0,
    "rate": 40,
    "ends": [
        {"name": "A", "address": "192.0.2.1", "networks": ["10.1.0.0/24"]},
        {"name": "B", "address": "198.51.100.1", "networks": ["10.2.0.0/24"]},
    ],
}
BUNDLE_LOSSES = {
    "device deleted": "ip link del wide-2",
    "device down and up": "ip link set wide-1 down; ip link set wide-1 up",
    "address removed": "ip addr flush dev wide-3",
    "rules removed": "ip rule flush protocol 197",
    "route removed": "ip route del 10.2.0.0/24",
    "table deleted": "nft delete table inet clustered_openvpn_wide.bundle",
    "ruleset flushed": "nft flush ruleset",
    "rate limit removed": "tc qdisc del dev wide-1 root",
    "forwarding off": "sysctl -qw net.ipv4.conf.wide-1.forwarding=0",
}


@pytest.fixture(scope="module", params=["host", "namespace"])
def bundle(request: pytest.FixtureRequest) -> t.Iterator[tuple[str, RunningKeeper]]:
    """A bundle on a host, or in a namespace of it, that the keeper itself creates."""
    world = World(f"kb{os.getpid() % 10000}{request.param[0]}")
    try:
        world.netns("host")
        end = world.host if request.param == "host" else world.netns("end")
        if end != world.host:  # as it has the way to the other site
            sh(f"ip link add out type veth peer name eth0 netns {end}", world.host)
        layout = bundle_layout({**BUNDLE, "netns": "" if request.param == "host" else end}, None)
        with RunningKeeper(world, layout) as keeper:
            yield end, keeper
    finally:
        world.remove()


@pytest.mark.parametrize("loss", BUNDLE_LOSSES)
def test_each_loss_of_a_bundle_is_repaired(bundle: tuple[str, RunningKeeper], loss: str) -> None:
    end, keeper = bundle
    assert keeper.run("check").stdout == "No changes needed.\n"
    began = time.monotonic()
    sh(BUNDLE_LOSSES[loss], end)
    elapsed = keeper.repaired(began)
    print(f"{loss}: repaired after {elapsed:.2f} s")
    assert keeper.run("check").stdout == "No changes needed.\n"
    assert elapsed < LIMIT + (0.5 if end != keeper.host else 0)
