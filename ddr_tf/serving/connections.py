"""Connections to the development server: no more than there are descriptors for, and none that stalls."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

try:
    import resource
except ImportError:  # Windows
    resource = None

MAX_CONNECTIONS = 4096
BACKLOG = 64  # connections that are accepted at once
OTHER_DESCRIPTORS = 128  # for connections that are refused at once, and for files
MIN_WAIT = 1.0  # seconds that a connection without a request is safe from making room for another
SWEEP_SECONDS = 1.0

_BODY = b'{"error":"There are too many connections; try again later"}\n'
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def max_connections() -> int:
    """How many connections this process has descriptors for; raises its soft limit on them where it can."""
    if resource is None:
        return MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - OTHER_DESCRIPTORS, soft // 2))


class _Refused(asyncio.Protocol):
    """A connection for which there is no room: status 503, and the end."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(_REFUSAL)
        transport.close()


class _Followed(asyncio.Protocol):
    """A protocol whose transport `Connections` knows while the connection lasts."""

    def __init__(self, inner: asyncio.Protocol, connections: "Connections") -> None:
        self._inner, self._connections = inner, connections

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._connections.add(self._inner, transport)
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.remove(self._inner)
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class Connections:
    """All connections of a server, by their protocols.

    A new one, where there are too many, takes the place of the one that has waited longest for a whole request; if all
    are being answered, it is refused.
    """

    def __init__(self, max_count: int, stalled_seconds: float) -> None:
        """Knows of none yet.

        Args:
          max_count: Connections at once.
          stalled_seconds: That a client may read nothing of what is sent to it.
        """
        self._max_count, self._stalled_seconds = max_count, stalled_seconds
        self._count = 0  # including those that are about to be made or to end
        self._transports: dict[asyncio.Protocol, asyncio.Transport] = {}
        self._waiting: dict[asyncio.Protocol, float] = {}  # for a request, since when; the longest first
        self._unsent: dict[asyncio.Protocol, tuple[int, float]] = {}  # bytes, and since when so many

    def factory(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """A factory of protocols for `loop.create_server`: those that `make` gives, as far as there is room."""

        def protocol() -> asyncio.Protocol:
            if self._count >= self._max_count and not self._make_room():
                return _Refused()
            self._count += 1
            return _Followed(make(), self)

        return protocol

    def add(self, protocol: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """A connection was made."""
        transport.set_write_buffer_limits(0)  # so that waiting for a write means waiting for all of it
        self._transports[protocol] = transport
        self._waiting[protocol] = time.monotonic()

    def remove(self, protocol: asyncio.Protocol) -> None:
        """A connection has ended."""
        self._count -= 1
        self._forget(protocol)

    def _forget(self, protocol: asyncio.Protocol) -> None:
        for kept in (self._transports, self._waiting, self._unsent):
            kept.pop(protocol, None)

    def touch(self, protocol: asyncio.Protocol) -> None:
        """A request has begun to arrive."""
        if self._waiting.pop(protocol, None) is not None:
            self._waiting[protocol] = time.monotonic()

    @contextlib.contextmanager
    def answering(self, protocol: asyncio.Protocol) -> Iterator[None]:
        """While a whole request is there and is being answered, its connection gives way to no other."""
        self._waiting.pop(protocol, None)
        try:
            yield
        finally:
            if protocol in self._transports:
                self._waiting[protocol] = time.monotonic()

    def _make_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None or time.monotonic() - self._waiting[longest] < MIN_WAIT:
            return False
        self._drop(longest)
        return True

    def _drop(self, protocol: asyncio.Protocol) -> None:
        transport = self._transports[protocol]
        self._forget(protocol)
        transport.abort()

    def drop_all(self) -> None:
        """Drops the connections that are left."""
        for protocol in list(self._transports):
            self._drop(protocol)

    async def sweep(self) -> None:
        """Drops connections whose clients read nothing; never returns."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for protocol, transport in list(self._transports.items()):
                unsent = transport.get_write_buffer_size()
                before, since = self._unsent.get(protocol, (0, now))
                if not unsent or unsent != before:
                    self._unsent[protocol] = (unsent, now)
                elif now - since > self._stalled_seconds:
                    self._drop(protocol)
