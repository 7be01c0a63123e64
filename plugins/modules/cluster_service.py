#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_service
short_description: Install the systemd unit that restores a cluster's network at boot
version_added: 0.1.0
description:
  - Installs the program C(clustered-openvpn), which is the code of this collection, and enables the unit
    C(clustered-openvpn@NAME). At boot, the unit applies the desired state in C(/etc/clustered-openvpn/NAME.json)
    without Ansible. It configures namespaces, links, addresses, routes, rules and sysctls. The roles C(netns_cluster)
    and C(tunnel_bundle) write that file.
  - C(systemctl reload) repairs differences from the desired state, C(systemctl stop) removes the cluster from the
    kernel, and C(systemctl start) applies it again. C(clustered-openvpn check NAME) prints the steps that a repair
    would take.
  - The unit C(clustered-openvpn-keeper@NAME) starts with it. It repairs such differences by itself within two seconds,
    and writes each command to the journal. Mask it to switch it off.
  - The units of instances are bound to this unit. They start after it, stop with it, and start with it again.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  units:
    description: The units of the cluster's instances, without C(.service), as in V(openvpn-server@vpn1-udp). Units that
      are not listed are no longer bound to the cluster.
    type: list
    elements: str
    default: []
  failover:
    description:
      - Whether C(clustered-openvpn-claims@NAME) and C(clustered-openvpn-vrrp@NAME) start with the cluster. The latter
        runs keepalived, which elects the host of each slot (a set of buckets). The former assigns the slots of this
        host to its healthy members.
      - C(clustered-openvpn-vrrp@NAME) reads C(keepalived.conf) and C(vrrp.nft) in C(/etc/clustered-openvpn/NAME.ring).
        The role C(clusterip_cluster) writes these files.
      - Each of the two units is reloaded when its files are newer than its last reload.
    type: bool
    default: false
  keepalived:
    description:
      - Whether the host shares the address with others, so that keepalived runs with O(failover=true).
      - With V(false), the members of this host replace each other, and C(clustered-openvpn-claims@NAME) alone assigns
        the buckets.
    type: bool
    default: true
    version_added: 0.1.0
  state:
    description:
      - V(present) installs, enables and starts the unit.
      - V(absent) stops the unit, which removes the cluster from the kernel, and uninstalls it. With the last cluster of
        the host, the program is uninstalled, too.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Reports the changes without making them.
  diff_mode:
    support: full
    description: Shows changed files and the commands.
  platform:
    platforms: Linux
    support: full
    description: Requires systemd and root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
"""

EXAMPLES = r"""
- name: Restore the cluster at boot
  clustered.openvpn.cluster_service:
    name: vpn
    units:
      - openvpn-server@vpn1-udp
      - openvpn-server@vpn2-udp
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty without changes.
  type: list
  elements: str
  returned: success
  sample: [systemctl daemon-reload, systemctl enable --now clustered-openvpn@vpn]
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _params as p
from ..module_utils._boot import install, units
from ..module_utils._cluster import cluster
from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.kernel import Kernel
from ..module_utils._kernel.steps import KernelError, prepared_diff
from ..module_utils._openvpn import supervisor
from ..module_utils._ring import paths, vrrp_filter

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "units": {"type": "list", "elements": "str", "default": []},
    "failover": {"type": "bool", "default": False},
    "keepalived": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def unit_name(value: str) -> str:
    """A unit that may be bound to a cluster. Raises ParameterError."""
    if not re.match(r"^(openvpn-(server|client)|clustered-openvpn-watch)@[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z", value):
        raise p.ParameterError(
            "units", value, "use the name of a unit, such as openvpn-server@vpn1-udp, without .service"
        )
    return value


class ClusterUnits:
    """The units of one cluster. C(commands) and C(diff) are the changes made, or, in check mode, to be made."""

    def __init__(self, name: str, check_mode: bool) -> None:
        self._name = name
        self._check_mode = check_mode
        self._kernel = Kernel()
        self.unit = f"{units.CLUSTER}@{name}"
        self.commands: list = []
        self.diff: list = []

    def files(self, wanted: install.Files, installed: install.Files) -> bool:
        """Write and remove files, then reload systemd. Whether a file was changed."""
        write, remove = install.differing(wanted, installed)
        for path, file in write.items():
            new = file.target or file.text
            old = installed.get(path, install.InstalledFile())
            self.diff.append(
                {"before_header": path, "after_header": path, "before": old.target or old.text, "after": new}
            )
            self.commands.append(
                f"ln -sfn {file.target} {path}" if file.target else f"install -D -m {file.mode:04o} /dev/stdin {path}"
            )
        self.commands += [f"rm {path}" for path in remove]
        if not self._check_mode:
            install.put(write)
            install.drop(remove)
        if write or remove:
            self.systemctl("daemon-reload")
        return bool(write or remove)

    def properties(self, unit: str = "") -> dict:
        """ActiveState and UnitFileState of a unit; by default that of the cluster."""
        text = supervisor.run(["systemctl", "show", "--property=ActiveState,UnitFileState", unit or self.unit])
        return dict(line.split("=", 1) for line in text.split())

    def systemctl(self, *words: str) -> None:
        """Run systemctl, with a timeout that suits a large cluster."""
        self.commands.append(" ".join(["systemctl", *words]))
        if not self._check_mode:
            supervisor.run(["systemctl", *words], 300)

    def present(self, instances: list, failover: bool, keepalived: bool) -> None:
        """Install and start. The cluster's unit is first: an instance bound to an inactive unit would be stopped."""
        updated = self.files(install.shared(), install.installed_shared())
        state = self.properties()
        if state.get("ActiveState") == "failed":  # it may have reached its start limit, which would refuse a start
            self.systemctl("reset-failed", self.unit)
        if state.get("ActiveState") != "active" or state.get("UnitFileState") != "enabled":
            self.systemctl("enable", "--now", self.unit)
        self.files(install.bonds(self._name, instances, failover), install.installed_bonds(self._name))
        if state.get("ActiveState") == "active" and self.filter(vrrp_filter.filter_from(self._name, keepalived), True):
            self.systemctl("reload", self.unit)  # before keepalived starts, or reads its configuration again
        self.failover(failover, keepalived, updated)
        self.keeper(updated)

    def filter(self, wanted: vrrp_filter.VrrpFilter, present: bool) -> list:
        """The steps that create, correct or remove the VRRP filter."""
        try:
            return vrrp_filter.vrrp_filter(self._kernel, wanted, present).steps
        except CommandError as exc:
            if exc.missing and (self._check_mode or not present):  # nft is not installed yet, or no more
                return []
            raise

    def keeper(self, updated: bool) -> None:
        """Start the keeper; or reload it, so that it reads the new state. It pauses while that on disk is newer."""
        unit = f"{paths.KEEPER}@{self._name}"
        state = self.properties(unit)
        if state.get("UnitFileState") == "masked":
            return
        if state.get("ActiveState") != "active":
            self.systemctl("start", unit)
        elif updated or install.keeper_inputs(self._name).changed():
            self.systemctl("reload", unit)

    def failover(self, wanted: bool, keepalived: bool, updated: bool) -> None:
        """Start, reload or stop the claims unit and keepalived. updated: whether the program was updated."""
        claims, election = f"{paths.CLAIMS}@{self._name}", f"{paths.VRRP}@{self._name}"
        active = [self.properties(unit).get("ActiveState") == "active" for unit in (claims, election)]
        if not wanted and active[0]:
            self.systemctl("stop", claims)  # and keepalived, which is bound to it
        if wanted and active[0] and (updated or install.claims_inputs(self._name).changed()):
            self.systemctl("reload", claims)
        if wanted and keepalived and active[1] and install.vrrp_inputs(self._name).changed():
            self.systemctl("reload", election)
        if wanted and active[1] and not keepalived:
            self.systemctl("stop", election)
        needed = {claims: active[0], election: active[1] or not keepalived}
        if wanted and not all(needed.values()):
            self.systemctl("start", *([claims, election] if keepalived else [claims]))

    def absent(self, others: bool) -> None:
        """Stop and uninstall. others: whether the host has other clusters, which need the program."""
        state = self.properties()
        if state.get("ActiveState") not in ("inactive", None) or state.get("UnitFileState") == "enabled":
            self.systemctl("disable", "--now", self.unit)
        self.files({}, install.installed_bonds(self._name))
        if steps := self.filter(vrrp_filter.filter_from(self._name, False), False):  # the unit was not active
            self.commands += [step.text for step in steps]
            if not self._check_mode:
                self._kernel.apply(steps)
        if not others:
            self.files({}, install.installed_shared())


def others(name: str) -> bool:
    """Whether units of other clusters are enabled."""
    links = os.listdir(directory) if os.path.isdir(directory := f"{install.UNITS}/multi-user.target.wants") else []
    return any(x.startswith(f"{units.CLUSTER}@") and x != units.cluster_unit(name) for x in links)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="this module installs systemd units and must run as root; use 'become: true'")
    if not supervisor.has_systemd():
        module.fail_json(msg="systemd does not run on this host; use a host with systemd")
    try:
        service = ClusterUnits(cluster.cluster_name("name", module.params["name"]), module.check_mode)
        instances = [unit_name(unit) for unit in module.params["units"]]
        p.unique("units", instances)
        if module.params["state"] == "present":
            service.present(instances, module.params["failover"], module.params["keepalived"])
        else:
            service.absent(others(module.params["name"]))
    except (p.ParameterError, KernelError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=bool(service.commands),
        commands=service.commands,
        diff=[*service.diff, prepared_diff(service.commands)],
    )


if __name__ == "__main__":
    main()
