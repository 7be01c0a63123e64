# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that gives the variables of the collection's roles their types.

Ansible checks variables by the argument specification of a role, but does not convert them: a name 1001 stays a number,
and C(--extra-vars) makes everything text.
"""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).resolve().parents[2] / "roles"
NOT_VALIDATED = ("description", "version_added", "default")
Spec = dict[str, t.Any]


def as_specified(value: t.Any, role: str, variable: str) -> t.Any:
    """The value with the types of the role's argument specification. Raises AnsibleFilterError."""
    spec = specification(role).get(variable)
    if spec is None:
        raise AnsibleFilterError(f"{variable}: the role {role} has no such variable")
    value = _plain(value)
    result = ArgumentSpecValidator({variable: _validated(spec)}).validate({variable: value})
    if result.error_messages:
        raise AnsibleFilterError(f"{variable}: {'; '.join(result.error_messages)}")
    return _given(result.validated_parameters[variable], value)


@functools.cache
def specification(role: str) -> Spec:
    """The variables of a role."""
    text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    return t.cast(Spec, yaml.safe_load(text)["argument_specs"]["main"]["options"])


def _plain(value: t.Any) -> t.Any:
    """Without Ansible's lazy containers, which refer to a template and cannot be copied, as the validator does."""
    if isinstance(value, t.Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _validated(spec: Spec) -> Spec:
    """Without documentation, and without defaults, which the validator would add."""
    kept = {key: value for key, value in spec.items() if key not in NOT_VALIDATED}
    if "options" in kept:
        kept["options"] = {name: _validated(option) for name, option in kept["options"].items()}
    return kept


def _given(converted: t.Any, value: t.Any) -> t.Any:
    """The converted value without the keys that the validator has added."""
    if isinstance(converted, dict) and isinstance(value, dict):
        return {key: _given(converted[key], value[key]) for key in value if key in converted}
    if isinstance(converted, list) and isinstance(value, list):
        return [_given(one, original) for one, original in zip(converted, value)]
    return converted


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name of the filter -> function."""
        return {"as_specified": as_specified}
