"""A relay from plain TCP to TLS: for clients that speak no TLS themselves.

    tls_relay.py SERVER CA NAME

SERVER is host:port, CA a file with the authority's certificate, NAME the name
in the server's. Listens on a free port of 127.0.0.1, prints "listening
127.0.0.1:PORT" and passes bytes on until its standard input ends. An end in one direction
is passed on as an end (close_notify behind the last byte), a reset as a reset,
so that what the client sees of the server is what the server did. A server that
ends TCP without close_notify has cut the stream: that is told on standard error,
and is a reset for the client.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import sys

READ_BYTES = 64 * 1024


def reset(writer):
    """Ends with a reset instead of an end."""
    linger = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class Relay:
    """One connection: plain bytes of the client, TLS to the server.

    TLS on memory buffers, since the streams of asyncio cannot end one direction
    of a TLS connection and go on with the other.
    """

    def __init__(self, context, name, client, server):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.client, self.server = client, server

    async def flush(self):
        reader, writer = self.server
        writer.write(self.outgoing.read())
        await writer.drain()

    async def more(self):
        """Ciphertext from the server; whether there was any."""
        received = await self.server[0].read(READ_BYTES)
        if received:
            self.incoming.write(received)
        else:
            self.incoming.write_eof()
        return bool(received)

    async def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                return await self.flush()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.more()

    async def up(self):
        reader, _ = self.client
        while received := await reader.read(READ_BYTES):
            self.tls.write(received)
            await self.flush()
        # Sends close_notify; what the server still says is read by `down`.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        await self.flush()
        self.server[1].write_eof()

    async def down(self):
        _, writer = self.client
        while True:
            try:
                said = self.tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                await self.more()
                continue
            if not said:
                writer.write_eof()
                return
            writer.write(said)
            await writer.drain()


async def relay(address, context, name, client):
    host, port = address.rsplit(":", 1)
    try:
        server = await asyncio.open_connection(host, int(port))
    except OSError as error:
        print(f"tls_relay: {address}: {error}", file=sys.stderr)
        return reset(client[1])
    connection = Relay(context, name, client, server)
    try:
        await connection.handshake()
        up = asyncio.create_task(connection.up())
        try:
            await connection.down()
            # The server has said all; the client may still end its side.
            await up
        finally:
            up.cancel()
    except ssl.SSLEOFError as error:
        print(f"tls_relay: the server cut the stream: {error}", file=sys.stderr)
        reset(client[1])
    except ssl.SSLError as error:
        print(f"tls_relay: {error}", file=sys.stderr)
        reset(client[1])
    except (ConnectionError, OSError):
        reset(client[1])
    finally:
        for _, writer in (client, server):
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()


async def main(address, ca, name):
    context = ssl.create_default_context(cafile=ca)

    async def accept(reader, writer):
        await relay(address, context, name, (reader, writer))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    print(f"listening {host}:{port}", flush=True)
    serving = asyncio.create_task(listener.serve_forever())
    await asyncio.to_thread(sys.stdin.read)
    serving.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
