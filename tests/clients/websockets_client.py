"""Python `websockets` against wsgate.

    websockets_client.py check CLIENTS ADMIN
        one line per check: "ok websockets: CHECK" or "FAILED websockets: CHECK:
        WHY"; exit status 1 when one failed
    websockets_client.py order CLIENTS ADMIN TOPIC OWN TOTAL
        see together.py, which starts it

CLIENTS and ADMIN are host:port. WSGATE_CA in the environment names the file of
the certificate to trust over TLS.
"""

import asyncio
import json
import os
import random
import ssl
import sys
from contextlib import AsyncExitStack

from websockets.asyncio.client import connect

import gateway

# Longest that any one step may take before its check has failed.
STEP_SECONDS_MAX = 20
# How often the metrics are read while connections come and go.
METRICS_POLL_SECONDS = 0.05
# Subscribers are added in steps of this many until two shards hold some.
SUBSCRIBERS_STEP = 8
# With 2 shards, all of so many on one of them is a chance of 1 in 2^63.
SUBSCRIBERS_MAX = 64

LARGE_BYTES = 1 << 20
EVERY_BYTE = bytes(range(256))
# Characters of 1 to 4 bytes, so that reads and frames cut some of them.
LARGE_TEXT = "aé世👋" * (LARGE_BYTES // 10) + "x" * (LARGE_BYTES % 10)
LARGE_BINARY = random.Random(1).randbytes(LARGE_BYTES)


class World:
    """The gateway's addresses, and the connections of one check."""

    def __init__(self, clients, admin, connections):
        self.clients, self.admin, self.connections = clients, admin, connections

    async def connect(self, path):
        # No proxy: one that the environment names would not reach loopback.
        connecting = connect(f"ws://{self.clients}{path}", proxy=None)
        return await self.connections.enter_async_context(connecting)

    async def connect_securely(self, path):
        context = ssl.create_default_context(cafile=os.environ["WSGATE_CA"])
        connecting = connect(f"wss://{self.clients}{path}", proxy=None, ssl=context)
        return await self.connections.enter_async_context(connecting)

    async def publish(self, topic, message):
        await asyncio.to_thread(gateway.publish, self.admin, topic, message)

    async def shards(self, total):
        """Connections on each shard, as soon as the metrics show `total`."""
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while True:
                counts = await asyncio.to_thread(gateway.shard_counts, self.admin)
                if sum(counts) == total:
                    return counts
                await asyncio.sleep(METRICS_POLL_SECONDS)


async def receive(peer):
    async with asyncio.timeout(STEP_SECONDS_MAX):
        return await peer.recv()


def expect(actual, expected):
    if actual != expected:
        raise AssertionError(f"expected {expected!r:.80}, got {actual!r:.80}")


def echo(message, expected=None):
    """A check that sends `message` (a list: in fragments) and expects it back."""

    async def check(world):
        peer = await world.connect("/echo")
        await peer.send(message)
        expect(await receive(peer), message if expected is None else expected)

    return check


async def echo_in_order(world):
    peer = await world.connect("/echo")
    for i in range(100):
        await peer.send(f"message {i}")
    for i in range(100):
        expect(await receive(peer), f"message {i}")


async def ping(world):
    peer = await world.connect("/echo")
    pong = await peer.ping(b"are you there?")
    async with asyncio.timeout(STEP_SECONDS_MAX):
        await pong


async def close(world):
    peer = await world.connect("/echo")
    await peer.close(1000, "done")
    received = peer.protocol.close_rcvd
    expect(received and received.code, 1000)


async def echo_over_tls(world):
    peer = await world.connect_securely("/echo")
    for message in ["Grüße", EVERY_BYTE, LARGE_TEXT, LARGE_BINARY]:
        await peer.send(message)
        expect(await receive(peer), message)
    await peer.close(1000, "done")
    expect(peer.protocol.close_rcvd and peer.protocol.close_rcvd.code, 1000)


async def chat(world):
    peer = await world.connect("/chat")
    for message in ["hello", EVERY_BYTE]:
        await peer.send(message)
        expect(await receive(peer), "good")


async def fan_out(world):
    subscribers, held = [], []
    while sum(count > 0 for count in held) < 2:
        if len(subscribers) == SUBSCRIBERS_MAX:
            raise AssertionError(f"{SUBSCRIBERS_MAX} subscribers, all on one shard: {held}")
        for _ in range(SUBSCRIBERS_STEP):
            subscribers.append(await world.connect("/topics/room"))
        held = await world.shards(len(subscribers))

    async def everybody_receives(messages):
        for subscriber in subscribers:
            for message in messages:
                expect(await receive(subscriber), message)

    sent = ["from a subscriber", EVERY_BYTE, LARGE_TEXT]
    for message in sent:
        await subscribers[0].send(message)
    await everybody_receives(sent)

    published = ["over HTTP: ü", EVERY_BYTE]
    for message in published:
        await world.publish("room", message)
    await everybody_receives(published)


CHECKS = {
    "echo text": echo("Grüße, 世界 👋"),
    "echo empty text": echo(""),
    "echo binary": echo(EVERY_BYTE),
    "echo 1 MiB text": echo(LARGE_TEXT),
    "echo 1 MiB binary": echo(LARGE_BINARY),
    "echo fragmented text": echo(["in ", "three ", "", "parts"], "in three parts"),
    "echo fragmented binary": echo([bytes([byte]) for byte in EVERY_BYTE], EVERY_BYTE),
    "echo 100 messages in order": echo_in_order,
    "ping": ping,
    "close 1000": close,
    "echo over TLS": echo_over_tls,
    "chat answers good": chat,
    "fan-out over two shards": fan_out,
}


async def check(clients, admin):
    """Runs every check in turn, each with connections of its own."""
    failed = 0
    for name, run in CHECKS.items():
        try:
            async with AsyncExitStack() as connections:
                await run(World(clients, admin, connections))
            print(f"ok websockets: {name}", flush=True)
        except Exception as error:
            why = str(error) or type(error).__name__
            print(f"FAILED websockets: {name}: {why}", flush=True)
            failed += 1
    return 1 if failed else 0


async def order(clients, admin, topic, own, total):
    async with AsyncExitStack() as connections:
        peer = await World(clients, admin, connections).connect(f"/topics/{topic}")
        print("subscribed", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for i in range(int(own)):
            await peer.send(f"websockets-{i}")
        seen = [await receive(peer) for _ in range(int(total))]
    print(json.dumps(seen), flush=True)
    return 0


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    sys.exit(asyncio.run({"check": check, "order": order}[mode](*arguments)))
