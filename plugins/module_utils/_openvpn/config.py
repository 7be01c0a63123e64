# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parser for OpenVPN configurations: directives with includes resolved, the files they name, a digest of both.

It does not validate the configuration: OpenVPN does, in a trial. It reads the directives on which the supervision of
the process depends.
"""

from __future__ import annotations

import hashlib
import os
import typing as t
from dataclasses import dataclass, field

Directive = tuple[str, ...]
Reader = t.Callable[[str], t.Optional[bytes]]

MAX_INCLUDES = 10  # OpenVPN's own limit of nesting

# Directive -> position of the file that OpenVPN reads once, at the start. A word that is not a file (dh none) counts
# as a missing file. crl-verify and client-config-dir are not here: OpenVPN reads them at every connect.
FILE_DIRECTIVES = {
    "askpass": 1,
    "auth-gen-token-secret": 1,
    "auth-user-pass": 1,
    "ca": 1,
    "cert": 1,
    "dh": 1,
    "extra-certs": 1,
    "http-proxy": 3,
    "key": 1,
    "pkcs12": 1,
    "secret": 1,
    "tls-auth": 1,
    "tls-crypt": 1,
    "tls-crypt-v2": 1,
}

# Read at every connect of a client, so a change needs no restart. A second word C(dir) marks a directory.
READ_AT_CONNECT = ("crl-verify", "client-config-dir")

SCRIPT_DIRECTIVES = (
    "auth-user-pass-verify",
    "client-connect",
    "client-crresponse",
    "client-disconnect",
    "down",
    "ipchange",
    "learn-address",
    "route-pre-down",
    "route-up",
    "tls-crypt-v2-verify",
    "tls-verify",
    "up",
)

# Directives that break the supervision and cannot be overridden on the command line.
UNSUITABLE = {
    "chroot": "the process lacks the capability to change its root",
    "daemon": "the supervisor would lose the process",
    "group": "the process already runs with the group of the parameter 'group'",
    "management-client": "the module requires that OpenVPN listens on the management socket",
    "management-hold": "the process would never become ready",
    "user": "the process already runs as the user of the parameter 'user'",
}


@dataclass(frozen=True)
class Endpoint:
    """A protocol, a port and an address ("": any address). C(family): 4, 6, or 0 if not specified."""

    protocol: str  # udp, tcp
    port: int
    address: str = ""
    family: int = 0
    v6only: bool = False

    def __str__(self) -> str:
        return f"{self.protocol} port {self.port}" + (f" of {self.address}" if self.address else "")

    def families(self) -> set[int]:
        """The address families that it occupies."""
        if self.address:
            return {6 if ":" in self.address else 4}
        if self.family == 6:
            return {6} if self.v6only else {4, 6}
        return {4}  # whether it includes IPv6 depends on the version of OpenVPN

    def overlaps(self, other: Endpoint) -> bool:
        """Whether two processes cannot bind to both at the same time."""
        if (self.protocol, self.port) != (other.protocol, other.port) or not self.families() & other.families():
            return False
        return not self.address or not other.address or self.address == other.address


@dataclass(frozen=True)
class Config:
    """A parsed configuration with includes resolved. Paths are absolute."""

    path: str
    directives: tuple[Directive, ...]
    files: tuple[str, ...]  # the configuration, its includes, and the files that OpenVPN reads at the start
    digest: str
    paths: t.Mapping[str, str] = field(default_factory=dict)  # directive -> path of its file; the last one wins
    inline: t.Mapping[str, str] = field(default_factory=dict)  # directive -> inline file, which wins over a path

    def values(self, name: str) -> list[Directive]:
        """The arguments of each directive of that name."""
        return [d[1:] for d in self.directives if d[0] == name]

    def has(self, name: str) -> bool:
        """Whether the configuration has a directive of that name."""
        return any(d[0] == name for d in self.directives)

    @property
    def serves_many(self) -> bool:
        """Whether it is a server for many clients, which is ready without a peer."""
        return self.has("server") or self.has("server-bridge") or ("server",) in [v[:1] for v in self.values("mode")]

    @property
    def point_to_point(self) -> bool:
        """Whether it is one end of a point-to-point tunnel, which may wait long for its peer."""
        return not self.serves_many and (self.has("tls-server") or self.has("tls-client"))

    @property
    def low_port(self) -> bool:
        """Whether it listens on a port that needs CAP_NET_BIND_SERVICE."""
        ports = [v[0] for name in ("port", "lport") for v in self.values(name) if v]
        return any(p.isdigit() and 0 < int(p) < 1024 for p in ports)

    @property
    def listens(self) -> Endpoint | None:
        """The endpoint that it listens on; None if the kernel chooses the port."""
        last = {d[0]: d[1:] for d in self.directives if len(d) > 1}
        protocol = last.get("proto", ("udp",))[0]
        port = (last.get("lport") or last.get("port") or ("1194",))[0]
        if self.has("nobind") or self.has("client") or protocol.endswith("-client"):
            return None
        if protocol.startswith("tcp") and not (protocol.endswith("-server") or self.serves_many):
            return None
        if not port.isdigit() or not 0 < int(port) < 65536:
            return None
        family = 4 if "4" in protocol else 6 if "6" in protocol else 0
        only = last.get("bind") == ("ipv6only",)
        return Endpoint(protocol[:3], int(port), last.get("local", ("",))[0], family, v6only=only)

    def unsuitable(self) -> list[str]:
        """Errors for directives that break the supervision."""
        found = [f"{d[0]!r} in the configuration: {UNSUITABLE[d[0]]}" for d in self.directives if d[0] in UNSUITABLE]
        if any(len(v) > 2 for v in self.values("management")):
            found.append("'management' with a password file: the module connects without a password")
        return [f"{sentence}; remove the directive" for sentence in found]

    def scripts(self) -> list[Directive]:
        """The directives that run scripts, each with its command line."""
        return [d for d in self.directives if d[0] in SCRIPT_DIRECTIVES and len(d) > 1]


def read_file(path: str) -> bytes | None:
    """The content of a file; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError):  # ValueError: the path contains a null byte
        return None


def read_config(path: str, reader: Reader = read_file) -> Config | None:
    """Read a configuration; None if the file does not exist. C(reader) returns the content of a path, or None."""
    contents: dict[str, bytes | None] = {}
    directives: list[Directive] = []
    paths: dict[str, str] = {}
    inline: dict[str, str] = {}
    cwd = [os.path.dirname(path)]  # as --cd on the command line; the directive 'cd' changes it

    def content(name: str) -> bytes | None:
        if name not in contents:
            contents[name] = reader(name)
        return contents[name]

    def include(name: str, depth: int) -> None:
        data = content(name)
        if data is None or depth > MAX_INCLUDES:
            return
        for words in parse(data.decode(errors="replace"), inline):
            if words[0] == "config" and len(words) > 1:
                include(os.path.join(cwd[0], words[1]), depth + 1)
                continue
            if words[0] == "cd" and len(words) > 1:
                cwd[0] = os.path.join(cwd[0], words[1])
            directives.append(words)
            position = FILE_DIRECTIVES.get(words[0], 1 if words[0] in READ_AT_CONNECT else 0)
            if position and len(words) > position:
                paths[words[0]] = os.path.join(cwd[0], words[position])
                if words[0] in FILE_DIRECTIVES:
                    content(paths[words[0]])

    include(path, 1)
    if contents[path] is None:
        return None
    return Config(
        path=path,
        directives=tuple(directives),
        files=tuple(contents),
        digest=_digest(contents),
        paths=paths,
        inline=inline,
    )


def parse(text: str, inline: dict[str, str] | None = None) -> t.Iterator[Directive]:
    """The directives of one file and its connection blocks. Inline files (C(<ca>)) are added to C(inline)."""
    closing = ""
    inline = {} if inline is None else inline
    for line in text.lstrip("\ufeff").splitlines():
        stripped = line.strip()
        if closing:
            if stripped == closing:
                closing = ""
            else:
                inline[closing[2:-1]] += line + "\n"
            continue
        if stripped in ("<connection>", "</connection>"):
            continue
        if stripped.startswith("<") and stripped.endswith(">") and not stripped.startswith("</"):
            closing = "</" + stripped[1:]
            inline[stripped[1:-1]] = ""
            continue
        words = split(line)
        if words:
            yield (words[0].removeprefix("--"), *words[1:])


def split(line: str) -> list[str]:
    """Split a line by OpenVPN's rules for quotes, backslashes and comments."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    chars = iter(line)
    for char in chars:
        if word is None and char in "#;":
            break
        if char == "\\" and quote != "'":
            word = [*(word or []), next(chars, "")]
        elif quote:
            if char == quote:
                quote = ""
            elif word is not None:
                word.append(char)
        elif char in "\"'":
            quote = char
            word = word or []
        elif char.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [*(word or []), char]
    if word is not None:
        words.append("".join(word))
    return words


def _digest(contents: t.Mapping[str, bytes | None]) -> str:
    """One hash over all files. A private key cannot be recognized in it."""
    total = hashlib.sha256()
    for name in sorted(contents):
        data = contents[name]
        inner = b"missing" if data is None else hashlib.sha256(data).digest()
        total.update(name.encode() + b"\0" + inner + b"\0")
    return total.hexdigest()
