# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The look at the host before the first change: read, then decided by pure checks. Changes nothing."""

from __future__ import annotations

import contextlib
import ipaddress
import typing as t
from dataclasses import dataclass, field

from .._kernel import forward_chains, host_routes, links, namespaces, neighbour_probe, rtnetlink
from .._kernel.kernel import Kernel
from .._kernel.observed import Link
from .._params import ParameterError
from .._state.cluster import ClusterState
from .._state.files import State
from . import foreign_names, foreign_routes, forward_policy, nic
from .uplinks.registry import UPLINKS


@dataclass
class Findings:
    """C(errors): obstacles, for which nothing may be changed."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def findings(
    now: State, previous: State | None, pools: foreign_routes.Networks, *, adopt: bool, leaving: bool
) -> Findings:
    """Look at the host. C(pools): networks of clients, with their parameters. Raises OSError."""
    found = Findings()
    with rtnetlink.Reader() as reader:
        present = links.observe(reader, ("addresses",), ())
        routes, rules = host_routes.observe(reader)
    if not adopt:
        found.errors += foreign_names.errors(now, previous, _present(now, present))
    if leaving or not isinstance(now, ClusterState):
        return found
    before = previous if isinstance(previous, ClusterState) else None
    errors, warnings = foreign_routes.findings(now, before, pools, routes, rules)
    found.errors += errors
    found.warnings += warnings
    wrong_nic = nic.error(now, present)
    if wrong_nic:
        found.errors.append(wrong_nic)
    networks = [network for _parameter, network in pools]
    tables, legacy = forward_chains.nft_tables(), forward_chains.legacy_rules()
    found.warnings += forward_policy.warnings(now, networks, tables, legacy)
    if not found.errors:  # it takes a second
        _ask_neighbours(now, before, present, found)
    return found


def _present(now: State, host: t.Mapping[str, Link]) -> foreign_names.Present:
    inside: dict[str, t.Mapping[str, Link]] = {}
    if isinstance(now, ClusterState):
        for name in [namespace.name for namespace in now.namespaces if namespaces.exists(namespace.name)]:
            inside[name] = {}
            with Kernel() as kernel, contextlib.suppress(OSError):  # a file that is not a namespace has the name, too
                inside[name] = kernel.observe([name], ("addresses",))[name].links
    configurations = {}
    for name in foreign_names.configuration_names(now):
        path = f"{foreign_names.CONFIGURATIONS}/{name}.conf"
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                configurations[path] = file.read(1 << 16)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return foreign_names.Present(host, inside, configurations)


def _ask_neighbours(
    now: ClusterState, previous: ClusterState | None, host: t.Mapping[str, Link], found: Findings
) -> None:
    had = {one.address for one in previous.addresses} if previous else set()
    on_lan = UPLINKS[now.cluster.uplink].members_on_lan
    dev = host.get(now.cluster.bridge if on_lan and now.cluster.bridge in host else now.cluster.interface)
    if dev is None or not dev.mac or not dev.up:
        return
    own = {link.mac for link in host.values()} | {member.mac for member in now.members}
    sources = [one.split("/")[0] for one in sorted(dev.addresses)]
    for one in now.addresses:
        if one.address in had:
            continue
        others = neighbour_probe.holders(one.address, dev.name, dev.mac, sources) - own - {one.clustermac}
        if not others:
            continue
        parameter = "address" if ipaddress.ip_address(one.address).version == 4 else "ipv6_address"
        reason = f"the neighbour {', '.join(sorted(others))} on {dev.name} has it"
        text = str(ParameterError(parameter, one.address, f"{reason}; choose an address that nobody has"))
        # A host of the ring that serves the address alone until now answers with a MAC address of its own.
        (found.warnings if now.cluster.shared else found.errors).append(text)
