# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program C(clustered-openvpn): a cluster's desired state on the host -> the kernel, without Ansible.

A unit of systemd runs it at boot, before the instances start; by hand it repairs what has drifted. It takes the same
steps as the modules do, and runs on the Python of the distribution.
"""

from __future__ import annotations

import argparse
import json
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
from .._topology import bridge_uplink, bridge_uplink_move, bridges, namespaces, veths
from .._topology import reconcile as _topology_reconcile

MANIFESTS = "/etc/clustered-openvpn"
DAMAGED = 78  # the exit status: EX_CONFIG of sysexits.h

# What the modules' argument specs fill in, where a layout leaves it out.
BRIDGE = {"exclusive": True, "mcast_snooping": False, "flood": True, "learning": True}
CLUSTERIP = {"forward_ipv6": False, "uplink": "routed", "shared": False, "engine": "nftables", "hash_as": None}

Manifest = t.Mapping[str, t.Any]
Part = tuple[t.Callable[..., _steps.Planned], t.Any]


class RestoreError(Exception):
    """What the administrator is told."""


class DamagedError(RestoreError):
    """The desired state cannot be read: trying again is of no use."""


def read(path: str) -> Manifest:
    """The desired state. Raises DamagedError."""
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        _tried = parts_of(manifest, True), manifest["servers"]
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise DamagedError(f"{path} is damaged ({type(exc).__name__}: {exc}): remove it, and run the role") from exc
    return manifest


def parts_of(manifest: Manifest, present: bool) -> list[Part]:
    """Planners of _parts, each with what it is to bring about, in the order in which that works. Pure."""
    state = {"state": "present" if present else "absent"}
    parts: list[Part] = [
        (_topology_reconcile.namespaces, namespaces.namespaces_from(manifest["namespaces"])),
        (_topology_reconcile.veths, veths.veths_from(manifest["veths"])),
        (_topology_reconcile.bridges, bridges.bridges_from([{**BRIDGE, **bridge} for bridge in manifest["bridges"]])),
    ]
    for address in manifest["addresses"]:
        claim = {**CLUSTERIP, **manifest["cluster"], **address, **state}
        claim.update(name=manifest["name"], nodes=manifest["nodes"], claims=manifest["claims"])
        parts.append((_reconcile.clusterip, cluster.cluster_from(claim)))
    parts += [(reconcile.bundle, _bundle.bundle_from(bundle)) for bundle in manifest.get("bundles", [])]
    return parts if present else parts[::-1]


def converge(kernel: _kernel.Kernel, manifest: Manifest, present: bool, dry: bool = False) -> t.Iterator[str]:
    """Bring everything about; the steps as they are taken, or, if C(dry), those that would be. Raises RestoreError."""
    for plan, wanted in parts_of(manifest, present):
        planned = plan(kernel, wanted, present)
        if planned.missing and not dry:
            raise RestoreError("; ".join(planned.missing))
        yield from (step.text for step in planned.steps)
        if planned.steps and not dry:
            kernel.apply(planned.steps)
            left = plan(kernel, wanted, present).steps
            if left:
                raise RestoreError("the kernel does not hold it; still to do: " + "; ".join(s.text for s in left))


def move_nic(manifest: Manifest, present: bool, dry: bool = False) -> t.Iterator[str]:
    """If the NIC was given to the bridge, it is again, or gets back what the bridge has. Raises RestoreError."""
    if not manifest.get("take_interface"):
        return
    nic, bridge = manifest["cluster"]["interface"], manifest["cluster"]["bridge"]
    plan = bridge_uplink.plan_attach if present else bridge_uplink.plan_detach
    move = plan(bridge_uplink_move.observe(nic), bridge_uplink_move.observe(bridge), nic, bridge)
    if move is None:
        return
    yield from move.commands
    # No gateway is asked: at boot it need not be there yet.
    if not dry and (failure := bridge_uplink_move.carry_out(move)):
        raise RestoreError(f"{failure}; all changes were rolled back")


def strays(manifest: Manifest) -> list[str]:
    """Units of running servers whose process is in a namespace that is gone: it was made anew under their feet."""
    if not supervisor.has_systemd():
        return []
    instances = [Instance(name=server["name"], netns=server["netns"]) for server in manifest["servers"]]
    seen = SystemdSupervisor().observe(instances)
    return [i.unit for i in instances if seen[i.name].pid and not seen[i.name].in_netns]


def claims(manifest: Manifest) -> None:
    """Gives the host's buckets to its members as keepalived says, until the end; then they are released."""
    follower.follow(_failover_of(manifest), manifest["name"])


def release(manifest: Manifest) -> None:
    """Takes all buckets from the host's members: other hosts have them."""
    follower.release(_failover_of(manifest), manifest["name"])


def _failover_of(manifest: Manifest) -> failover.Failover:
    try:
        return failover.failover_from(manifest)
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise DamagedError(f"nothing is said of failover ({type(exc).__name__}: {exc}): run the role") from exc


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def unattached(kernel: _kernel.Kernel, manifest: Manifest) -> list[str]:
    """Units of tunnels whose device is to be made: should one run, it is attached to nothing."""
    bundles = [_bundle.bundle_from(bundle) for bundle in manifest.get("bundles", [])]
    lost = [name for one in bundles for name in _plan.missing_devices(one, kernel.routing(one.netns))]
    return [Instance(name=name).unit for name in lost]


def start(manifest: Manifest) -> None:
    """All of the cluster, then servers that must be started anew for it."""
    for step in move_nic(manifest, True):
        _say(step)
    with _kernel.Kernel() as kernel:
        lost = unattached(kernel, manifest)
        for step in converge(kernel, manifest, True):
            _say(step)
    for unit in [*lost, *strays(manifest)]:
        _say(f"systemctl try-restart {unit}")
        supervisor.run(["systemctl", "try-restart", "--no-block", unit])


def stop(manifest: Manifest) -> None:
    """Everything is taken down."""
    with _kernel.Kernel() as kernel:
        for step in converge(kernel, manifest, False):
            _say(step)
    for step in move_nic(manifest, False):
        _say(step)


def check(manifest: Manifest) -> None:
    """What C(start) would do; fails if that is something."""
    with _kernel.Kernel() as kernel:
        steps = [*move_nic(manifest, True, dry=True), *converge(kernel, manifest, True, dry=True)]
    steps += [f"systemctl try-restart {unit}" for unit in strays(manifest)]
    _say("\n".join(steps) or "As it should be.")
    if steps:
        raise RestoreError("it has drifted: 'start' would do this")


def watch(manifest: Manifest) -> None:
    """Keeps dead tunnels of a bundle out of the spread, until it is ended."""
    path = f"{MANIFESTS}/{manifest['name']}.json"
    while True:
        stamp = os.stat(path).st_mtime_ns
        if not (manifest := read(path)).get("bundles"):
            raise RestoreError("it is not a bundle of tunnels: there is nothing to watch")
        bundle = _bundle.bundle_from(layout.draining(manifest))
        _watch.watch(bundle, lambda: os.stat(path).st_mtime_ns != stamp, _say)  # noqa: B023 (it is called here only)


def main(args: t.Sequence[str]) -> int:
    """The program's; its exit status."""
    parser = argparse.ArgumentParser(
        prog="clustered-openvpn",
        description=f"A cluster, or a bundle, as {MANIFESTS}/NAME.json says. Prints the steps taken.",
    )
    verbs = {"start": start, "stop": stop, "check": check, "watch": watch, "claims": claims, "release": release}
    helps = [f"{verb}: {function.__doc__}" for verb, function in verbs.items()]
    parser.add_argument("verb", choices=verbs, help=" ".join(helps))
    parser.add_argument("name", metavar="NAME", help="the name of the cluster or bundle")
    given = parser.parse_args(args)
    try:
        verbs[given.verb](read(f"{MANIFESTS}/{cluster.cluster_name('NAME', given.name)}.json"))
    except (
        *(RestoreError, ParameterError, OSError, ValueError),
        _steps.KernelError,
    ) as exc:
        sys.stderr.write(f"clustered-openvpn: {given.name}: {exc}\n")
        return DAMAGED if isinstance(exc, DamagedError) else 1
    return 0
