#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_instance
short_description: OpenVPN processes, servers and clients, in network namespaces
version_added: 0.1.0
description:
  - Starts, stops, restarts or removes OpenVPN processes, each from a configuration that is there already, each in a
    network namespace if wanted, as an unprivileged user with C(CAP_NET_ADMIN) (and C(CAP_NET_BIND_SERVICE), if the
    configuration names a port below 1024).
  - Where systemd runs, the distribution's units C(openvpn-server@) and C(openvpn-client@) are used, each instance
    with a drop-in. Elsewhere, in a container for example, plain processes with a pid file.
  - The management socket, the status file, the pid file and (plain processes) the log are given on the command line,
    so a configuration needs none of them.
  - A changed configuration is tried before a running instance is touched. The real binary starts it in a scratch
    network namespace without a way out, as the same user, with its own management socket, status, pid and log files,
    pool persistence, and with every script replaced by one that does nothing. The trial is passed when the
    initialization is complete. A configuration that connects to a peer cannot do so there. It has passed when it
    tries to connect, after its options, keys and certificates were loaded. Plug-ins are loaded in a trial.
  - One configuration that fails its trial stops the whole task before anything is touched.
  - Before a process is started or restarted, what it would fail by, or serve nobody with, is looked for. That is a
    certificate that has expired, that does not belong to its key or that the CA did not sign, a revocation list that
    has expired or that is of another CA, a file that the user cannot read, a port that another process holds. One of
    them stops the whole task before anything is touched. Where an instance runs and nothing is to be done, it is a
    warning. A first start has no trial, since it disturbs nobody. An instance that fails it is stopped again.
options:
  instances:
    description: The instances. A whole cluster is one task; they are started side by side.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance, unique on the host. Letters, digits, hyphens and underscores.
        type: str
        required: true
      role:
        description: Which of the distribution's units is used, and where the configuration is expected.
        type: str
        choices: [server, client]
        default: server
      netns:
        description:
          - Name of the network namespace that the process lives in. It must exist. Without it, the host's own.
          - A process that is in another one, because the namespace was removed or made anew, is restarted.
        type: str
      config:
        description:
          - The configuration. Files that it includes or names may be relative to its directory.
          - The instance's user must be able to read it, and everything that it names.
          - A change of the configuration, of its includes, or of a key or certificate file restarts the instance.
            C(crl-verify) and C(client-config-dir) do not count, because OpenVPN reads them at every connect. See
            RV(instances[].refreshed).
          - It must not have C(daemon), C(user), C(group), C(chroot), C(management-hold), C(management-client).
          - Defaults to C(/etc/openvpn/ROLE/NAME.conf).
        type: path
      cpus:
        description: Numbers of the CPUs that the process may run on. Empty for all.
        type: list
        elements: int
        default: []
      user:
        description: The user that the process runs as. It must exist.
        type: str
        default: openvpn
      group:
        description: The group that the process runs as. It must exist.
        type: str
        default: openvpn
      management:
        description:
          - Path of the management socket. OpenVPN makes it accessible to everyone, so its directory must not be.
          - Defaults to C(/run/clustered-openvpn/NAME/management.sock), in a directory of the instance's user and
            group.
        type: path
  state:
    description:
      - V(started) makes sure that the instances run, from the files as they are now, in the right namespace, and that
        they are ready, which is what C(CONNECTED,SUCCESS) on the management socket says. Otherwise the task fails
        with the end of the log; an instance that did not run before is then stopped again, one that was restarted
        goes on trying.
      - V(restarted) does the same, and restarts those that run already.
      - V(stopped) ends them.
      - V(absent) ends them and removes what this module made, the pool persistence and the log of a plain process
        included. The configuration stays.
    type: str
    choices: [started, stopped, restarted, absent]
    default: started
  enabled:
    description:
      - Whether systemd starts the instances at boot. Plain processes do not come back after a boot.
      - Defaults to V(true) for O(state=started) and O(state=restarted), and to what it is for O(state=stopped).
    type: bool
  timeout:
    description: Seconds that an instance has to become ready, and a configuration to pass its trial, 1 to 3600.
    type: int
    default: 30
  supervisor:
    description: What keeps the processes. V(auto) is V(systemd) where systemd runs, V(process) elsewhere.
    type: str
    choices: [auto, systemd, process]
    default: auto
attributes:
  check_mode:
    support: full
    description:
      - Says what would be started, restarted or stopped. No trial is made, and readiness is not asked.
      - A namespace, a configuration, a program or a user that does not exist is taken as made by an earlier task, and
        what stops a start, such as an expired certificate, as put right by one, each with a warning.
  diff_mode:
    support: full
    description: The diff is the list of commands that an administrator would type for the same changes.
  platform:
    support: full
    platforms: posix
    description: Linux, as root.
requirements:
  - OpenVPN 2.5 or newer on the managed host
  - iproute2 and util-linux on the managed host (C(ip), C(ss), C(nsenter), C(setpriv), C(taskset), C(unshare))
notes:
  - A restart disconnects the clients of an instance. A server with C(explicit-exit-notify) tells them, and they are
    back at once.
  - A configuration that connects to a peer is ready when it is connected, so O(state=started) of a client needs its
    server.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance_info
"""

EXAMPLES = r"""
- name: Two members of a cluster, the second with two instances
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

- name: A client in the host's own network namespace
  clustered.openvpn.openvpn_instance:
    instances:
      - name: branch
        role: client
    timeout: 60

- name: A member retires
  clustered.openvpn.openvpn_instance:
    instances:
      - name: vpn2-udp
      - name: vpn2-tcp
    state: absent
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
  type: list
  elements: str
  returned: always
  sample: ["systemctl restart openvpn-server@vpn1-udp  # drops 3 clients"]
instances:
  description: What became of each instance, also when another one failed.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the instance.
      type: str
      returned: always
    actions:
      description: What was done (in check mode, would be done).
      type: list
      elements: str
      returned: always
      sample: [configured, restarted]
    reason:
      description: Why.
      type: str
      returned: always
      sample: the configuration is not the one it was started with; this drops 3 clients
    dropped_clients:
      description:
        - How many clients were connected, just before, to a server that was (in check mode, would be) restarted or
          stopped.
        - Null if the management socket did not answer.
      type: int
      returned: when a running server is restarted or stopped
      sample: 3
    refreshed:
      description:
        - Files of C(crl-verify) and C(client-config-dir) that changed since the process was started. OpenVPN reads them
          when a client connects, so there is nothing to do, and they count neither as an action nor as a change.
        - A client that is connected already stays as it is until it connects anew.
      type: list
      elements: str
      returned: when there are any, and the instance was left alone
      sample: [/etc/openvpn/pki/crl.pem]
    pid:
      description: The process, 0 if there is none.
      type: int
      returned: always
    error:
      description: What went wrong with this instance, with the end of its log.
      type: str
      returned: when the instance failed
supervisor:
  description: What keeps the processes, V(systemd) or V(process).
  type: str
  returned: always
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.steps import prepared_diff
from ..module_utils._openvpn.instance import INSTANCE_OPTIONS, Desired, instances_from
from ..module_utils._openvpn.lifecycle import Lifecycle, choose_supervisor
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
        raise ParameterError("timeout", p["timeout"], f"give a number of seconds, 1 to {MAX_TIMEOUT}")
    if os.geteuid() != 0:
        module.fail_json(msg="this module starts processes for other users and must run as root: use 'become: true'")
    if p["supervisor"] == "systemd" and not has_systemd():
        raise ParameterError("supervisor", "systemd", "systemd does not run on this host; use 'auto' or 'process'")
    supervisor = choose_supervisor(p["supervisor"])
    task = Lifecycle(supervisor, Desired(p["state"], p["enabled"]), p["timeout"], module.warn)
    task.look(instances)
    missing = task.missing()
    if task.mistakes() or (missing and not module.check_mode):
        refused = task.report(predicted=False)
        msg = "; ".join(task.mistakes() + missing)
        module.fail_json(msg=msg, commands=[], instances=refused, supervisor=supervisor.name)
    for sentence in missing:
        module.warn(f"{sentence} (check mode: taken as made by an earlier task)")
    commands = task.commands()
    if not module.check_mode:
        task.apply()
        if task.errors and not task.applied:  # it was found unsound, or a trial failed: nothing was done
            commands = []
    else:
        for name, sentence in task.unsound().items():
            module.warn(f"{name}: {sentence} (check mode: taken as put right by an earlier task)")
    result: dict[str, t.Any] = {
        "commands": commands,
        "diff": prepared_diff(commands),
        "instances": task.report(predicted=module.check_mode),
        "supervisor": supervisor.name,
    }
    if task.errors:
        module.fail_json(msg="\n".join(task.errors), changed=task.applied, **result)
    module.exit_json(changed=bool(task.steps), **result)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        run(module)
    except (ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
