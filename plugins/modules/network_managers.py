#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network_managers
short_description: Keep the host's network managers away from the links of a cluster
version_added: 0.1.0
description:
  - Writes a file for each network manager that is installed, running or not, with the links that it must not configure.
    A running manager reads the file at once. No manager is restarted, and no other link is configured again.
  - For systemd-networkd the file is C(/etc/systemd/network/00-clustered-openvpn-NAME.network). Without it, the file
    C(80-container-ve.network) of systemd matches the links of members. networkd then takes them out of their bridge.
  - For NetworkManager the file is C(/etc/NetworkManager/conf.d/00-clustered-openvpn-NAME.conf).
  - For dhcpcd it is a block in C(/etc/dhcpcd.conf).
  - Inside another network namespace than that of process 1, the module finds no managers.
options:
  name:
    description: Name of the cluster or bundle.
    type: str
    required: true
  interfaces:
    description: Names of links in the host's own network namespace. The filter C(clustered.openvpn.host_links) returns
      those of a layout.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) writes the files before the links are created.
      - V(absent) removes them. Remove the links first.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.bridge
  - module: clustered.openvpn.veth
"""

EXAMPLES = r"""
- name: Keep network managers away from the links of the cluster
  clustered.openvpn.network_managers:
    name: vpn
    interfaces: [br-vpn, ve-vpn1, ve-vpn2]
"""

RETURN = r"""
commands:
  description: Commands that are equivalent to the changes. Empty when nothing differs.
  type: list
  elements: str
  returned: success
  sample: [networkctl reload]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._cluster.cluster import cluster_name
from ..module_utils._managers import managers, reconcile
from ..module_utils._params import ParameterError

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "interfaces": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    try:
        links = managers.links_from(cluster_name("name", module.params["name"]), module.params["interfaces"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.network_managers(kernel, links, present))


if __name__ == "__main__":
    main()
