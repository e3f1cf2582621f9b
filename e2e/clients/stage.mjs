// The stage on which the bots play: a mock Telegram of the real `salon`, and the programs of the bots.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
export const salon = resolve(here, process.env.SALON_BIN ?? "../../target/debug/salon");
export const python = resolve(here, process.env.CLIENTS_PYTHON ?? "../../target/clients-venv/bin/python");

/** Python on a busy machine may need half a minute to begin; nobody needs as long to end. */
const PATIENCE_MS = 90_000;
const END_MS = 20_000;
const OUTPUT_BYTES = 8000;

/** A running program and the end of what it printed. */
export class Program {
  output = "";
  #child;
  #gone;

  constructor(file, args, env = {}) {
    // A bare environment: a proxy or a token of the person who runs the tests is none of the bots' business.
    const bare = { PATH: process.env.PATH, HOME: tmpdir(), LANG: "C.UTF-8", PYTHONUNBUFFERED: "1" };
    this.#child = spawn(file, args, { cwd: here, env: { ...bare, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on("data", (chunk) => (this.output = (this.output + chunk).slice(-OUTPUT_BYTES)));
    this.#gone = once(this.#child, "close").then(([code, signal]) => signal ?? code);
  }

  /** Resolves with the exit code, or with the name of the signal that ended it. */
  get gone() {
    return this.#gone;
  }

  /** Waits for a line that matches. */
  async says(pattern) {
    for (;;) {
      const found = this.output.match(pattern);
      if (found) return found;
      const ended = await Promise.race([once(this.#child.stdout, "data").then(() => false), this.#gone.then(() => true)]);
      assert.ok(!ended, `it ended before it said ${pattern}:\n${this.output}`);
    }
  }

  /** Asks it to end, and kills it if it does not. Returns how it ended. */
  async end(signal) {
    this.#child.kill(signal);
    const impatience = setTimeout(() => this.#child.kill("SIGKILL"), END_MS);
    const how = await this.#gone;
    clearTimeout(impatience);
    return how;
  }
}

/** A mock Telegram that starts empty. */
export class Mock {
  url = "";
  #program;
  #folder;

  async open() {
    this.#folder = mkdtempSync(join(tmpdir(), "salon-clients-"));
    this.#program = new Program(salon, ["mock", "--listen", "127.0.0.1:0", "--bots", join(this.#folder, "bots.yaml")]);
    [, this.url] = await this.#program.says(/is at (http:\/\/127\.0\.0\.1:\d+)/);
  }

  async close() {
    const how = await this.#program.end("SIGINT");
    rmSync(this.#folder, { recursive: true, force: true });
    assert.equal(how, 0, `the mock did not end well:\n${this.#program.output}`);
  }

  /** Calls the control API. */
  async call(path, body) {
    const form = body instanceof FormData;
    const headers = body && !form ? { "content-type": "application/json" } : {};
    const response = await fetch(this.url + path, body ? { method: "POST", headers, body: form ? body : JSON.stringify(body) } : {});
    const answer = await response.json();
    assert.ok(response.ok && answer.ok, `${path}: ${JSON.stringify(answer)}`);
    return answer.result;
  }

  /**
   * Waits until `look` finds something, and returns it. It looks once, and again at all news of the bot;
   * it gives up after a while, and at once if the bot's program ends.
   */
  async until(bot, what, look) {
    const stop = new AbortController();
    let reason = "";
    const give = (why) => {
      reason ||= why;
      stop.abort();
    };
    const impatience = setTimeout(() => give("in time"), PATIENCE_MS);
    bot.program?.gone.then((how) => give(`before its program ended (${how})`));
    try {
      const news = await fetch(`${this.url}/_mock/events?token=${bot.token}`, { signal: stop.signal });
      for await (const _ of news.body) {
        const found = await look();
        if (found) return found;
      }
      throw new Error("the mock has no more news");
    } catch (error) {
      if (!reason) throw error;
      const { calls } = await this.call(`/_mock/ledger?token=${bot.token}&limit=10000`);
      const last = calls.slice(-12).map(({ method, status, error: said }) => `  ${method} ${status} ${said ?? ""}`);
      throw new Error(`${what}: not ${reason}\nits last calls:\n${last.join("\n")}\nit printed:\n${bot.program?.output}`);
    } finally {
      clearTimeout(impatience);
    }
  }
}

const taken = new Set();

/**
 * A free port for a server that stops and comes back. It lies below those that the system gives to outgoing
 * connections, so that none of them sits on it in between.
 */
export async function freePort() {
  for (let port = 20_000 + Math.floor(Math.random() * 10_000); ; port += 1) {
    if (taken.has(port)) continue;
    const server = createServer();
    const free = await new Promise((done) => {
      server.once("error", () => done(false));
      server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
    });
    if (!free) continue;
    taken.add(port);
    return port;
  }
}
