#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_service
short_description: A systemd unit that brings a cluster's network back at boot
version_added: 0.1.0
description:
  - Installs the program C(clustered-openvpn), which is this collection's own code, and the unit
    C(clustered-openvpn@NAME). They bring namespaces, links, addresses, routes, rules and sysctls to what
    C(/etc/clustered-openvpn/NAME.json) says, at boot and without Ansible. The role C(netns_cluster) keeps that file.
  - C(systemctl reload) repairs what has drifted, C(systemctl stop) takes the cluster down, C(systemctl start) brings it
    back. C(clustered-openvpn check NAME) tells what a repair would do.
  - Units of instances are tied to it. They start after it, stop with it, and start with it again.
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  units:
    description: The units of its instances, without C(.service), as in V(openvpn-server@vpn1-udp). The list is exact.
    type: list
    elements: str
    default: []
  failover:
    description:
      - Whether C(clustered-openvpn-claims@NAME) and C(clustered-openvpn-vrrp@NAME) start with it. keepalived elects the
        host for slots of buckets, and the former gives these to the members that are well.
      - The latter takes C(keepalived.conf) and C(vrrp.nft) in C(/etc/clustered-openvpn/NAME.ring). The role
        C(clusterip_cluster) keeps these files.
      - Both are reloaded when their files are newer than what they have read.
    type: bool
    default: false
  state:
    description:
      - V(present) installs, enables and starts the unit.
      - V(absent) stops it, so the cluster is taken down, and removes it. With the last cluster of the host, the program
        goes, too.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Tells what would change, and changes nothing.
  diff_mode:
    support: full
    description: Shows the files that change, and the commands that are run.
  platform:
    platforms: Linux
    support: full
    description: Needs systemd, and root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
"""

EXAMPLES = r"""
- name: The cluster comes back after a reboot
  clustered.openvpn.cluster_service:
    name: vpn
    units:
      - openvpn-server@vpn1-udp
      - openvpn-server@vpn2-udp
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
  type: list
  elements: str
  returned: success
  sample: [systemctl daemon-reload, systemctl enable --now clustered-openvpn@vpn]
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _params as p
from ..module_utils._boot import install
from ..module_utils._cluster import cluster
from ..module_utils._kernel.steps import prepared_diff
from ..module_utils._openvpn import supervisor

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "units": {"type": "list", "elements": "str", "default": []},
    "failover": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def unit_name(value: str) -> str:
    """An instance's unit."""
    if not re.match(r"^(openvpn-(server|client)|clustered-openvpn-watch)@[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z", value):
        raise p.ParameterError("units", value, "name a unit as openvpn-server@vpn1-udp, without .service")
    return value


class Service:
    """The unit of one cluster; the commands that it took, or would take."""

    def __init__(self, name: str, check_mode: bool) -> None:
        self._name = name
        self._check_mode = check_mode
        self.unit = f"clustered-openvpn@{name}"
        self.commands: list = []
        self.diff: list = []

    def files(self, wanted: install.Files, there: install.Files) -> bool:
        """Bring files about, and let systemd know. Whether there was anything to do."""
        write, remove = install.differing(wanted, there)
        for path, file in write.items():
            new = file.target or file.text
            old = there.get(path, install.File())
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

    def shown(self, unit: str = "") -> dict:
        """Whether it is active, and enabled."""
        text = supervisor.run(["systemctl", "show", "--property=ActiveState,UnitFileState", unit or self.unit])
        return dict(line.split("=", 1) for line in text.split())

    def systemctl(self, *words: str) -> None:
        """Run it, with as long a time as a large cluster may need."""
        self.commands.append(" ".join(["systemctl", *words]))
        if not self._check_mode:
            supervisor.run(["systemctl", *words], 300)

    def present(self, units: list, failover: bool) -> None:
        """The unit first and running: instances that are tied to one that is not would be stopped."""
        renewed = self.files(install.shared(), install.shared_there())
        shown = self.shown()
        if shown.get("ActiveState") == "failed":  # maybe since it was tried too often: that would not be done again
            self.systemctl("reset-failed", self.unit)
        if shown.get("ActiveState") != "active" or shown.get("UnitFileState") != "enabled":
            self.systemctl("enable", "--now", self.unit)
        self.files(install.bonds(self._name, units, failover), install.bonds_there(self._name))
        self.claims(failover, renewed)

    def claims(self, wanted: bool, renewed: bool) -> None:
        """The units of claims and election, which end together. A new program takes over where the old one was."""
        read = install.read_by(self._name)
        claims, election = (f"clustered-openvpn-{kind}@{self._name}" for kind in ("claims", "vrrp"))
        active = [self.shown(unit).get("ActiveState") == "active" for unit in (claims, election)]
        if not wanted and active[0]:
            self.systemctl("stop", claims)
        if wanted and active[0] and (renewed or install.outdated(read["claims"])):
            self.systemctl("reload", claims)
        if wanted and active[1] and install.outdated(read["vrrp"]):
            self.systemctl("reload", election)
        if wanted and not all(active):
            self.systemctl("start", claims, election)

    def absent(self, others: bool) -> None:
        """The reverse."""
        shown = self.shown()
        if shown.get("ActiveState") not in ("inactive", None) or shown.get("UnitFileState") == "enabled":
            self.systemctl("disable", "--now", self.unit)
        self.files({}, install.bonds_there(self._name))
        if not others:
            self.files({}, install.shared_there())


def others(name: str) -> bool:
    """Whether there are units of other clusters."""
    links = os.listdir(directory) if os.path.isdir(directory := f"{install.UNITS}/multi-user.target.wants") else []
    return any(x.startswith("clustered-openvpn@") and x != f"clustered-openvpn@{name}.service" for x in links)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="this module installs a unit of the system and must run as root: use 'become: true'")
    if not supervisor.has_systemd():
        module.fail_json(msg="this host is not run by systemd, so it has no units")
    try:
        service = Service(cluster.cluster_name("name", module.params["name"]), module.check_mode)
        units = [unit_name(unit) for unit in module.params["units"]]
        p.unique("units", units)
        if module.params["state"] == "present":
            service.present(units, module.params["failover"])
        else:
            service.absent(others(module.params["name"]))
    except (p.ParameterError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=bool(service.commands),
        commands=service.commands,
        diff=[*service.diff, prepared_diff(service.commands)],
    )


if __name__ == "__main__":
    main()
