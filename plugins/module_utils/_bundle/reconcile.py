# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of tunnels: desired state + what the kernel holds -> a plan."""

from __future__ import annotations

import typing as t

from .._kernel.kernel import Kernel
from .._kernel.observed import View
from .._kernel.steps import Planned
from . import bundle as _bundle
from . import plan, spread


def bundle(kernel: Kernel, wanted: _bundle.Bundle, present: bool) -> Planned:
    """One end of a bundle of tunnels; which of them are in the spread now is not its business."""
    place = wanted.netns
    views = kernel.observe([place], (), {place: plan.sysctls(wanted)})
    if not views[place].exists:
        remedy = "make it first with clustered.openvpn.netns"
        missing = [f"netns: {place!r}: no such network namespace; {remedy}"] if present else []
        return Planned([], missing, {"live": []}, {"made": []})
    listing = bundle_table(kernel, wanted, place)
    seen = kernel.routing(place, plan.destinations(wanted).values() if present else ())
    if present:
        steps = plan.plan(wanted, seen, views[place].sysctls, listing)
    else:
        steps = plan.plan_absent(wanted, seen, listing)
    made = plan.missing_devices(wanted, seen) if present else []
    return Planned(steps, [], {"live": spread.live_in(wanted, listing) if present else []}, {"made": made})


def bundle_table(kernel: Kernel, wanted: _bundle.Bundle, place: str = "") -> t.Any:
    """The table that spreads its packets, as nft lists it; None where there is none."""
    key = (place, "inet", wanted.table)
    return kernel.tables([key], {place: View(place, True)})[key]
