// The gateway's side of the checks for the clients that run in or from Node:
// the admin port, the command line, and lines on standard input and output.
//
//   PROGRAM check CLIENTS ADMIN
//       one line per check: "ok NAME: CHECK" or "FAILED NAME: CHECK: WHY";
//       exit status 1 when one failed
//   PROGRAM order CLIENTS ADMIN TOPIC OWN TOTAL
//       see together.py, which starts it
//
// CLIENTS and ADMIN are host:port.

import { createInterface } from "node:readline";
import { within } from "./checks.js";

/** How often the metrics are read while connections come and go. */
const METRICS_POLL_MS = 50;

/** Publishes over HTTP: a string as text, an array of byte values as binary. */
export async function publish(admin, topic, message) {
  const text = typeof message === "string";
  const response = await fetch(`http://${admin}/topics/${topic}`, {
    method: "POST",
    headers: { "Content-Type": text ? "text/plain; charset=utf-8" : "application/octet-stream" },
    body: text ? message : Uint8Array.from(message),
  });
  if (!response.ok) {
    throw new Error(`POST /topics/${topic}: ${response.status} ${await response.text()}`);
  }
}

/** Connections on each shard, as soon as the metrics show `total` of them. */
export function shards(admin, total) {
  let given_up = false;
  const settled = async () => {
    while (!given_up) {
      const text = await (await fetch(`http://${admin}/metrics`)).text();
      const counts = shardCounts(text);
      if (counts.reduce((sum, count) => sum + count, 0) === total) return counts;
      await new Promise((resolve) => setTimeout(resolve, METRICS_POLL_MS));
    }
  };
  return within(settled(), `wsgate_connections to sum to ${total}`).finally(() => {
    given_up = true;
  });
}

/** A counter, added up over the shards. */
export async function counter(admin, name) {
  const text = await (await fetch(`http://${admin}/metrics`)).text();
  const samples = text.matchAll(new RegExp(`^wsgate_${name}_total\\{[^}]*\\} ([\\d.]+)`, "gm"));
  return [...samples].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** The values of `wsgate_connections{shard="N"}`, by shard. */
function shardCounts(metrics) {
  const counts = new Map();
  for (const [, shard, value] of metrics.matchAll(
    /^wsgate_connections\{[^}]*shard="(\d+)"[^}]*\} ([\d.]+)/gm,
  )) {
    counts.set(shard, (counts.get(shard) ?? 0) + Number(value));
  }
  return [...counts.values()];
}

/** Does what the command line asks, with `runChecks` and `recordOrder` of checks.js. */
export async function main(name, { runChecks, recordOrder }) {
  const [mode, clients, admin, topic, own, total] = process.argv.slice(2);
  const base = `ws://${clients}`;
  if (mode === "check") {
    await runChecks({
      base,
      report(ok, check, why) {
        console.log(ok ? `ok ${name}: ${check}` : `FAILED ${name}: ${check}: ${why}`);
        if (!ok) process.exitCode = 1;
      },
      publish: (topic, message) => publish(admin, topic, message),
      shards: (total) => shards(admin, total),
      counter: (name) => counter(admin, name),
    });
  } else if (mode === "order") {
    const input = createInterface({ input: process.stdin });
    const go = new Promise((resolve) => input.once("line", resolve));
    const subscribed = () => {
      console.log("subscribed");
      return go;
    };
    const order = { base, topic, name, own: Number(own), total: Number(total), subscribed };
    console.log(JSON.stringify(await recordOrder(order)));
    input.close();
  } else {
    throw new Error(`first argument is check or order, not ${mode}`);
  }
}
