// npm `ws` against wsgate; see gateway.js for the command line. WSGATE_CA in the
// environment names the file of the certificate to trust over TLS.

import { readFileSync } from "node:fs";

import WebSocket from "ws";
import { everyByte, expect, recordOrder, runChecks, within } from "./checks.js";
import { main } from "./gateway.js";

// What `ws` can do and a browser's WebSocket cannot.
const more = {
  "echo fragmented text": async ({ connect }) => {
    const peer = await connect("/echo");
    for (const part of ["in ", "three ", ""]) peer.socket.send(part, { fin: false });
    peer.socket.send("parts", { fin: true });
    expect(await peer.receive(), "in three parts");
  },
  "echo fragmented binary": async ({ connect }) => {
    const peer = await connect("/echo");
    for (const byte of everyByte()) {
      peer.socket.send(Uint8Array.of(byte), { fin: byte === 255, binary: true });
    }
    expect(await peer.receive(), everyByte());
  },
  "echo over TLS": async () => {
    const ca = readFileSync(process.env.WSGATE_CA);
    const socket = new WebSocket(`wss://${process.argv[3]}/echo`, { ca });
    const next = (event) =>
      within(
        new Promise((resolve, reject) => {
          socket.once(event, (...data) => resolve(data));
          socket.once("error", reject);
        }),
        `${event} over TLS`,
      );
    await next("open");
    for (const bytes of [everyByte(), new Uint8Array(1 << 20).fill(7)]) {
      socket.send(bytes);
      const [data] = await next("message");
      expect(new Uint8Array(data), bytes);
    }
    socket.close(1000);
    const [code] = await next("close");
    expect(String(code), "1000");
  },
  "ping between fragments": async ({ connect }) => {
    const peer = await connect("/echo");
    const pong = new Promise((resolve) => peer.socket.once("pong", resolve));
    peer.socket.send("before ", { fin: false });
    peer.socket.ping("are you there?");
    peer.socket.send("after", { fin: true });
    expect((await within(pong, "a pong")).toString(), "are you there?");
    expect(await peer.receive(), "before after");
  },
};

await main("ws", {
  runChecks: (world) => runChecks({ WebSocket, more, ...world }),
  recordOrder: (world) => recordOrder({ WebSocket, ...world }),
});
