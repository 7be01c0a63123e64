# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for bundles of tunnels: a thin layer over module_utils/_bundle/layout.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._bundle import layout as _layout
from ..module_utils._state import files
from ..module_utils._state.bundle import BundleState


def bundle_layout(settings: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """The layout of one end: its desired state, and the parameters of the modules. Raises AnsibleFilterError."""
    try:
        return files.document(_layout.layout(settings, files.state_of(previous) if previous else None))
    except ValueError as exc:  # ParameterError among them
        raise AnsibleFilterError(str(exc)) from None  # Ansible would print each cause again
    except (LookupError, TypeError, AttributeError) as exc:  # a value of a type that no check expects
        raise AnsibleFilterError(
            f"a variable of the bundle has a wrong type or lacks a key: {type(exc).__name__}: {exc}"
        ) from exc


def bundle_draining(layout: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Parameters of the module tunnel_bundle that keep retired tunnels, with the weight 0."""
    state = files.state_of(layout)
    if not isinstance(state, BundleState):
        raise AnsibleFilterError(f"{state.name} is a cluster, not a bundle")
    return _layout.draining(state)


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name of the filter -> function."""
        return {"bundle_layout": bundle_layout, "bundle_draining": bundle_draining}
