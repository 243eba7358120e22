"""Clients that mean harm, and clients that do not, all at once against one server.

python hostile_clients.py URL PROCESS_ID_OF_THE_SERVER SECONDS
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import random
import subprocess
import sys
import time

import aiohttp
import numpy as np
import psutil

PATH = "/v1/models/puppets:predict"
SMALL = {"signature_name": "decode", "inputs": {"static": [[0.5] * 4], "dynamic": [[[0.1, 0.2]]]}}
LARGE = {"signature_name": "sample", "inputs": {"count": 512, "frames_per_sequence": 2, "seed": [0, 0]}}
STALL_SECONDS = 20


@dataclasses.dataclass
class Results:
    """What happened.

    Attributes:
      seconds: Of the load.
      good_requests: Of well-behaved clients.
      good_failures: Those of them that were not answered with status 200: what they got instead.
      hostile_requests: Of the others, by kind.
      p50_ms, p99_ms, max_ms: That well-behaved clients waited.
      memory_mb: Resident memory of the server: before, the largest of the first and of the second half, after.
    """

    seconds: float
    good_requests: int
    good_failures: list[str]
    hostile_requests: dict[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float
    memory_mb: tuple[int, int, int, int]


def message(body, headers=""):
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Load:
    def __init__(self, url, process_id, seconds):
        self.url, self.seconds = url, seconds
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        self.process = psutil.Process(process_id)
        self.end = time.monotonic() + seconds
        self.counts = dict.fromkeys(("stalled", "greedy", "slow body", "brackets", "fuzzed", "idle"), 0)
        self.waited, self.failures, self.memory = [], [], []

    def goes_on(self):
        return time.monotonic() < self.end

    async def repeat(self, kind, attack):
        """An attack again and again, each on a connection of its own."""
        for number in itertools.count():
            if not self.goes_on():
                return
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(self.host, self.port, limit=2**16)
                try:
                    self.counts[kind] += 1
                    async with asyncio.timeout(max(1, min(90, self.end + 5 - time.monotonic()))):
                        await attack(reader, writer, number)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.05)

    async def stalled(self, reader, writer, number):
        """Asks for much and reads nothing."""
        reader._transport.pause_reading()
        writer.write(message(json.dumps(LARGE).encode()))
        await asyncio.sleep(STALL_SECONDS)

    async def greedy(self, reader, writer, number):
        """Asks for much and reads it."""
        writer.write(message(json.dumps(LARGE).encode(), "Connection: close\r\n"))
        while await reader.read(2**16):
            pass

    async def slow_body(self, reader, writer, number):
        for byte in message(json.dumps(SMALL).encode()):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.5)

    async def brackets(self, reader, writer, number):
        """31 MB of empty lists, and somewhat less than what is refused at once."""
        lists = 10_000_000 if number % 2 else 1_400_000
        writer.write(message(b"[" + b"[]," * lists + b"0]", "Connection: close\r\n"))
        await writer.drain()
        while await reader.read(2**16):
            pass

    async def fuzzed(self, reader, writer, number):
        random_ = random.Random(number)
        sent = bytearray(message(json.dumps(random_.choice((SMALL, LARGE))).encode()))
        for _ in range(random_.randint(1, 20)):
            sent[random_.randrange(len(sent))] = random_.randrange(256)
        writer.write(bytes(sent[: random_.randint(1, len(sent))]))
        async with asyncio.timeout(2):
            await reader.read(2**16)

    async def idle(self, reader, writer, number):
        await asyncio.sleep(STALL_SECONDS)

    async def good(self):
        """A drag in the explorer: one small request after the other."""
        async with aiohttp.ClientSession() as session:
            while self.goes_on():
                start = time.monotonic()
                try:
                    async with session.post(self.url + PATH, json=SMALL, timeout=aiohttp.ClientTimeout(60)) as reply:
                        await reply.read()
                        self.waited.append(time.monotonic() - start)
                        if reply.status != 200:
                            self.failures.append(str(reply.status))
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failures.append(repr(error))
                await asyncio.sleep(0.05)

    async def watch(self):
        while self.goes_on():
            self.memory.append(self.process.memory_info().rss)
            await asyncio.sleep(0.2)

    async def run(self):
        before = self.process.memory_info().rss
        attacks = {
            "stalled": (self.stalled, 40),
            "greedy": (self.greedy, 4),
            "slow body": (self.slow_body, 20),
            "brackets": (self.brackets, 2),
            "fuzzed": (self.fuzzed, 4),
            "idle": (self.idle, 100),
        }
        tasks = [self.repeat(kind, attack) for kind, (attack, count) in attacks.items() for _ in range(count)]
        await asyncio.gather(*tasks, self.good(), self.good(), self.watch())
        await asyncio.sleep(2)
        half = len(self.memory) // 2
        memory = (before, max(self.memory[:half]), max(self.memory[half:]), self.process.memory_info().rss)
        p50, p99, most = np.percentile(self.waited, [50, 99, 100]) * 1000
        return Results(
            seconds=self.seconds,
            good_requests=len(self.waited),
            good_failures=self.failures,
            hostile_requests=self.counts,
            p50_ms=round(p50, 1),
            p99_ms=round(p99, 1),
            max_ms=round(most, 1),
            memory_mb=tuple(round(size / 1e6) for size in memory),
        )


def run_load(url, process_id, seconds):
    """Harm for so many seconds: `Results`, which are also printed.

    It comes from a process of its own, so that nothing that the caller's process does stops the clients.
    """
    command = [sys.executable, __file__, url, str(process_id), str(seconds)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    print(printed, f"on {os.cpu_count()} cores")
    return Results(**json.loads(printed))


if __name__ == "__main__":
    url, process_id, seconds = sys.argv[1:]
    print(json.dumps(dataclasses.asdict(asyncio.run(Load(url, int(process_id), float(seconds)).run()))))
