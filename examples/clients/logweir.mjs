// A client for logweir's collector: Node 18 or later, no dependencies.
//
//   import { Client } from "./logweir.mjs";
//   const client = new Client("http://127.0.0.1:4801", { token: "…" });
//   await client.send([{ timestamp: Date.now(), service: "checkout", level: "error", message: "card declined" }]);
//
// A client is a producer that numbers its events 1, 2, 3, …; a batch that is sent again, whole or in halves, bears the same
// numbers and so is counted once, also when an answer got lost.
//
// As a program it sends NDJSON from standard input: LOGWEIR_URL, LOGWEIR_TOKEN or LOGWEIR_AGENT, LOGWEIR_BATCH (500).
// Exit codes: 0 all taken, 1 some event was rejected, 3 the collector doesn't let us in.

import { randomUUID } from "node:crypto";
import { realpathSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const LONGEST_WAIT_MS = 60_000;

/** The request will never be taken as it is: mend URL or token. */
export class Refused extends Error {}

export class Client {
  #url;
  #headers;
  #timeoutMs;
  #producer = randomUUID();
  #next = 1;

  constructor(url, { token, agent, timeoutMs = 30_000 } = {}) {
    this.#url = `${url.replace(/\/+$/, "")}/v1/events`;
    this.#timeoutMs = timeoutMs;
    this.#headers = { "Content-Type": "application/x-ndjson", "Content-Encoding": "gzip" };
    if (token) this.#headers.Authorization = `Bearer ${token}`;
    if (agent) this.#headers["Logweir-Agent"] = agent;
  }

  /**
   * Sends events (objects, or texts of one line each) until somebody has decided about each of them.
   * `signal` ends the attempts. Resolves to those that were rejected: [{ event, code, detail }].
   */
  async send(events, { signal } = {}) {
    const lines = events
      .map((event) => (typeof event === "string" ? event : JSON.stringify(event)))
      .filter((line) => line.trim() !== "");
    const first = this.#next;
    this.#next += lines.length;
    return lines.length === 0 ? [] : this.#send(first, lines, signal);
  }

  async #send(first, lines, signal) {
    const body = gzipSync(`${lines.join("\n")}\n`, { level: 1 });
    for (let attempt = 0; ; attempt += 1) {
      const { status, toldMs, answer } = await this.#post(first, body, signal);
      if ((status === 202 || status === 422) && Array.isArray(answer.rejected)) {
        return answer.rejected.map(({ index, code, detail }) => ({ event: lines[index], code, detail }));
      }
      if (status === 413 && lines.length > 1) {
        const half = Math.floor(lines.length / 2);
        const left = await this.#send(first, lines.slice(0, half), signal);
        return left.concat(await this.#send(first + half, lines.slice(half), signal));
      }
      if ([400, 413, 415, 422].includes(status)) {
        const code = String(answer.type ?? "").split(":").pop();
        return lines.map((event) => ({ event, code, detail: answer.detail ?? `HTTP ${status}` }));
      }
      if (status !== undefined && status !== 408 && status !== 429 && status < 500) {
        throw new Refused(`HTTP ${status}: ${answer.detail ?? ""}`);
      }
      await sleep(pauseMs(toldMs, attempt), undefined, { signal });
    }
  }

  /** One attempt: no status means no answer. */
  async #post(first, body, signal) {
    signal?.throwIfAborted();
    const timeout = AbortSignal.timeout(this.#timeoutMs);
    const headers = { ...this.#headers, "Logweir-Batch": `${this.#producer}/${first}` };
    try {
      const response = await fetch(this.#url, { method: "POST", headers, body, signal: timeout });
      const answer = parse(await response.text());
      const seconds = Number(response.headers.get("Retry-After") ?? NaN);
      return { status: response.status, toldMs: answer.retry_after_ms ?? seconds * 1000, answer };
    } catch (error) {
      return { answer: { detail: String(error.cause ?? error) } };
    }
  }
}

function parse(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

function pauseMs(toldMs, attempt) {
  // A quarter more at most, so that not all come at once.
  if (Number.isFinite(toldMs)) return toldMs * (1 + Math.random() / 4);
  // Anything up to a limit that doubles: "full jitter".
  return Math.random() * Math.min(LONGEST_WAIT_MS, 200 * 2 ** Math.min(attempt, 20));
}

async function main() {
  const { LOGWEIR_URL, LOGWEIR_TOKEN, LOGWEIR_AGENT, LOGWEIR_BATCH } = process.env;
  const client = new Client(LOGWEIR_URL ?? "http://127.0.0.1:4801", { token: LOGWEIR_TOKEN, agent: LOGWEIR_AGENT });
  const size = Number(LOGWEIR_BATCH ?? 500);
  let batch = [];
  const flush = async () => {
    for (const { event, code, detail } of await client.send(batch)) {
      process.exitCode = 1;
      console.error(`rejected: ${code}: ${detail}: ${event}`);
    }
    batch = [];
  };
  for await (const line of createInterface({ input: process.stdin })) {
    batch.push(line);
    if (batch.length === size) await flush();
  }
  await flush();
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(error instanceof Refused ? error.message : error);
    process.exitCode = 3;
  });
}
