# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network namespaces and their sysctls: parameters -> desired state; with the observed state -> steps. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import _params as p
from .._kernel.observed import Views
from .._kernel.steps import Step, step
from .sysctls import plan_sysctls, sysctl_value


@dataclass(frozen=True)
class Namespace:
    """Desired state of a network namespace. Its loopback interface is always up."""

    name: str
    sysctls: t.Mapping[str, str]


def namespaces_from(items: t.Sequence[dict[str, t.Any]]) -> list[Namespace]:
    """The desired state from the C(namespaces) parameter. Raises ParameterError."""
    result = []
    for i, item in enumerate(items):
        where = f"namespaces[{i}]"
        sysctls = {str(k): sysctl_value(v) for k, v in (item.get("sysctls") or {}).items()}
        for key in sysctls:
            if not key.startswith(("net.", "net/")):
                raise p.ParameterError(f"{where}.sysctls", key, "only net.* belongs to a network namespace")
            p.text(f"{where}.sysctls", key)
            if not sysctls[key].isascii():
                raise p.ParameterError(f"{where}.sysctls.{key}", sysctls[key], "a sysctl's value is ASCII text")
            p.text(f"{where}.sysctls.{key}", sysctls[key])
            if ".." in key or key.startswith("/"):
                raise p.ParameterError(f"{where}.sysctls", key, "write a key as sysctl(8) does: net.ipv4.ip_forward")
        result.append(Namespace(p.netns_name(f"{where}.name", item["name"]), sysctls))
    p.unique("namespaces.name", (n.name for n in result))
    return result


def plan_namespaces(namespaces: t.Iterable[Namespace], present: bool, views: Views) -> list[Step]:
    """Steps that create and update the namespaces, or remove them."""
    steps = []
    for ns in namespaces:
        view = views[ns.name]
        if not present:
            if view.exists:
                steps.append(step("netns_del", name=ns.name))
            continue
        if not view.exists:
            steps.append(step("netns_add", name=ns.name))
        loopback = view.links.get("lo")
        if loopback is None or not loopback.up:
            steps.append(step("link_up", ns.name, dev="lo"))
        steps.extend(plan_sysctls(ns.name, ns.sysctls, view))
    return steps
