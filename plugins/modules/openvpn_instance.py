#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_instance
short_description: Manage OpenVPN processes in network namespaces
version_added: 0.1.0
description:
  - Starts, stops, restarts or removes OpenVPN processes, called instances. Each one runs from an existing
    configuration, as an unprivileged user, optionally in a network namespace. Its only capabilities are
    C(CAP_NET_ADMIN) and, if the configuration has a port below 1024, C(CAP_NET_BIND_SERVICE).
  - On hosts with systemd, the instances run in the distribution's units C(openvpn-server@) and C(openvpn-client@), each
    with a drop-in. On other hosts, such as containers, they run as plain processes with a pid file.
  - The module sets the management socket, the status file, the pid file and the log of a plain process on the command
    line, so configurations need not contain them.
  - A changed configuration must pass a trial before a running instance is restarted. In the trial, OpenVPN starts as
    the same user in an isolated network namespace, with its own management socket, status, pid and log file and its own
    persistent pool. Scripts are replaced by C(/bin/true); plug-ins are loaded. A server passes when its initialization
    is complete. A configuration that connects to a peer passes when it tries to connect, after it has loaded its
    options, keys and certificates.
  - If the configuration of one instance fails its trial, the task fails before any change.
  - Before a process is started or restarted, the module checks for problems with which OpenVPN would not start or would
    refuse all clients. These are an expired certificate, a certificate that does not match its key or its CA, a
    revocation list that is expired or issued by another CA, a file that the user cannot read, a port in use, and a
    script without the C(script-security) that it needs. If it finds one, the task fails before any change.
    Certificates, revocation lists and scripts of instances that keep running are checked, too, but only cause warnings.
  - Directives that the command line overrides, such as C(status), C(log) and C(management), cause a warning.
  - Instances that serve are restarted in turn, those of one network namespace at a time. After a failure, the others
    keep running as before.
  - An instance that was not running is started without a trial, and stopped again if it does not become ready.
options:
  instances:
    description: The instances. They are started in parallel.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance, unique on the host. Letters, digits, hyphens and underscores.
        type: str
        required: true
      role:
        description: Role of the instance. Selects the distribution's unit and the directory of the configuration.
        type: str
        choices: [server, client]
        default: server
      netns:
        description:
          - Network namespace of the process. It must exist. If omitted, the process runs in the host's own namespace.
          - A process in another namespace is restarted. This includes a namespace that was deleted and created again.
        type: str
      config:
        description:
          - Path of the configuration. Relative paths in it are relative to its directory.
          - The user of the instance must have read access to it and to all files that it names.
          - The instance is restarted if the configuration, an included file, a key or a certificate changes. Changes of
            C(crl-verify) and C(client-config-dir) need no restart because OpenVPN reads them at every connect. See
            RV(instances[].refreshed).
          - It must not contain C(daemon), C(user), C(group), C(chroot), C(management-hold) or C(management-client).
          - Defaults to C(/etc/openvpn/ROLE/NAME.conf).
        type: path
      cpus:
        description: Numbers of the CPUs on which the process may run. If empty, all CPUs. A change needs no restart.
        type: list
        elements: int
        default: []
      user:
        description: User of the process. It must exist.
        type: str
        default: openvpn
      group:
        description: Group of the process. It must exist.
        type: str
        default: openvpn
      management:
        description:
          - Path of the management socket. OpenVPN creates it with access for all users, so its directory must restrict
            access.
          - Defaults to C(/run/clustered-openvpn/NAME/management.sock), in a directory with access for the instance's
            user and group.
        type: path
  state:
    description:
      - V(started) ensures that the instances run with the present files in their network namespaces, and waits until
        they are ready. An instance is ready when its management socket reports C(CONNECTED,SUCCESS). Otherwise the task
        fails with the end of the log. An instance that was not running before is then stopped; a restarted one keeps
        trying.
      - V(restarted) does the same, and also restarts instances that run already.
      - V(stopped) stops the instances.
      - V(absent) stops the instances and removes all files that this module created, including the persistent pool and
        the log of a plain process. The configuration is kept.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  enabled:
    description:
      - Whether systemd starts the instances at boot. Plain processes are not started at boot.
      - Defaults to V(true) for O(state=started) and O(state=restarted). For O(state=stopped), it is not changed by
        default.
    type: bool
  timeout:
    description: Time in seconds for an instance to become ready, and for a configuration to pass its trial. 1 to 3600.
    type: int
    default: 30
  supervisor:
    description: Supervisor of the processes. V(auto) is V(systemd) on hosts with systemd, V(process) on others.
    type: str
    choices: [auto, systemd, process]
    default: auto
attributes:
  check_mode:
    support: full
    description:
      - Trials and readiness checks are skipped.
      - A network namespace, configuration, program or user that does not exist is assumed to be created by an earlier
        task. A problem that prevents a start, such as an expired certificate, is assumed to be fixed by one. Each is
        reported as a warning.
  diff_mode:
    support: full
    description: Shows the changes as shell commands.
  platform:
    support: full
    platforms: posix
    description: Requires Linux and root.
requirements:
  - OpenVPN 2.5 or newer on the managed host
  - iproute2 and util-linux on the managed host (C(ip), C(ss), C(nsenter), C(setpriv), C(taskset), C(unshare))
notes:
  - A restart disconnects the clients of an instance. A server with C(explicit-exit-notify) notifies them, and they
    reconnect immediately.
  - A client is ready when it is connected, so O(state=started) requires that its server is reachable.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_config
  - module: clustered.openvpn.openvpn_instance_info
"""

EXAMPLES = r"""
- name: Run two members of a cluster, the second one with two instances
  clustered.openvpn.openvpn_instance:
    instances:
      - name: vpn1-udp
        netns: vpn1
        cpus: [0]
      - name: vpn2-udp
        netns: vpn2
        cpus: [1]
      - name: vpn2-tcp
        netns: vpn2
        cpus: [1]

- name: Run a client in the host's own network namespace
  clustered.openvpn.openvpn_instance:
    instances:
      - name: branch
        role: client
    timeout: 60

- name: Remove the instances of a retired member
  clustered.openvpn.openvpn_instance:
    instances:
      - name: vpn2-udp
      - name: vpn2-tcp
    state: absent
"""

RETURN = r"""
commands:
  description: The changes as shell commands. Empty if nothing changed.
  type: list
  elements: str
  returned: always
  sample: ["systemctl restart openvpn-server@vpn1-udp  # drops 3 clients"]
instances:
  description: The result of each instance, also if the task failed.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the instance.
      type: str
      returned: always
    actions:
      description: Actions taken. In check mode, those that would be taken.
      type: list
      elements: str
      returned: always
      sample: [configured, restarted]
    reason:
      description: Reason for the actions.
      type: str
      returned: always
      sample: its configuration has changed since the process started; this drops 3 clients
    dropped_clients:
      description:
        - Number of clients that were connected to a server immediately before it was restarted or stopped. In check
          mode, before it would be.
        - Null if the management socket did not answer.
      type: int
      returned: when a running server is restarted or stopped
      sample: 3
    refreshed:
      description:
        - Files of C(crl-verify) and C(client-config-dir) that changed since the process started. OpenVPN reads them
          when a client connects, so they require no action and do not count as a change.
        - They take effect for connected clients when these reconnect.
      type: list
      elements: str
      returned: when such files changed and the instance was not restarted
      sample: [/etc/openvpn/pki/crl.pem]
    pid:
      description: Process ID, or 0 if no process runs.
      type: int
      returned: always
    error:
      description: Error of this instance, with the end of its log.
      type: str
      returned: when the instance failed
supervisor:
  description: Supervisor of the processes, V(systemd) or V(process).
  type: str
  returned: always
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.steps import prepared_diff
from ..module_utils._openvpn.instance import INSTANCE_OPTIONS, instances_from
from ..module_utils._openvpn.lifecycle import Lifecycle, choose_supervisor
from ..module_utils._openvpn.plan import Desired
from ..module_utils._openvpn.supervisor import has_systemd
from ..module_utils._params import ParameterError

MAX_TIMEOUT = 3600
ARGUMENT_SPEC = {
    "instances": {"type": "list", "elements": "dict", "required": True, "options": INSTANCE_OPTIONS},
    "state": {"type": "str", "choices": ["started", "stopped", "restarted", "absent"], "default": "started"},
    "enabled": {"type": "bool"},
    "timeout": {"type": "int", "default": 30},
    "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
}


def run(module: AnsibleModule) -> None:
    p = module.params
    instances = instances_from(p["instances"])
    if not 1 <= p["timeout"] <= MAX_TIMEOUT:
        raise ParameterError("timeout", p["timeout"], f"use a number of seconds from 1 to {MAX_TIMEOUT}")
    if os.geteuid() != 0:
        module.fail_json(msg="this module starts processes for other users and must run as root: use 'become: true'")
    if p["supervisor"] == "systemd" and not has_systemd():
        raise ParameterError("supervisor", "systemd", "systemd does not run on this host; use 'auto' or 'process'")
    supervisor = choose_supervisor(p["supervisor"])
    task = Lifecycle(supervisor, Desired(p["state"], p["enabled"]), p["timeout"], module.warn)
    task.prepare(instances)
    invalid, missing = task.invalid_parameters(), task.missing_prerequisites()
    if invalid or (missing and not module.check_mode):
        module.fail_json(
            msg="; ".join(invalid + missing),
            commands=[],
            instances=task.report(predicted=False),
            supervisor=supervisor.name,
        )
    for sentence in missing:
        module.warn(f"{sentence} (check mode: assumed to be done by an earlier task)")
    commands = task.commands()
    if module.check_mode:
        for name, sentence in task.failing_starts().items():
            module.warn(f"{name}: {sentence} (check mode: assumed to be fixed by an earlier task)")
    else:
        task.apply()
        if task.errors and not task.changed:  # a check or a trial failed
            commands = []
    result: dict[str, t.Any] = {
        "commands": commands,
        "diff": prepared_diff(commands),
        "instances": task.report(predicted=module.check_mode),
        "supervisor": supervisor.name,
    }
    if task.errors:
        module.fail_json(msg="\n".join(task.errors), changed=task.changed, **result)
    module.exit_json(changed=bool(task.actions), **result)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        run(module)
    except (ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
