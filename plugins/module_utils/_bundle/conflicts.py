# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices, routing tables and routes that something else on the host uses: refused before any change. Pure."""

from __future__ import annotations

from .._kernel.routing import MAIN, MultiRoute, Seen
from .._params import ParameterError
from .bundle import Bundle, family
from .routes import destinations


def refuse_conflicts(bundle: Bundle, seen: Seen) -> None:
    """Raise ParameterError if a device, a routing table or a route belongs to something else."""
    for i, tunnel in enumerate(bundle.tunnels):
        present = seen.devices.get(tunnel.device)
        if present and present.alias != bundle.alias:
            reason = "this is a device of another bundle" if present.alias else "an interface of this name exists"
            raise ParameterError(f"tunnels[{i}].device", tunnel.device, f"{reason}; choose another name for the bundle")
    ours = {name for name, device in seen.devices.items() if device.alias == bundle.alias}
    marks = {tunnel.mark: i for i, tunnel in enumerate(bundle.tunnels)}
    for (_family, number, _destination), route in seen.routes.items():
        if number in marks and not _devices(route) <= ours:
            raise ParameterError(
                f"tunnels[{marks[number]}].mark",
                number,
                "another bundle uses this routing table; choose another first mark",
            )
    for parameter, network in destinations(bundle).items():
        route = seen.routes.get((family(network), MAIN, network), MultiRoute(frozenset()))
        if network in seen.others or not _devices(route) <= ours:
            raise ParameterError(
                parameter,
                network,
                "the host has a route to it that is not this bundle's; remove that route, or this parameter's value",
            )


def _devices(route: MultiRoute) -> set[str]:
    return {device for _gateway, device, _weight in route.legs}
