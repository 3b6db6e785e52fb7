// npm ws: topics are sets of sockets, and each message is sent to all of a set.
// Serves /echo, /topics/NAME and /topics/NAME?subscribe=off; prints where it listens.

const { WebSocketServer } = require("ws");

const topics = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 511, perMessageDeflate: false });

server.on("connection", (socket, request) => {
  // A reset is how the load ends its connections.
  socket.on("error", () => {});
  if (request.url === "/echo") {
    socket.on("message", (message, binary) => socket.send(message, { binary }));
    return;
  }
  const [path, query] = request.url.split("?");
  if (!topics.has(path)) topics.set(path, new Set());
  const subscribers = topics.get(path);
  if (query !== "subscribe=off") {
    subscribers.add(socket);
    socket.on("close", () => subscribers.delete(socket));
  }
  socket.on("message", (message, binary) => {
    for (const subscriber of subscribers) subscriber.send(message, { binary });
  });
});

server.on("listening", () => console.log(`ready clients=127.0.0.1:${server.address().port}`));
