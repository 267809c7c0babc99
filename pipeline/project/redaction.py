"""Addresses as they may be shown: without names, passwords and tokens."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator

HIDDEN = "***"
# What others say of an address may quote it, and where it ends is known only of those known here.
KNOWN = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "GAIT_DATA_MIRROR", "RAY_ADDRESS")
_SHORTEST = 4
# A user's password may have spaces; a port has none.
_PORT = r"(?!\s|\d+(?:[/\s),'\"]|$))"
_ADDRESS = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/@:]*:{_PORT}[^@\n]*@)?\S*")


def shown(uri: str) -> str:
    """One address, of which all is shown but what may be secret: its user and its query's values.

    What cannot be taken apart is not shown at all. Other strings, a path say, are left alone.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:
        return f"{scheme}://{HIDDEN}"
    if _has_user(parts, rest):
        rest = rest.rpartition("@")[2]
    host, mark, query = rest.partition("?")
    values = [_hidden(each) for each in re.split("[&;#]", query)] if mark else []
    return f"{scheme}://{host}{mark}{'&'.join(values)}"


def without_password(text: str, *addresses: str) -> str:
    """A text with every address in it as ``shown``.

    Args:
        text: what is to be printed or recorded.
        addresses: that may be in it, beside those that the environment names; only of these it is
            known where they end, if a password has a space.
    """
    known = [*addresses, *(os.environ[name] for name in KNOWN if name in os.environ)]
    uris = sorted({each for each in known if "://" in each}, key=len, reverse=True)
    for uri in uris:
        text = text.replace(uri, shown(uri))
    # Others may quote a part of an address alone: its path and query, its password.
    for secret in sorted({each for uri in uris for each in _secrets(uri)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _ADDRESS.sub(lambda found: shown(found[0]), text)


def _has_user(parts: urllib.parse.SplitResult, rest: str) -> bool:
    if "@" in parts.netloc:
        return True
    if "@" not in rest or parts.scheme in ("file", "sqlite"):
        return False
    # A slash, ? or # in a password ends what a parser takes for the host.
    return ":" in parts.netloc or parts.scheme not in ("http", "https")


def _secrets(uri: str) -> Iterator[str]:
    """What ``shown`` leaves out, as it stands and decoded; what is too short would hit words."""
    scheme, _, rest = uri.partition("://")
    user = rest[: rest.rfind("@")] if "@" in rest and shown(uri) != uri else ""
    query = rest.removeprefix(user).partition("?")[2]
    values = [each.rpartition("=")[2] for each in re.split("[&;#]", query)]
    for secret in [user.partition(":")[2] or user, *values]:
        for form in (secret, urllib.parse.unquote(secret)):
            if len(form) >= _SHORTEST and scheme not in ("file", "sqlite"):
                yield form


def _hidden(value: str) -> str:
    name, given, _ = value.partition("=")
    return f"{name}={HIDDEN}" if given else HIDDEN
