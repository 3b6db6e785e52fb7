// What a client with the WebSocket interface of browsers must see from wsgate.
//
// Imports nothing, so that npm `ws` in Node and Chromium's own WebSocket in a
// page run the same checks. What a page cannot do (publish over HTTP to another
// origin, read the metrics, print) comes in as functions:
//   report(ok, name, detail)   one finished check
//   publish(topic, message)    POST to the admin port; a string, or an array of
//                              byte values for a binary message
//   shards(total)              connections on each shard, once they sum to total
//   counter(name)              a counter of the gateway, added up over its shards

/** Longest that any one step may take before its check has failed. */
const STEP_MS_MAX = 20_000;
/** Size of the large messages, the message limit of `/topics`. */
const LARGE_BYTES = 1 << 20;
/** Subscribers are added in steps of this many until two shards hold some. */
const SUBSCRIBERS_STEP = 8;
/** With 2 shards, all of so many on one of them is a chance of 1 in 2^63. */
const SUBSCRIBERS_MAX = 64;

/** Runs every check in turn; each leaves no connection open. */
export async function runChecks({ WebSocket, base, report, publish, shards, counter, more = {} }) {
  const checks = { ...echoChecks, ...greetingChecks, ...topicChecks, ...compressionChecks, ...more };
  for (const [name, run] of Object.entries(checks)) {
    const peers = [];
    const connect = async (path) => {
      const peer = new Peer(WebSocket, base + path);
      peers.push(peer);
      await peer.opened();
      return peer;
    };
    try {
      await run({ connect, publish, shards, counter });
      report(true, name, "");
    } catch (error) {
      report(false, name, error.message);
    } finally {
      await Promise.allSettled(peers.map((peer) => peer.close()));
    }
  }
}

/**
 * Subscribes to `topic`, calls `subscribed`, which resolves when everybody has,
 * then sends `own` messages `NAME-0`, `NAME-1`, .. and resolves to the first
 * `total` messages that arrive.
 */
export async function recordOrder({ WebSocket, base, topic, name, own, total, subscribed }) {
  const peer = new Peer(WebSocket, `${base}/topics/${topic}`);
  await peer.opened();
  await subscribed();
  for (let i = 0; i < own; i++) peer.send(`${name}-${i}`);
  const seen = [];
  while (seen.length < total) seen.push(await peer.receive());
  await peer.close();
  return seen;
}

const echoChecks = {
  "echo text": ({ connect }) => echoes(connect, "Grüße, 世界 👋"),
  "echo empty text": ({ connect }) => echoes(connect, ""),
  "echo binary": ({ connect }) => echoes(connect, everyByte()),
  "echo 1 MiB text": ({ connect }) => echoes(connect, largeText()),
  "echo 1 MiB binary": ({ connect }) => echoes(connect, largeBinary()),
  "echo 100 messages in order": async ({ connect }) => {
    const peer = await connect("/echo");
    for (let i = 0; i < 100; i++) peer.send(`message ${i}`);
    for (let i = 0; i < 100; i++) expect(await peer.receive(), `message ${i}`);
  },
  "close 1000": async ({ connect }) => {
    const peer = await connect("/echo");
    const { code, wasClean } = await peer.close(1000, "done");
    expect(`code ${code}, clean ${wasClean}`, "code 1000, clean true");
  },
};

const greetingChecks = {
  "chat answers good": async ({ connect }) => {
    const peer = await connect("/chat");
    for (const message of ["hello", everyByte()]) {
      peer.send(message);
      expect(await peer.receive(), "good");
    }
  },
};

const topicChecks = {
  "fan-out over two shards": async ({ connect, publish, shards }) => {
    const subscribers = [];
    let held = [];
    while (held.filter((count) => count > 0).length < 2) {
      if (subscribers.length === SUBSCRIBERS_MAX) {
        throw new Error(`${SUBSCRIBERS_MAX} subscribers, all on one shard: ${held.join(" + ")}`);
      }
      for (let i = 0; i < SUBSCRIBERS_STEP; i++) subscribers.push(await connect("/topics/room"));
      held = await shards(subscribers.length);
    }
    const everybodyReceives = (messages) =>
      Promise.all(
        subscribers.map(async (subscriber) => {
          for (const message of messages) expect(await subscriber.receive(), message);
        }),
      );

    const sent = ["from a subscriber", everyByte(), largeText()];
    for (const message of sent) subscribers[0].send(message);
    await everybodyReceives(sent);

    await publish("room", "over HTTP: ü");
    await publish("room", [...everyByte()]);
    await everybodyReceives(["over HTTP: ü", everyByte()]);
  },
};

const compressionChecks = {
  // Browsers always offer it, so every other check runs with it too.
  "compression": async ({ connect, counter }) => {
    const echo = await connect("/echo");
    const subscribers = [await connect("/topics/packed"), await connect("/topics/packed")];
    for (const peer of [echo, ...subscribers]) {
      expect(peer.socket.extensions.split(";")[0], "permessage-deflate");
    }
    const before = [await counter("deflated"), await counter("inflated")];
    for (const message of [largeText(), new Uint8Array(5000).fill(7)]) {
      echo.send(message);
      expect(await echo.receive(), message);
      subscribers[0].send(message);
      for (const peer of subscribers) expect(await peer.receive(), message);
    }
    const after = [await counter("deflated"), await counter("inflated")];
    // Each was taken twice; echoed to one, and compressed once for the
    // subscribers of a shard, of which there are two.
    const [deflated, inflated] = after.map((count, i) => count - before[i]);
    expect(`${inflated} inflated`, "4 inflated");
    expect(`enough deflated: ${deflated >= 4 && deflated <= 6}`, "enough deflated: true");
  },
};

/** Sends `message` to `/echo` and expects it back with the same type. */
async function echoes(connect, message) {
  const peer = await connect("/echo");
  peer.send(message);
  expect(await peer.receive(), message);
}

/** A connection whose messages (string or Uint8Array) wait until asked for. */
export class Peer {
  #arrived = [];
  #waiting = [];
  #ended = null;

  constructor(WebSocket, url) {
    this.url = url;
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("message", ({ data }) => {
      const message = typeof data === "string" ? data : new Uint8Array(data);
      const waiter = this.#waiting.shift();
      if (waiter) waiter.resolve(message);
      else this.#arrived.push(message);
    });
    // A failure is followed by `close`, which says as much; without a listener
    // Node's client would take the process down.
    this.socket.addEventListener("error", () => {});
    this.closed = new Promise((resolve) => {
      this.socket.addEventListener("close", ({ code, reason, wasClean }) => {
        this.#ended = new Error(`${url} was closed with ${code} ${reason}`);
        for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#ended);
        resolve({ code, reason, wasClean });
      });
    });
  }

  opened() {
    const open = new Promise((resolve, reject) => {
      this.socket.addEventListener("open", resolve);
      this.closed.then(() => reject(this.#ended));
    });
    return within(open, `${this.url} to open`);
  }

  send(message) {
    this.socket.send(message);
  }

  receive() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    if (this.#ended) return Promise.reject(this.#ended);
    const message = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    return within(message, `a message on ${this.url}`);
  }

  close(code = 1000, reason = "") {
    this.socket.close(code, reason);
    return within(this.closed, `${this.url} to close`);
  }
}

/** `promise`, or an error that says what did not come in time. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    const tell = () => reject(new Error(`waited ${STEP_MS_MAX} ms for ${what}`));
    timer = setTimeout(tell, STEP_MS_MAX);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Throws unless both are the same text, or the same bytes. */
export function expect(actual, expected) {
  const same =
    typeof actual === typeof expected &&
    actual.length === expected.length &&
    (typeof actual === "string"
      ? actual === expected
      : actual.every((byte, i) => byte === expected[i]));
  if (!same) throw new Error(`expected ${summary(expected)}, got ${summary(actual)}`);
}

function summary(message) {
  if (typeof message === "string") {
    return message.length > 60 ? `text of ${message.length} units` : JSON.stringify(message);
  }
  return `binary of ${message.length} bytes (${message.subarray(0, 8)}, ..)`;
}

export function everyByte() {
  return Uint8Array.from({ length: 256 }, (_, i) => i);
}

/** Characters of 1 to 4 bytes, so that reads and frames cut some of them. */
function largeText() {
  const unit = "aé世👋"; // 10 bytes of UTF-8
  const times = Math.floor(LARGE_BYTES / 10);
  return unit.repeat(times) + "x".repeat(LARGE_BYTES - times * 10);
}

/** Bytes without a period that a buffer size could hide. */
function largeBinary() {
  const bytes = new Uint8Array(LARGE_BYTES);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}
