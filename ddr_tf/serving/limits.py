"""What requests to the development server may ask for, and what all of them together may hold."""

import asyncio
import collections
from typing import NamedTuple

SMALL_SHARE = 64  # a request that holds less than this part of the total is small
MIB = 2**20


class Limits(NamedTuple):
    """What a request may ask for, and what all together may.

    Attributes:
      body_bytes: Size of a request, unpacked if it came compressed.
      values: Numbers, strings and objects in its JSON; with `lists` it bounds how long parsing keeps others waiting.
      lists: Lists and objects in its JSON.
      frames: Frames that go in, or come out, at once; bounds memory, since a few bytes can ask for many frames.
      seconds: Seconds for its body to arrive, and as many again for its answer.
      stalled_seconds: Seconds that a client may read nothing of its answer. Sending all of it may take as long, and a
        second more for each MiB.
      waiting: Requests that may wait while others, one for each core, are computed.
      held_bytes: Of bodies, tensors and answers, estimated before they are made, of all requests until they are sent.
    """

    body_bytes: int = 32 * MIB
    values: int = 4 * MIB
    lists: int = 3 * MIB // 2
    frames: int = 1024
    seconds: float = 60
    stalled_seconds: float = 10
    waiting: int = 32
    held_bytes: int = 512 * MIB


class BusyError(Exception):
    """There is no room for a request now; status 503."""


class Budget:
    """Bytes that all requests together may hold. For the thread of the event loop only.

    Large requests may take three quarters of it, so that small ones are answered however many large ones there are.
    """

    def __init__(self, total: int) -> None:
        """Args: total: Bytes."""
        self._total, self._taken = total, 0
        self._waiters: collections.deque[asyncio.Future] = collections.deque()

    @property
    def max_request(self) -> int:
        """The most bytes that one request can get."""
        return self._total * 3 // 4

    def is_small(self, size: int) -> bool:
        """Whether a request that holds so many bytes is small."""
        return size <= self._total // SMALL_SHARE

    def take_now(self, size: int, small: bool) -> bool:
        """Takes bytes if they are free; returns whether they were."""
        if self._taken + size > (self._total if small else self.max_request):
            return False
        self._taken += size
        return True

    async def take(self, size: int, small: bool) -> None:
        """Takes bytes, when they are free."""
        while not self.take_now(size, small):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def give_back(self, size: int) -> None:
        """Frees bytes."""
        self._taken -= size
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


class Hold:
    """The bytes that one request holds. It ends when the request and all threads that work for it have let go."""

    def __init__(self, budget: Budget) -> None:
        """Holds nothing yet."""
        self._budget, self._bytes, self._users = budget, 0, 1

    def grow_now(self, size: int) -> None:
        """Takes more bytes.

        Raises:
          BusyError: If they are not free.
        """
        if not self._budget.take_now(size, self._budget.is_small(self._bytes + size)):
            raise BusyError("Other requests hold all the memory that the server may use; try again later")
        self._bytes += size

    async def resize(self, size: int) -> None:
        """Holds so many bytes from now on; waits until more are free."""
        if size > self._bytes:
            await self._budget.take(size - self._bytes, self._budget.is_small(size))
        else:
            self._budget.give_back(self._bytes - size)
        self._bytes = size

    @property
    def is_small(self) -> bool:
        """Whether it is one of a small request."""
        return self._budget.is_small(self._bytes)

    def share(self) -> None:
        """One more holds it."""
        self._users += 1

    def let_go(self) -> None:
        """One less holds it."""
        self._users -= 1
        if not self._users:
            self._budget.give_back(self._bytes)
            self._bytes = 0
