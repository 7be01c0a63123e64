# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program C(clustered-openvpn): applies the desired state of a cluster or bundle to the kernel, without Ansible.

systemd runs it at boot, before the instances start; administrators run it to check and to repair. It takes the same
steps as the modules, and runs on the Python of the distribution.
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
from .._cluster import cluster, parameters
from .._cluster import reconcile as _reconcile
from .._kernel import kernel as _kernel
from .._kernel import steps as _steps
from .._openvpn import supervisor
from .._openvpn.instance import Instance
from .._openvpn.supervisor_systemd import SystemdSupervisor
from .._params import ParameterError
from .._ring import failover, follower, paths
from .._state import files
from .._state.cluster import ClusterState
from .._state.files import State, StateError
from .._state.schema import plain
from .._topology import bridge_uplink, bridge_uplink_move, bridges, namespaces, veths
from .._topology import reconcile as _topology_reconcile

MANIFESTS = paths.CONFIGURATION
DAMAGED = 78  # the exit status: EX_CONFIG of sysexits.h

Part = tuple[t.Callable[..., _steps.Planned], t.Any]


class RestoreError(Exception):
    """The desired state could not be applied. The message is for the administrator."""


def read(path: str) -> State:
    """The desired state. Raises StateError: a retry would fail as well."""
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
        # A run has removed rules that should not be there; iptables takes too long to be asked each time.
        "firewall": state.cluster.firewall or None,
        "state": "present" if present else "absent",
    }
    for address in state.addresses:
        parts.append((_reconcile.clusterip, parameters.cluster_from({**common, **plain(address)})))
    return parts if present else parts[::-1]


def converge(kernel: _kernel.Kernel, state: State, present: bool, dry: bool = False) -> t.Iterator[str]:
    """Apply the desired state, or remove it (C(present) false). Yields the steps as they are taken.

    dry: yield the steps without taking them. Raises RestoreError.
    """
    for plan, wanted in parts_of(state, present):
        planned = plan(kernel, wanted, present)
        if planned.missing and not dry:
            raise RestoreError("; ".join(planned.missing))
        yield from (step.text for step in planned.steps)
        if planned.steps and not dry:
            kernel.apply(planned.steps)
            left = plan(kernel, wanted, present).steps
            if left:
                raise RestoreError("the kernel did not keep all changes; missing: " + "; ".join(s.text for s in left))


def move_nic(state: State, present: bool, dry: bool = False) -> t.Iterator[str]:
    """Move the NIC's addresses and routes to the bridge, or back, if the role has done so. Raises RestoreError."""
    if not isinstance(state, ClusterState) or not state.take_interface:
        return
    nic, bridge = state.cluster.interface, state.cluster.bridge
    plan = bridge_uplink.plan_attach if present else bridge_uplink.plan_detach
    move = plan(bridge_uplink_move.observe(nic), bridge_uplink_move.observe(bridge), nic, bridge)
    if move is None:
        return
    yield from move.commands
    # The gateway is not probed: at boot it may not be reachable yet.
    if not dry and (failure := bridge_uplink_move.carry_out(move)):
        raise RestoreError(f"{failure}; all changes were rolled back")


def strays(state: State) -> list[str]:
    """Units of servers that run in a deleted namespace, since it has been recreated meanwhile."""
    if not isinstance(state, ClusterState) or not supervisor.has_systemd():
        return []
    instances = [Instance(name=server.name, netns=server.netns) for server in state.servers]
    running = SystemdSupervisor().observe(instances)
    return [i.unit for i in instances if running[i.name].pid and not running[i.name].in_netns]


def claims(state: State) -> None:
    """Assign the slots that keepalived gives to this host to its healthy members; release them when terminated."""
    follower.follow(failover.failover_from(state), state.name)


def release(state: State) -> None:
    """Release all buckets of this host."""
    follower.release(failover.failover_from(state), state.name)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def unattached(kernel: _kernel.Kernel, state: State) -> list[str]:
    """Units of tunnels whose device is missing. A process that runs is attached to a deleted device."""
    if isinstance(state, ClusterState):
        return []
    bundle = _bundle.bundle_from(plain(state.bundle, complete=True))
    return [Instance(name=name).unit for name in _plan.missing_devices(bundle, kernel.routing(bundle.netns))]


def start(state: State) -> None:
    """Apply the desired state; then restart servers whose namespace or device was recreated."""
    for step in move_nic(state, True):
        _print(step)
    with _kernel.Kernel() as kernel:
        lost = unattached(kernel, state)
        for step in converge(kernel, state, True):
            _print(step)
    for unit in [*lost, *strays(state)]:
        _print(f"systemctl try-restart {unit}")
        supervisor.run(["systemctl", "try-restart", "--no-block", unit])


def stop(state: State) -> None:
    """Remove the cluster or bundle from the kernel."""
    with _kernel.Kernel() as kernel:
        for step in converge(kernel, state, False):
            _print(step)
    for step in move_nic(state, False):
        _print(step)


def check(state: State) -> None:
    """Print the steps that start would take; exit with status 1 if there are any."""
    with _kernel.Kernel() as kernel:
        steps = [*move_nic(state, True, dry=True), *converge(kernel, state, True, dry=True)]
    steps += [f"systemctl try-restart {unit}" for unit in strays(state)]
    _print("\n".join(steps) or "No changes needed.")
    if steps:
        raise RestoreError("the host differs from the desired state; 'start' would take the steps above")


def watch(state: State) -> None:
    """Watch a bundle's tunnels, and remove dead ones from the spread, until terminated."""
    path = f"{MANIFESTS}/{state.name}.json"
    while True:
        stamp = os.stat(path).st_mtime_ns
        state = read(path)
        if isinstance(state, ClusterState):
            raise RestoreError("not a bundle; only bundles have tunnels to watch")
        bundle = _bundle.bundle_from(layout.draining(state))
        _watch.watch(bundle, lambda: os.stat(path).st_mtime_ns != stamp, _print)  # noqa: B023 (it is called here only)


def main(args: t.Sequence[str]) -> int:
    """Run the program; its exit status."""
    parser = argparse.ArgumentParser(
        prog="clustered-openvpn",
        formatter_class=argparse.RawTextHelpFormatter,
        description="Apply, check or remove the desired state of a cluster or bundle. Prints each step.\n"
        f"The desired state is {paths.desired_state('NAME')}.",
    )
    verbs = {"start": start, "stop": stop, "check": check, "watch": watch, "claims": claims, "release": release}
    helps = [f"{verb}: {function.__doc__}" for verb, function in verbs.items()]  # one line each
    parser.add_argument("verb", choices=verbs, help="\n".join(helps))
    parser.add_argument("name", metavar="NAME", help="the name of the cluster or bundle")
    given = parser.parse_args(args)
    try:
        verbs[given.verb](read(f"{MANIFESTS}/{cluster.cluster_name('NAME', given.name)}.json"))
    except (
        *(RestoreError, ParameterError, OSError, ValueError),
        _steps.KernelError,
    ) as exc:
        sys.stderr.write(f"clustered-openvpn: {given.name}: {exc}\n")
        return DAMAGED if isinstance(exc, StateError) else 1
    return 0
