# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One end of a bundle: desired state + observed kernel state -> a plan."""

from __future__ import annotations

from .._kernel.kernel import Kernel
from .._kernel.observed import View
from .._kernel.ruleset import Listing
from .._kernel.steps import Planned
from . import plan, routes, spread
from .bundle import Bundle


def bundle(kernel: Kernel, desired: Bundle, present: bool) -> Planned:
    """The steps that create or remove one end. The live tunnels are left as they are: the watch decides about them."""
    netns = desired.netns
    views = kernel.observe([netns], (), {netns: plan.sysctls(desired)})
    if not views[netns].exists:
        remedy = "create it first with clustered.openvpn.netns"
        missing = [f"netns: {netns!r}: no such network namespace; {remedy}"] if present else []
        return Planned([], missing, {"live": []}, {"made": []})
    listing = bundle_table(kernel, desired, netns)
    seen = kernel.routing(netns, routes.destinations(desired).values() if present else ())
    if not present:
        return Planned(plan.plan_absent(desired, seen, listing), [], {"live": []}, {"made": []})
    steps = plan.plan(desired, seen, views[netns].sysctls, listing)
    live = spread.live_tunnels(desired, listing)
    return Planned(steps, [], {"live": live}, {"made": plan.missing_devices(desired, seen)})


def bundle_table(kernel: Kernel, desired: Bundle, netns: str = "") -> Listing:
    """The bundle's nftables table as nft lists it; None if there is none."""
    key = (netns, "inet", desired.table)
    return kernel.tables([key], {netns: View(netns, True)})[key]
