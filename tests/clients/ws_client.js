// npm `ws` against wsgate; see gateway.js for the command line.

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
