// What guessing passwords gets, and what it costs: a thousand tries at the door of a Salon of its own, one after the other
// and many at once, and how long the door takes for those who are there and those who are not. Bounded, and on loopback.
//
//   SALON_BIN=../target/release/salon node guess.mjs

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const program = resolve(here, process.env.SALON_BIN ?? "../target/debug/salon");
const PASSWORD = "storks fly south";
const TRIES = 1000;
const PAIRS = 500;

const folder = mkdtempSync(join(tmpdir(), "salon-guess-"));
const port = await new Promise((told) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => told(port));
  });
});
writeFileSync(join(folder, "bots.yaml"), "bots: []\n");
const args = ["serve", "--listen", `127.0.0.1:${port}`, "--data", "data", "--bots", "bots.yaml"];
const server = spawn(program, args, { cwd: folder, env: { PATH: process.env.PATH }, stdio: ["ignore", "pipe", "pipe"] });
let output = "";
for (const stream of [server.stdout, server.stderr]) stream.on("data", (bytes) => { output += bytes; });

const agent = new Agent({ keepAlive: true });

/** Sends a form; `from` is another address of this machine, because the door counts by addresses, too. */
function post(path, fields, from) {
  const body = new URLSearchParams(fields).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded", "content-length": body.length, "sec-fetch-site": "same-origin" };
  const began = performance.now();
  return new Promise((told, failed) => {
    const options = { port, host: "127.0.0.1", path, method: "POST", headers, localAddress: from, agent: from ? new Agent() : agent };
    request(options, (response) => {
      response.resume();
      response.on("end", () => told({ status: response.statusCode, ms: performance.now() - began }));
    }).on("error", failed).end(body);
  });
}

const memory = (name) => Number(readFileSync(`/proc/${server.pid}/status`, "utf8").match(new RegExp(`${name}:\\s+(\\d+)`))[1]) / 1024;
const middle = (times) => [...times].sort((one, other) => one - other)[Math.floor(times.length / 2)];

async function guess(atOnce, email) {
  const counts = {};
  let left = TRIES;
  const one = async () => {
    while (left-- > 0) {
      const { status } = await post("/login", { email, password: "wrong" });
      counts[status] = (counts[status] ?? 0) + 1;
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: atOnce }, one));
  return { atOnce, counts, seconds: ((performance.now() - began) / 1000).toFixed(1), peak: memory("VmHWM") };
}

try {
  let pass = null;
  for (let look = 0; look < 200 && !pass; look += 1) {
    await new Promise((later) => { setTimeout(later, 100); });
    pass = output.match(/\/join\/([\w-]{43})/)?.[1];
  }
  if (!pass) throw new Error(output);
  const base = memory("VmHWM");
  console.log(`before anybody came in: VmHWM ${base.toFixed(0)} MiB`);
  const entered = await post("/register", { name: "Alice", email: "alice@birds.example", password: PASSWORD, pass });
  if (entered.status !== 303) throw new Error(`nobody could register: ${entered.status}`);

  // Each try from an address of its own, and the account's owner comes in between, so that nobody has to wait.
  const [known, unknown] = [[], []];
  for (let n = 0; n < PAIRS; n += 1) {
    const from = `127.1.${n >> 7}.${1 + (n & 127)}`;
    const tries = [[known, "alice@birds.example"], [unknown, `nobody${n}@birds.example`]];
    for (const [times, email] of n % 2 ? tries.reverse() : tries) {
      const { status, ms } = await post("/login", { email, password: "wrong" }, from);
      if (status !== 401) throw new Error(`${email}: ${status}`);
      times.push(ms);
    }
    if (n % 3 === 2) await post("/login", { email: "alice@birds.example", password: PASSWORD }, from);
  }
  console.log(`${PAIRS} pairs: known ${middle(known).toFixed(2)} ms, unknown ${middle(unknown).toFixed(2)} ms (medians)`);

  for (const [atOnce, email] of [[1, "alice@birds.example"], [64, "bob@birds.example"], [256, "carol@birds.example"]]) {
    const { counts, seconds, peak } = await guess(atOnce, email);
    const said = Object.entries(counts).map(([status, count]) => `${count} × ${status}`).join(", ");
    console.log(`${TRIES} tries, ${atOnce} at once: ${said} in ${seconds} s; VmHWM ${peak.toFixed(0)} MiB (+${(peak - base).toFixed(0)})`);
  }
} finally {
  agent.destroy();
  server.kill("SIGTERM");
  await new Promise((ended) => { server.once("exit", ended); });
  rmSync(folder, { recursive: true, force: true });
}
