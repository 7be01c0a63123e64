# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""veth pairs: parameters -> desired state; with the observed state -> steps. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import _params as p
from .._kernel.observed import Link, Views
from .._kernel.steps import Step, step
from .interfaces import Interface, add_routes, drop_routes, interface_from, plan_link, refuse_other_kind


@dataclass(frozen=True)
class Veth:
    """Desired state of both ends of a veth pair."""

    end: Interface
    peer: Interface


def veths_from(items: t.Sequence[dict[str, t.Any]]) -> list[Veth]:
    """The desired state from the C(veths) parameter. Raises ParameterError."""
    result = [
        Veth(interface_from(f"veths[{i}]", item), interface_from(f"veths[{i}].peer", item["peer"]))
        for i, item in enumerate(items)
    ]
    ends = [end for veth in result for end in (veth.end, veth.peer)]
    p.unique("veths.name", ((end.netns, end.name) for end in ends))
    p.unique("veths.routes.dst", ((end.netns, route.dst) for end in ends for route in sorted(end.routes, key=str)))
    return result


def plan_veths(veths: t.Iterable[Veth], present: bool, views: Views) -> list[Step]:
    """Steps that create and update the pairs, or remove them."""
    steps = []
    gone: set[tuple[str, str]] = set()
    for i, veth in enumerate(veths):
        ends = (veth.end, veth.peer)
        have = [None if (e.netns, e.name) in gone else views[e.netns].links.get(e.name) for e in ends]
        for end, link in zip(ends, have):
            refuse_other_kind("veths" + f"[{i}].name", end, link, "veth")
        paired = _paired(*have)
        if not (present and paired):
            for end, link in zip(ends, have):
                if link is not None and (end.netns, end.name) not in gone:
                    steps.append(step("link_del", end.netns, dev=end.name))
                    # The kernel removes the other end too, in whichever namespace it is.
                    gone.add((end.netns, end.name))
                    gone.update((v.netns, x.name) for v in views.values() for x in v.links.values() if _paired(link, x))
        if not present:
            continue
        if not paired:
            steps.append(_veth_add(veth))
            have = [Link(e.name, "veth", mac=e.mac, mtu=e.mtu) for e in ends]
        for end, link in zip(ends, have):
            steps.extend(drop_routes(end, link))  # before their address: the kernel would remove them with it
            steps.extend(plan_link(end, t.cast(Link, link)))
        # A route needs its interface up, and an interface has carrier when both of its ends are up.
        for end, link in zip(ends, have):
            steps.extend(add_routes(end, t.cast(Link, link)))
    return steps


def _paired(a: Link | None, b: Link | None) -> bool:
    # In both directions, because an index is unique only within its namespace.
    return a is not None and b is not None and a.peer_index == b.index and b.peer_index == a.index


def _veth_add(veth: Veth) -> Step:
    # "netns NAME" cannot name the host's own namespace: an end that is there has to be the first.
    end, peer = (veth.peer, veth.end) if veth.end.netns and not veth.peer.netns else (veth.end, veth.peer)
    return step(
        "veth_add",
        end.netns,
        dev=end.name,
        mac=end.mac,
        mtu=end.mtu,
        peer=peer.name,
        peer_netns=peer.netns if peer.netns != end.netns else None,
        peer_mac=peer.mac,
        peer_mtu=peer.mtu,
    )
