# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.clustered.openvpn.plugins.module_utils._boot import service_report
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import layout

UNIT = "openvpn-server@vpn1-udp"


def loops(**properties):
    shown = {"ActiveState": "active", "NRestarts": "0", "ActiveEnterTimestampMonotonic": "1000000", **properties}
    return service_report.crash_loops({UNIT: shown}, 500.0)


def test_a_unit_that_restarts_again_and_again():
    (found,) = loops(ActiveState="activating", NRestarts="7", Result="exit-code")
    assert found == (
        f"{UNIT} restarts again and again (7 times, the last result is exit-code); see journalctl -u {UNIT}"
    )
    assert loops(NRestarts="7", ActiveEnterTimestampMonotonic="499000000"), "it has started a second ago"


def test_a_unit_that_runs_since_long_ago():
    assert not loops(NRestarts="7")
    assert not loops(ActiveState="activating", NRestarts="1"), "a server that was killed once"
    assert not loops(ActiveState="activating", NRestarts="x²")


def test_a_truncated_revocation_list_in_an_included_file_is_reported_once_for_all_servers(tmp_path, monkeypatch):
    (tmp_path / "crl.pem").write_text("-----BEGIN X509 CRL-----\nMIIB")
    (tmp_path / "shared.conf").write_text(f"crl-verify {tmp_path}/crl.pem\n")
    (tmp_path / "server.conf").write_text(f"config {tmp_path}/shared.conf\n")
    monkeypatch.setattr(service_report, "config_path", lambda role, name: str(tmp_path / "server.conf"))
    monkeypatch.setattr(service_report.supervisor, "has_systemd", lambda: False)
    (found,) = service_report.problems(files.state_of(layout(size=2)))
    servers, _colon, problem = found.partition(": ")
    assert servers == "vpn1-udp, vpn1-tcp, vpn2-udp, vpn2-tcp"
    assert problem == f"crl-verify: {tmp_path}/crl.pem contains no revocation list in PEM format"
