// The stage on which an SDK plays: a scripted model server, and a Salon of its own before it. Both are the real program.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const given = (name, usual) => resolve(here, process.env[name] ?? `../../target/${usual}`);
export const salon = given("SALON_BIN", "debug/salon");
export const python = given("SDKS_PYTHON", "sdks-venv/bin/python");
export const litellm = given("SDKS_LITELLM_PYTHON", "sdks-litellm-venv/bin/python");

/** What the upstream is shown, and nobody else. */
export const PROVIDER_KEY = "sk-provider-0123456789abcdef";
/** Nothing here takes as long, even on a busy machine. */
const END_MS = 20_000;
const OUTPUT_BYTES = 16_000;

/** The models by the names that callers use: where each is, and its dollars for a million tokens in and out. */
const MODELS = {
  gpt: { upstream: "openai", input: 1, output: 2 },
  claude: { upstream: "anthropic", input: 3, output: 15 },
  gemini: { upstream: "google", input: 1, output: 4 },
  vectors: { upstream: "openai", input: 1, output: 0 },
  // The upstream does not know this one.
  "unknown-there": { upstream: "openai", input: 1, output: 2 },
};

/** A running program and the end of what it printed. */
export class Program {
  output = "";
  printed = "";
  #child;
  #gone;

  constructor(file, args, { cwd = here, env = {} } = {}) {
    // A bare environment: a proxy or a key of the person who runs the tests is none of the SDKs' business.
    const bare = { PATH: process.env.PATH, HOME: tmpdir(), LANG: "C.UTF-8" };
    this.#child = spawn(file, args, { cwd, env: { ...bare, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    this.#child.stdout.on("data", (chunk) => (this.printed += chunk));
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on("data", (chunk) => (this.output = (this.output + chunk).slice(-OUTPUT_BYTES)));
    this.#gone = once(this.#child, "close").then(([code, signal]) => signal ?? code);
  }

  /** Resolves with the exit code, or with the name of the signal that ended it. */
  get gone() {
    return this.#gone;
  }

  /** Waits for something that it prints. */
  async says(pattern) {
    for (;;) {
      const found = this.output.match(pattern);
      if (found) return found;
      const more = [this.#child.stdout, this.#child.stderr].map((stream) => once(stream, "data").then(() => false));
      const ended = await Promise.race([...more, this.#gone.then(() => true)]);
      assert.ok(!ended, `it ended before it said ${pattern}:\n${this.output}`);
    }
  }

  /** Asks it to end, and kills it if it does not. Returns how it ended. */
  async end(signal = "SIGINT") {
    this.#child.kill(signal);
    const impatience = setTimeout(() => this.#child.kill("SIGKILL"), END_MS);
    const how = await this.#gone;
    clearTimeout(impatience);
    return how;
  }
}

/** A scripted upstream and a Salon that leads there, with keys to it. */
export class Stage {
  #folder = mkdtempSync(join(tmpdir(), "salon-sdks-"));
  #mock;
  #salon;
  /** What a suite is told. */
  env = {};

  async open() {
    this.#mock = new Program(salon, ["mock", "--listen", "127.0.0.1:0", "--bots", join(this.#folder, "bots.yaml"), "--upstream", "127.0.0.1:0"]);
    const [, upstream] = await this.#mock.says(/model server is at (http:\/\/127\.0\.0\.1:\d+)/);
    writeFileSync(join(this.#folder, "salon.toml"), settings(upstream));
    this.#salon = this.#program(["serve"]);
    const [, address] = await this.#salon.says(/"address":"(127\.0\.0\.1:\d+)"/);
    const [key, narrow, admin] = await Promise.all([this.#key("sdk", "user"), this.#key("narrow", "user", "--models", "claude*"), this.#key("boss", "admin")]);
    this.env = { SALON_URL: `http://${address}`, SALON_KEY: key, SALON_NARROW_KEY: narrow, SALON_ADMIN_KEY: admin, UPSTREAM_URL: upstream };
  }

  /** A new key, made while Salon is open. */
  async #key(name, role, ...limits) {
    await this.#run(["user", "add", name, "--role", role]);
    const made = await this.#run(["key", "add", name, "--user", name, ...limits, "--quiet"]);
    return made.printed.trim();
  }

  #program(args) {
    return new Program(salon, args, { cwd: this.#folder, env: { OPENAI_API_KEY: PROVIDER_KEY, ANTHROPIC_API_KEY: PROVIDER_KEY, GEMINI_API_KEY: PROVIDER_KEY } });
  }

  async #run(args) {
    const program = this.#program(args);
    assert.equal(await program.gone, 0, `salon ${args.join(" ")}:\n${program.output}`);
    return program;
  }

  /** Everything that reached the upstream. */
  async calls() {
    const response = await fetch(`${this.env.UPSTREAM_URL}/_mock/upstream/calls`);
    return (await response.json()).result.calls;
  }

  /** Closes Salon, and returns what its ledger says: how each call ended, and what was charged. */
  async ledger() {
    const program = this.#salon;
    this.#salon = undefined;
    assert.equal(await program.end(), 0, `salon did not end well:\n${program.output}`);
    const read = new Program(python, [join(here, "ledger.py"), join(this.#folder, "data")]);
    assert.equal(await read.gone, 0, `the ledger cannot be read:\n${read.output}`);
    return JSON.parse(read.printed);
  }

  async close() {
    await this.#salon?.end("SIGKILL");
    await this.#mock?.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** One try each, so that a suite sees every trouble at once, and breakers that never open between two of them. */
function settings(upstream) {
  const patience = "patience = { tries = 1, breaker_failures = 1000 }";
  const place = (name, kind, base, key) => `[upstreams.${name}]\nkind = "${kind}"\nbase_url = "${base}"\nkey_env = "${key}"\n${patience}\n`;
  const model = ([name, { upstream, input, output }]) =>
    `[models.${name}]\nupstream = "${upstream}"\nmodel = "${name.startsWith("unknown") ? name : `mock-${name}`}"\nrates = { input = "${input}", output = "${output}" }\noutput = 1000\n`;
  return [
    'listen = "127.0.0.1:0"\n[log]\nformat = "json"\n',
    place("openai", "openai", `${upstream}/v1`, "OPENAI_API_KEY"),
    place("anthropic", "anthropic", upstream, "ANTHROPIC_API_KEY"),
    place("google", "gemini", upstream, "GEMINI_API_KEY"),
    ...Object.entries(MODELS).map(model),
  ].join("\n");
}

/** What so many tokens cost, in millionths of a dollar. Prices in dollars for a million are millionths for one. */
export function price(model, usage) {
  const { input, output } = MODELS[model.replace(/^mock-/, "")];
  return usage.input * input + usage.output * output;
}
