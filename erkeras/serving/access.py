"""Who a client says that it is, and whom it believes: a token, headers, the certificates of an authority."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from erkeras.errors import InputError

#: A token, and the file of an authority's certificates, where a client was given none.
TOKEN_VARIABLE, CA_VARIABLE = "ERKERAS_TOKEN", "ERKERAS_CA"
#: Headers that frame a request: a client writes them itself.
_FRAMING = {"connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding"}
#: The longest reason of a server that goes into a message.
_LONGEST_REASON = 300


@dataclass(frozen=True, repr=False)
class Access:
    """Holds what goes with every request, and what its connection is checked by.

    Attributes:
        token: a bearer token; None without one.
        headers: of REST, or metadata of gRPC; the token is not among them.
        authority: certificates as PEM; None: those that the transport brings.
    """

    token: str | None = None
    headers: Mapping[str, str] | None = None
    authority: str | None = None

    @property
    def all_headers(self) -> dict[str, str]:
        """Gives the headers, the token included."""
        headers = dict(self.headers or {})
        return {**headers, "Authorization": f"Bearer {self.token}"} if self.token else headers

    def one_line(self, reason: object) -> str:
        """Gives a server's reason on one line, short, without TensorFlow's names of nodes, and without secrets."""
        line = str(reason)
        for secret in self._secrets():
            line = line.replace(secret, "...")
        line = " ".join("".join(sign if sign.isprintable() else " " for sign in line).split()).partition(" [[{{")[0]
        assertion = re.search(r"assertion failed: \[(.*?)\]", line)
        return (assertion[1] if assertion else line[:_LONGEST_REASON]).rstrip(".") + "."

    def _secrets(self) -> list[str]:
        values = [self.token or "", *(self.headers or {}).values()]
        parts = [part for value in values for part in (value, *value.split())]
        for part in list(parts):  # Basic credentials, as a server that decodes them says them
            try:
                decoded = base64.b64decode(part, validate=True).decode()
            except (binascii.Error, ValueError):
                continue
            parts += [decoded, decoded.partition(":")[2]]
        # Words as "Basic" and "1" may be in any message.
        return sorted({part for part in parts if len(part) >= 6}, key=len, reverse=True)


def find_access(
    url: str,
    host: str,
    encrypted: bool,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    ca_file: str | Path | None = None,
) -> Access:
    """Checks what a client was given, and takes what it was not given from the environment.

    Args:
        url: of the model, for messages.
        host: in it, without a port.
        encrypted: the connection has TLS.
        token: a bearer token.
        headers: more headers.
        ca_file: certificates of an authority, as PEM.

    Raises:
        InputError: where one is malformed, or would go unencrypted to another machine.
    """
    headers = _checked_headers(headers or {})
    authorized = any(name.lower() == "authorization" for name in headers)
    if authorized and token is not None:
        raise InputError("a token and a header Authorization were given: leave one out.")
    if token is None and not authorized:
        token = os.environ.get(TOKEN_VARIABLE)
    token = (token or "").strip() or None
    # Not itself in a message.
    if token and not re.fullmatch(r"[!-~]+", token):
        raise InputError(f"the token has signs other than printable ASCII: give another token, as {TOKEN_VARIABLE}.")
    if (token or authorized) and not (encrypted or _is_loopback(host)):
        raise InputError(
            f"a token was given for {url}, to which everyone on the way can listen: give https:// or grpcs://, or "
            f"unset {TOKEN_VARIABLE}."
        )
    if ca_file is not None and not encrypted:
        raise InputError(f"a CA file was given for {url}, which is not encrypted: give https:// or grpcs://.")
    place = ca_file or os.environ.get(CA_VARIABLE)
    return Access(token, headers, _read_certificates(Path(place)) if place and encrypted else None)


def without_secrets(url: str) -> str:
    """Gives an address without `user:password@`, query and fragment, for messages."""
    return re.split(r"[?#]", re.sub(r"^([^/]*//)?.*@", r"\1...@", url, flags=re.DOTALL))[0]


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.lower() in _FRAMING:
            raise InputError(f"{str(name)[:40]!r} is not a header that a client sends: leave it out.")
        if not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value):
            raise InputError(f"the header {name} is not a string of printable ASCII: give another value.")
    return dict(headers)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _read_certificates(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is not a file: give certificates as PEM, as {CA_VARIABLE}.")
    try:
        text = path.read_text("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InputError(f"{path} has no certificates that can be read: give them as PEM, as {CA_VARIABLE}.") from error
    return text
