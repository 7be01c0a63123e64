# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for OpenVPN instances: thin wrappers of the pure files in module_utils."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._openvpn import instance

ROLES = ("server", "client")


def openvpn_instance_names(name: str, role: str = "server") -> dict[str, str]:
    """The unit, files and device of an instance. Raises AnsibleFilterError."""
    if role not in ROLES:
        raise AnsibleFilterError(f"role: {role!r}: use one of {', '.join(ROLES)}")
    return instance.instance_names(name, role)


class FilterModule:
    """The filters that Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name -> function."""
        return {"openvpn_instance_names": openvpn_instance_names}
