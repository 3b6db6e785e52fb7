// Chromium's own WebSocket against wsgate; see gateway.js for the command line.
//
// A headless browser opens a page from a small server here, so that the page
// has a real origin, and the page runs checks.js. CHROMIUM in the environment
// names the browser's executable.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";
import { main } from "./gateway.js";

const FILES = {
  "/": ["text/html", "<!doctype html><meta charset=utf-8><title>wsgate</title>"],
  "/checks.js": ["text/javascript", await readFile(new URL("checks.js", import.meta.url))],
};

/** A page in a fresh browser; `close` ends both it and the page's server. */
async function openPage() {
  const server = createServer((request, response) => {
    const [type, body] = FILES[request.url] ?? [];
    response.writeHead(body ? 200 : 404, { "Content-Type": type ?? "text/plain" });
    response.end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  // Playwright gives each browser a profile of its own, and removes it.
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--no-proxy-server",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(`page: ${error.message}`));
  // Another name than the gateway's address: loopback names are one host.
  await page.goto(`http://localhost:${server.address().port}/`);
  const close = async () => {
    await browser.close();
    server.close();
  };
  return { page, close };
}

async function runChecks({ base, report, publish, shards, counter }) {
  const { page, close } = await openPage();
  try {
    await page.exposeFunction("report", report);
    await page.exposeFunction("publish", publish);
    await page.exposeFunction("shards", shards);
    await page.exposeFunction("counter", counter);
    await page.evaluate(async (base) => {
      const { runChecks } = await import("/checks.js");
      const { WebSocket, report, publish, shards, counter } = window;
      await runChecks({ WebSocket, base, report, publish, shards, counter });
    }, base);
  } finally {
    await close();
  }
}

async function recordOrder({ subscribed, ...order }) {
  const { page, close } = await openPage();
  try {
    await page.exposeFunction("subscribed", subscribed);
    return await page.evaluate(async (order) => {
      const { recordOrder } = await import("/checks.js");
      const { WebSocket, subscribed } = window;
      return recordOrder({ WebSocket, subscribed, ...order });
    }, order);
  } finally {
    await close();
  }
}

await main("chromium", { runChecks, recordOrder });
