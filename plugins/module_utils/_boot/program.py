# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program C(clustered-openvpn): applies the desired state of a cluster or bundle to the kernel, without Ansible.

systemd runs it at boot, before the instances start; administrators run it to check and to repair. It takes the same
steps as the modules, and runs on the Python of the distribution.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import typing as t

from .._bundle import bundle as _bundle
from .._bundle import host_links as _bundle_links
from .._bundle import layout, reconcile
from .._bundle import plan as _plan
from .._bundle import watch as _watch
from .._cluster import cluster, host_links, parameters
from .._cluster import reconcile as _reconcile
from .._kernel import kernel as _kernel
from .._kernel import steps as _steps
from .._kernel import turns
from .._managers import managers
from .._managers import reconcile as _managers_reconcile
from .._openvpn import supervisor
from .._openvpn.instance import Instance
from .._openvpn.supervisor_systemd import SystemdSupervisor
from .._params import ParameterError
from .._ring import away, failover, follower, host_follower, paths, vrrp_filter
from .._state import files
from .._state.cluster import ClusterState
from .._state.files import State, StateError
from .._state.schema import plain
from .._topology import bridge_uplink, bridge_uplink_move, bridges, namespaces, veths
from .._topology import reconcile as _topology_reconcile
from . import keeper, service_report

MANIFESTS = paths.CONFIGURATION
TURN = 30.0  # seconds to wait for another program that changes the host
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
    """Planners, each with its part of the state, in the order in which they must be applied. Pure.

    The files of network managers stay while a cluster is stopped, like its units: at boot, they must be there first.
    """
    names = host_links.host_links(state) if isinstance(state, ClusterState) else _bundle_links.host_links(state)
    unmanaged: list[Part] = [(_managers_reconcile.network_managers, managers.links_from(state.name, names))]
    return [*unmanaged, *_kernel_parts(state, True)] if present else _kernel_parts(state, False)


def _kernel_parts(state: State, present: bool) -> list[Part]:
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
    if state.cluster.shared:
        parts.append(
            (
                vrrp_filter.vrrp_filter,
                vrrp_filter.filter_from(state.name, bool(state.failover and state.failover.keepalived)),
            )
        )
    for address in state.addresses:
        parts.append((_reconcile.clusterip, parameters.cluster_from({**common, **plain(address)})))
    return parts if present else parts[::-1]


def converge(kernel: _kernel.Kernel, state: State, present: bool, dry: bool = False) -> t.Iterator[str]:
    """Apply the desired state, or remove it (C(present) false). Yields the steps as they are taken.

    dry: yield the steps without taking them. Earlier steps may create prerequisites of later ones; without any step, a
    prerequisite is missing for good. Raises RestoreError.
    """
    if present and isinstance(state, ClusterState):
        state = away.as_held(state)
    taken, lacking = False, []
    for plan, wanted in parts_of(state, present):
        planned = plan(kernel, wanted, present)
        lacking += planned.missing
        if planned.missing and not dry:
            raise RestoreError("; ".join(planned.missing))
        taken = taken or bool(planned.steps)
        yield from (step.text for step in planned.steps)
        if planned.steps and not dry:
            kernel.apply(planned.steps)
            left = plan(kernel, wanted, present).steps
            if left:
                raise RestoreError("the kernel did not keep all changes; missing: " + "; ".join(s.text for s in left))
    if lacking and not taken:
        raise RestoreError("; ".join(lacking))


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
    """Assign the slots of this host to its healthy members. With keepalived, release them when terminated."""
    host_follower.follow(failover.failover_from(state), state.name)


def release(state: State) -> None:
    """Release all buckets of this host to the others. Without others, nothing changes."""
    settings = state.failover or state.retired.failover if isinstance(state, ClusterState) else None
    if settings is None or settings.keepalived:
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


def repair(kernel: _kernel.Kernel, state: State) -> t.Iterator[str]:
    """Apply the desired state; then restart servers whose namespace or device was recreated. Yields the steps taken."""
    yield from move_nic(state, True)
    lost = unattached(kernel, state) if supervisor.has_systemd() else []
    yield from converge(kernel, state, True)
    for unit in [*lost, *strays(state)]:
        yield f"systemctl try-restart {unit}"
        supervisor.run(["systemctl", "try-restart", "--no-block", unit])


def missing(kernel: _kernel.Kernel, state: State) -> list[str]:
    """The steps that change the kernel in a repair."""
    return [*move_nic(state, True, dry=True), *converge(kernel, state, True, dry=True)]


def start(state: State) -> None:
    """Apply the desired state; then restart servers whose namespace or device was recreated."""
    with turns.turn(TURN), _kernel.Kernel() as kernel:
        for step in repair(kernel, state):
            _print(step)


def stop(state: State) -> None:
    """Remove the cluster or bundle from the kernel."""
    with turns.turn(TURN):
        with _kernel.Kernel() as kernel:
            for step in converge(kernel, state, False):
                _print(step)
        for step in move_nic(state, False):
            _print(step)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(paths.away(state.name))


def check(state: State) -> None:
    """Print the steps that start would take, and problems of servers; exit with status 1 if there are any."""
    with _kernel.Kernel() as kernel:
        steps = missing(kernel, state)
    steps += [f"systemctl try-restart {unit}" for unit in strays(state)]
    problems = service_report.problems(state)
    for line in (*service_report.notes(state), *problems):
        _print(line)
    _print("\n".join(steps) or "No changes needed.")
    if problem := keeper.problem(state.name):
        _print(f"{paths.keeper_unit(state.name)}: {problem}")
    if keeper.is_paused(state.name, f"{MANIFESTS}/{state.name}.json"):
        _print(f"{paths.keeper_unit(state.name)}: paused: a run that has changed the desired state is not complete")
    if steps or problem:
        raise RestoreError("the host differs from the desired state; 'start' would take the steps above")
    if problems:
        raise RestoreError("servers do not serve all clients, for the reasons above; 'start' does not change that")


FAILURES = (RestoreError, ParameterError, OSError, ValueError, _steps.KernelError)


class Kept:
    """The desired state of a cluster or bundle, for its keeper."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.table = cluster.table_name(name)
        self._path = f"{MANIFESTS}/{name}.json"
        self._loaded = _modified(self._path)
        self._state = read(self._path)

    def errors(self) -> tuple[type[Exception], ...]:
        return FAILURES

    def texts(self) -> t.Collection[str]:
        return set(_texts(plain(self._state)))

    def changed(self) -> bool:
        return _modified(self._path) != self._loaded

    def missing(self, kernel: _kernel.Kernel) -> list[str]:
        return missing(kernel, self._state)

    def repair(self, kernel: _kernel.Kernel) -> t.Iterator[str]:
        return repair(kernel, self._state)


def _modified(path: str) -> int:
    """When a file was last changed; 0 if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _texts(document: t.Any) -> t.Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, (list, dict)):
        for one in document.values() if isinstance(document, dict) else document:
            yield from _texts(one)


def keep(state: State) -> None:
    """Repair the cluster or bundle as soon as a part of it gets lost, until terminated."""
    keeper.keep(Kept(state.name), _print)


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
    verbs = {
        "start": start,
        "stop": stop,
        "check": check,
        "keep": keep,
        "watch": watch,
        "claims": claims,
        "release": release,
    }
    helps = [f"{verb}: {function.__doc__}" for verb, function in verbs.items()]  # one line each
    parser.add_argument("verb", choices=verbs, help="\n".join(helps))
    parser.add_argument("name", metavar="NAME", help="the name of the cluster or bundle")
    given = parser.parse_args(args)
    try:
        verbs[given.verb](read(f"{MANIFESTS}/{cluster.cluster_name('NAME', given.name)}.json"))
    except FAILURES as exc:
        sys.stderr.write(f"clustered-openvpn: {given.name}: {exc}\n")
        return DAMAGED if isinstance(exc, StateError) else 1
    return 0
