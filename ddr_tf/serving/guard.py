"""Checks that keep pages of other sites away from the development server, which anything in the browser can reach.

A name that an attacker has made to mean 127.0.0.1 is refused by the Host header, a page of another site by the Origin
header, and a form by the type of its content. The headers of all answers forbid other pages to frame them, and forbid
the explorer to load anything from elsewhere.
"""

import re
from collections.abc import Callable, Collection

from aiohttp import web

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
# As in explorer/index.html, where `frame-ancestors` would not count.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """A signal `on_response_prepare`: adds `HEADERS`."""
    response.headers.update(HEADERS)


def host_name(authority: str) -> str | None:
    """The name of "name" or "name:port", in small letters; None if it is neither."""
    match = _HOST.fullmatch(authority)
    return match[1].lower() if match else None


class RefusedError(Exception):
    """A request that a foreign page may have sent.

    Attributes:
      status: 403 or 415.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(request: web.Request, hosts: Collection[str]) -> None:
    """Refuses requests that a foreign page may have sent.

    Args:
      request: Any.
      hosts: Names that the server is known by.

    Raises:
      RefusedError: If it was sent to another name; or, unless it only reads, from a page of another origin, or with
        another type of content than JSON.
    """
    given = request.headers.getall("Host", [])
    name = host_name(given[0]) if len(given) == 1 else None
    if name not in hosts:
        raise RefusedError(
            403, f"The server is not known as {given[0] if given else 'nothing'}; --allow_host NAME adds a name"
        )
    if request.method in ("GET", "HEAD"):
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower().partition("://")[2] != given[0].lower():
        raise RefusedError(403, f"A page of another origin ({origin}) may not use this server")
    if "Content-Type" in request.headers and request.content_type != "application/json":
        raise RefusedError(415, f"Content-Type must be application/json, not {request.content_type}")


def checked(hosts: Collection[str]) -> Callable:
    """A middleware that makes the checks."""

    @web.middleware
    async def middleware(request: web.Request, handler: Callable) -> web.StreamResponse:
        check(request, hosts)
        return await handler(request)

    return middleware
