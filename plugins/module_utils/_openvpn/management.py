# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client for the management socket of an OpenVPN process, with parsers for its answers.

The socket serves one client at a time; a second connection waits without an answer. So conversations are short, every
wait has a timeout, and a socket that sends no greeting is "busy", which does not imply that its process hangs.
"""

from __future__ import annotations

import socket
import time
import typing as t
from dataclasses import dataclass

from .._params import printed_number

END = "END"
MAX_ANSWER = 1 << 24  # bytes of a conversation: the status of tens of thousands of clients


class ManagementError(Exception):
    """A command on the management socket failed."""


class NotListening(ManagementError):
    """No process listens on the socket."""


class Busy(ManagementError):
    """A process listens but does not answer: another client is connected, or the process hangs."""

    def __init__(self, path: str):
        super().__init__(f"{path}: the management socket is busy: another client is connected, or the process hangs")


@dataclass(frozen=True)
class State:
    """The answer to C(state)."""

    name: str  # CONNECTED, WAIT, AUTH, RECONNECTING …
    detail: str  # SUCCESS, ROUTE_ERROR, ping-restart …
    since: int
    virtual_address: str
    remote_address: str
    virtual_address6: str

    @property
    def ready(self) -> bool:
        """Whether a server accepts clients, or a client is connected."""
        return self.name == "CONNECTED" and self.detail == "SUCCESS"


@dataclass(frozen=True)
class Client:
    """A connected client in a server's C(status). C(connected_since): seconds since 1970; C(cid): for client-kill."""

    common_name: str
    real_address: str
    virtual_address: str
    virtual_address6: str
    bytes_received: int
    bytes_sent: int
    connected_since: int
    cid: int
    peer_id: int
    cipher: str


@dataclass(frozen=True)
class Status:
    """The answer to C(status 3): the clients of a server, or the counters of a client."""

    clients: tuple[Client, ...]
    counters: t.Mapping[str, int]


def parse_state(lines: t.Sequence[str]) -> State:
    """Parse the last line: C(state) may print a history before it. Raises ManagementError."""
    if not lines:
        raise ManagementError("an empty answer to 'state'")
    f = lines[-1].split(",") + [""] * 9
    return State(
        name=f[1],
        detail=f[2],
        since=_int(f[0]),
        virtual_address=f[3],
        remote_address=f"{f[4]}:{f[5]}" if f[5] else f[4],
        virtual_address6=f[8],
    )


def parse_status(lines: t.Sequence[str]) -> Status:
    """Parse C(status 3), which separates fields by tabs, since a common name may contain commas."""
    header: dict[str, int] = {}
    clients = []
    counters = {}
    for line in lines:
        if "\t" not in line:  # a client's statistics: "TCP/UDP read bytes,3508"
            key, comma, value = line.partition(",")
            number = printed_number(value)
            if comma and number is not None:
                counters[key] = number
            continue
        fields = line.split("\t")
        if fields[:2] == ["HEADER", "CLIENT_LIST"]:
            header = {title: i for i, title in enumerate(fields[2:])}
        elif fields[0] == "CLIENT_LIST":
            clients.append(_client({k: fields[1:][i] for k, i in header.items() if i < len(fields) - 1}))
    return Status(tuple(clients), counters)


def parse_version(lines: t.Sequence[str]) -> str:
    """The version in the answer to C(version), such as 2.6.14; "" if there is none."""
    for line in lines:
        key, _colon, text = line.partition(":")
        if key == "OpenVPN Version" and len(text.split()) > 1:
            return text.split()[1]
    return ""


def parse_success(answer: str) -> dict[str, str]:
    """The values of an answer such as C(SUCCESS: nclients=0,bytesin=0,bytesout=0)."""
    pairs = (p.partition("=") for p in answer.removeprefix("SUCCESS:").split(","))
    return {k.strip(): v.strip() for k, _eq, v in pairs}


def _client(row: t.Mapping[str, str]) -> Client:
    real = row.get("Real Address", "")
    return Client(
        common_name=row.get("Common Name", ""),
        real_address=real.partition(":")[2] if real.startswith(("udp", "tcp")) else real,
        virtual_address=row.get("Virtual Address", ""),
        virtual_address6=row.get("Virtual IPv6 Address", ""),
        bytes_received=_int(row.get("Bytes Received")),
        bytes_sent=_int(row.get("Bytes Sent")),
        connected_since=_int(row.get("Connected Since (time_t)")),
        cid=_int(row.get("Client ID"), -1),
        peer_id=_int(row.get("Peer ID"), -1),
        cipher=row.get("Data Channel Cipher", ""),
    )


def _int(text: str | None, otherwise: int = 0) -> int:
    number = printed_number(text)
    return otherwise if number is None else number


class Management:
    """One conversation, as a context manager. C(timeout): seconds for the whole conversation.

    Raises NotListening, Busy or ManagementError.
    """

    def __init__(self, path: str, timeout: float = 2.0):
        self._path = path
        self._deadline = time.monotonic() + timeout
        self._buffer = b""
        self._received = 0  # bytes
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            self._read_line()  # >INFO:OpenVPN Management Interface Version …
        except BlockingIOError as exc:  # the backlog of the socket is full
            self._socket.close()
            raise Busy(path) from exc
        except (FileNotFoundError, ConnectionRefusedError) as exc:
            self._socket.close()
            raise NotListening(f"{path}: no process listens on the management socket") from exc
        except OSError as exc:
            self._socket.close()
            raise ManagementError(f"{path}: {exc.strerror or exc}") from exc
        except ValueError as exc:
            self._socket.close()
            raise ManagementError(f"{path!r} is not the path of a socket: {exc}") from exc
        except ManagementError:
            self._socket.close()
            raise

    def __enter__(self) -> Management:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self._socket.close()

    def state(self) -> State:
        """The state of the process."""
        return parse_state(self.lines("state"))

    def status(self) -> Status:
        """The connected clients, or a client's counters."""
        return parse_status(self.lines("status 3"))

    def version(self) -> str:
        """The version of OpenVPN."""
        return parse_version(self.lines("version"))

    def pid(self) -> int:
        """The pid of the process; 0 if the answer has none."""
        return _int(parse_success(self.command("pid")).get("pid"))

    def load_stats(self) -> dict[str, int]:
        """Total counters: C(nclients), C(bytesin), C(bytesout)."""
        return {k: _int(v) for k, v in parse_success(self.command("load-stats")).items()}

    def command(self, text: str) -> str:
        """Send a command whose answer is one line, C(SUCCESS: …), and return it."""
        self._send(text)
        answer = self._next()
        if not answer.startswith("SUCCESS:"):
            raise ManagementError(f"{text}: {answer}")
        return answer

    def lines(self, text: str) -> list[str]:
        """Send a command whose answer ends with C(END), and return its lines."""
        self._send(text)
        answer: list[str] = []
        while (line := self._next()) != END:
            if not answer and line.startswith("ERROR:"):
                raise ManagementError(f"{text}: {line}")
            answer.append(line)
        return answer

    def _next(self) -> str:
        while (line := self._read_line()).startswith(">"):  # asynchronous notifications
            pass
        return line

    def _send(self, text: str) -> None:
        try:
            self._socket.sendall(text.encode() + b"\n")
        except OSError as exc:
            raise ManagementError(f"{text}: {exc}") from exc

    def _read_line(self) -> str:
        while b"\n" not in self._buffer:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise Busy(self._path)
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(65536)
            except socket.timeout:
                continue
            except OSError as exc:
                raise ManagementError(f"the management socket was closed: {exc}") from exc
            if not chunk:
                raise ManagementError("the management socket was closed")
            self._received += len(chunk)
            if self._received > MAX_ANSWER:
                raise ManagementError(f"the management socket sends more than {MAX_ANSWER} bytes")
            self._buffer += chunk
        line, _newline, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")


T = t.TypeVar("T")


def ask(path: str, question: t.Callable[[Management], T], *, attempts: int = 3, timeout: float = 1.0) -> T:
    """Connect, call C(question), and return its result. Retries while the socket is busy. Raises ManagementError."""
    for attempt in range(attempts):
        try:
            with Management(path, timeout) as management:
                return question(management)
        except Busy:
            if attempt + 1 == attempts:
                raise
            time.sleep(0.1)
    raise AssertionError("attempts must be positive")
