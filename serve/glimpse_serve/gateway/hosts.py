"""The names under which the service may be called: a defence against DNS rebinding.

A page on the internet can let its own name point to this machine, and is then of the same origin as the service. Such a
request carries the page's name as its Host. An IP address as the Host needs no defence: a page can't take it over.
"""

import ipaddress
import re
from collections.abc import Iterable

from glimpse_serve.errors import HTTPError
from glimpse_serve.gateway.authentication import is_loopback
from glimpse_serve.http.request import Scope
from glimpse_serve.settings import Settings

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:\d{0,5})?")
ANY = "*"
"""As an allowed host: any name."""


class HostCheck:
    """Checks the Host header of requests and handshakes. ``X-Forwarded-Host`` is not looked at.

    Args:
        settings: The allowed names, and the address that the service listens on.
    """

    def __init__(self, settings: Settings) -> None:
        own = () if settings.host in ("", "0.0.0.0", "::") else (settings.host,)
        allowed = {_normal(name) for name in (*own, *settings.allowed_hosts)}
        # On all addresses the names of the machine are unknown: they are checked only if they are given.
        self._any = ANY in allowed or not allowed
        self._names = frozenset(name for name in allowed if not name.startswith("."))
        self._domains = tuple(name for name in allowed if name.startswith("."))

    def check(self, scope: Scope) -> None:
        """Check a request.

        Args:
            scope: Its ASGI scope.

        Raises:
            HTTPError: 400 without exactly one valid Host (RFC 9112, 3.2), 421 for a name that is not allowed.
        """
        hosts = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == b"host"]
        if not hosts and scope["http_version"] == "1.0":
            return
        matched = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if matched is None:
            raise HTTPError(
                400, f"expected one Host header with a name or an address, got {_described(hosts)}; send one", "host"
            )
        name = _normal(matched["name"])
        if not (self._any or name in self._names or name.endswith(self._domains) or _is_safe(name)):
            raise HTTPError(
                421,
                f"expected a Host that is allowed, got {name!r:.80}; use the address, or let the operator of the "
                "service give --allowed-hosts",
                "host",
            )


def _normal(host: str) -> str:
    """A host name in the form in which names are compared."""
    return host.lower().strip("[]").removesuffix(".")


def _is_safe(name: str) -> bool:
    """Whether no other machine's name can be meant: an IP address, or a name of this machine (RFC 6761, 6.3)."""
    if name.endswith(".localhost") or is_loopback(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _described(hosts: Iterable[str]) -> str:
    return " and ".join(f"{host!r:.80}" for host in hosts) or "none"
