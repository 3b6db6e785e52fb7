// Bun.serve, as its documentation has it: topics are Bun's own (uWebSockets inside).
// Serves /echo, /topics/NAME and /topics/NAME?subscribe=off; prints where it listens.

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const { pathname, search } = new URL(request.url);
    const topic = pathname === "/echo" ? null : pathname;
    if (server.upgrade(request, { data: { topic, subscribes: topic !== null && search !== "?subscribe=off" } })) return;
    return new Response("a WebSocket is expected", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    // With PINGS, about every 25 s; by itself Bun pings some seconds before the idle time ends.
    sendPings: Boolean(process.env.PINGS),
    idleTimeout: process.env.PINGS ? 32 : 120,
    open(socket) {
      if (socket.data.subscribes) socket.subscribe(socket.data.topic);
    },
    message(socket, message) {
      const { topic } = socket.data;
      if (topic === null) socket.send(message);
      else server.publish(topic, message);
    },
  },
});

console.log(`ready clients=127.0.0.1:${server.port}`);
