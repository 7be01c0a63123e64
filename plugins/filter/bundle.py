# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters about bundles of tunnels: the functions of module_utils, with errors of filters."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._bundle import layout as _layout
from ..module_utils._state import files
from ..module_utils._state.bundle import BundleState


def bundle_layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """Everything that one end of a bundle is made of, as parameters of the modules."""
    try:
        return files.document(_layout.layout(wanted, files.state_of(previous) if previous else None))
    except ValueError as exc:  # ParameterError is one
        raise AnsibleFilterError(str(exc)) from None  # Ansible would print each cause again
    except (LookupError, TypeError, AttributeError) as exc:  # of another form than anything above expects
        raise AnsibleFilterError(
            f"something in the bundle's variables has a wrong form: {type(exc).__name__}: {exc}"
        ) from exc


def bundle_draining(layout: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The bundle of a layout with the tunnels that are to go, which get no more packets."""
    state = files.state_of(layout)
    if not isinstance(state, BundleState):
        raise AnsibleFilterError(f"{state.name} is a cluster, not a bundle")
    return _layout.draining(state)


class FilterModule:
    """The plugin that Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name -> function."""
        return {"bundle_layout": bundle_layout, "bundle_draining": bundle_draining}
