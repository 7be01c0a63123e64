# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program C(clustered-openvpn): applies the desired state of a cluster or bundle to the kernel, without Ansible.

A unit of systemd runs it at boot, before the instances start; by hand it repairs drift. It takes the same steps as the
modules, and runs on the Python of the distribution.
"""

from __future__ import annotations

import argparse
import os
import sys
import typing as t

from .._bundle import bundle as _bundle
from .._bundle import layout, reconcile
from .._bundle import plan as _plan
from .._bundle import watch as _watch
from .._cluster import cluster
from .._cluster import reconcile as _reconcile
from .._kernel import kernel as _kernel
from .._kernel import steps as _steps
from .._openvpn import supervisor
from .._openvpn.instance import Instance
from .._openvpn.supervisor_systemd import SystemdSupervisor
from .._params import ParameterError
from .._ring import failover, follower
from .._state import files
from .._state.cluster import ClusterState
from .._state.files import State, StateError
from .._state.schema import plain
from .._topology import bridges, namespaces, nic_move, veths
from .._topology import nic as _nic
from .._topology import reconcile as _topology_reconcile

MANIFESTS = files.DIRECTORY
DAMAGED = 78  # the exit status: EX_CONFIG of sysexits.h

Part = tuple[t.Callable[..., _steps.Planned], t.Any]


class RestoreError(Exception):
    """The desired state cannot be applied. The message names the reason."""


def read(path: str) -> State:
    """The desired state. Raises StateError: reading it again would not help."""
    with open(path, "rb") as file:
        state = files.load(path, file.read())
    try:
        parts_of(state, True)
    except ParameterError as exc:
        raise files.damaged(path, exc) from exc
    return state


def parts_of(state: State, present: bool) -> list[Part]:
    """Planners, each with its part of the state, in the order in which they must be applied. Pure."""
    if not isinstance(state, ClusterState):
        return [(reconcile.bundle, _bundle.bundle_from(plain(state.bundle, complete=True)))]
    parts: list[Part] = [
        (_topology_reconcile.namespaces, namespaces.namespaces_from(plain(state.namespaces, complete=True))),
        (_topology_reconcile.veths, veths.veths_from(plain(state.veths, complete=True))),
        (_topology_reconcile.bridges, bridges.bridges_from(plain(state.bridges, complete=True))),
    ]
    common = {
        **plain(state.cluster, complete=True),
        "name": state.name,
        "nodes": plain(state.nodes, complete=True),
        "claims": state.claims,
        "state": "present" if present else "absent",
    }
    for address in state.addresses:
        parts.append((_reconcile.clusterip, cluster.cluster_from({**common, **plain(address)})))
    return parts if present else parts[::-1]


def converge(kernel: _kernel.Kernel, state: State, present: bool, dry: bool = False) -> t.Iterator[str]:
    """Apply the state, or remove it: each step as it is taken, or as it would be if C(dry). Raises RestoreError."""
    for plan, wanted in parts_of(state, present):
        planned = plan(kernel, wanted, present)
        if planned.missing and not dry:
            raise RestoreError("; ".join(planned.missing))
        yield from (step.text for step in planned.steps)
        if planned.steps and not dry:
            kernel.apply(planned.steps)
            left = plan(kernel, wanted, present).steps
            if left:
                raise RestoreError("the kernel does not hold it; still to do: " + "; ".join(s.text for s in left))


def move_nic(state: State, present: bool, dry: bool = False) -> t.Iterator[str]:
    """Make the NIC a port of the bridge, or return its addresses and routes, if configured. Raises RestoreError."""
    if not isinstance(state, ClusterState) or not state.take_interface:
        return
    nic, bridge = state.cluster.interface, state.cluster.bridge
    plan = _nic.plan_take if present else _nic.plan_give_back
    move = plan(nic_move.show(nic), nic_move.show(bridge), nic, bridge)
    if move is None:
        return
    yield from move.commands
    # No gateway is asked: at boot it need not be there yet.
    if not dry and (failure := nic_move.change(move)):
        raise RestoreError(f"{failure}; everything was taken back")


def strays(state: State) -> list[str]:
    """Units of running servers whose process is in a deleted namespace: the member's was recreated meanwhile."""
    if not isinstance(state, ClusterState) or not supervisor.has_systemd():
        return []
    instances = [Instance(name=server.name, netns=server.netns) for server in state.servers]
    seen = SystemdSupervisor().observe(instances)
    return [i.unit for i in instances if seen[i.name].pid and not seen[i.name].in_netns]


def claims(state: State) -> None:
    """Follows keepalived: assigns buckets of elected slots to this host's members; releases all when it ends."""
    follower.follow(failover.failover_from(state), state.name)


def release(state: State) -> None:
    """Releases all buckets of this host's members."""
    follower.release(failover.failover_from(state), state.name)


def _path(name: str) -> str:
    return f"{MANIFESTS}/{name}.json"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def unattached(kernel: _kernel.Kernel, state: State) -> list[str]:
    """Units of tunnels whose device is missing: a process of theirs has lost its device and must be restarted."""
    if isinstance(state, ClusterState):
        return []
    bundle = _bundle.bundle_from(plain(state.bundle, complete=True))
    return [Instance(name=name).unit for name in _plan.missing_devices(bundle, kernel.routing(bundle.netns))]


def start(state: State) -> None:
    """Applies the desired state, and restarts servers that lost their namespace or device."""
    for step in move_nic(state, True):
        _say(step)
    with _kernel.Kernel() as kernel:
        lost = unattached(kernel, state)
        for step in converge(kernel, state, True):
            _say(step)
    for unit in [*lost, *strays(state)]:
        _say(f"systemctl try-restart {unit}")
        supervisor.run(["systemctl", "try-restart", "--no-block", unit])


def stop(state: State) -> None:
    """Removes everything from the kernel."""
    with _kernel.Kernel() as kernel:
        for step in converge(kernel, state, False):
            _say(step)
    for step in move_nic(state, False):
        _say(step)


def check(state: State) -> None:
    """Prints the steps that C(start) would take, and fails if there are any."""
    with _kernel.Kernel() as kernel:
        steps = [*move_nic(state, True, dry=True), *converge(kernel, state, True, dry=True)]
    steps += [f"systemctl try-restart {unit}" for unit in strays(state)]
    _say("\n".join(steps) or "As it should be.")
    if steps:
        raise RestoreError("it has drifted: 'start' would do this")


def watch(state: State) -> None:
    """Keeps dead tunnels of a bundle out of the spread, until it is stopped."""
    path = _path(state.name)
    while True:
        stamp = os.stat(path).st_mtime_ns
        state = read(path)
        if isinstance(state, ClusterState):
            raise RestoreError("it is a cluster, not a bundle of tunnels: there is nothing to watch")
        bundle = _bundle.bundle_from(layout.draining(state))
        _watch.watch(bundle, lambda: os.stat(path).st_mtime_ns != stamp, _say)  # noqa: B023 (it is called here only)


def main(args: t.Sequence[str]) -> int:
    """The program's; its exit status."""
    parser = argparse.ArgumentParser(
        prog="clustered-openvpn",
        description=f"Applies the desired state in {MANIFESTS}/NAME.json. Prints the steps that it takes.",
    )
    verbs = {"start": start, "stop": stop, "check": check, "watch": watch, "claims": claims, "release": release}
    helps = [f"{verb}: {function.__doc__}" for verb, function in verbs.items()]
    parser.add_argument("verb", choices=verbs, help=" ".join(helps))
    parser.add_argument("name", metavar="NAME", help="the name of the cluster or bundle")
    given = parser.parse_args(args)
    try:
        verbs[given.verb](read(_path(cluster.cluster_name("NAME", given.name))))
    except (
        *(RestoreError, ParameterError, OSError, ValueError),
        *(_kernel.KernelError, supervisor.SupervisorError),
        _kernel.NetlinkError,  # type: ignore[attr-defined]
    ) as exc:
        sys.stderr.write(f"clustered-openvpn: {given.name}: {exc}\n")
        return DAMAGED if isinstance(exc, StateError) else 1
    return 0
