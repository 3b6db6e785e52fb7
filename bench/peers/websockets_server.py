"""Python websockets, as its documentation has it: a topic is a set of connections.

Serves /echo, /topics/NAME and /topics/NAME?subscribe=off; prints where it listens.
"""

import asyncio
from collections import defaultdict

from websockets.asyncio.server import broadcast, serve

topics = defaultdict(set)


async def handle(connection):
    if connection.request.path == "/echo":
        async for message in connection:
            await connection.send(message)
        return
    path, _, query = connection.request.path.partition("?")
    if query != "subscribe=off":
        topics[path].add(connection)
    try:
        async for message in connection:
            broadcast(topics[path], message)
    finally:
        topics[path].discard(connection)


async def main():
    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"ready clients=127.0.0.1:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
