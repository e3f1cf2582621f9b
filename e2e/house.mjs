// A Salon and a browser for one test file. The Salon is the real program in its demo: a parrot that
// says everything back, a storyteller that takes its time, and a model without a key. Or it is served
// with three coding agents, the real ones, behind whom sits a scripted model.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { chromium as driver } from "playwright-core";

const here = fileURLToPath(new URL(".", import.meta.url));
export const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const salon = resolve(here, process.env.SALON_BIN ?? "../target/debug/salon");

/** Where `codex`, `claude` and `gemini` are installed. */
const packages = join(process.env.SALON_TEST_AGENTS ?? join(here, "agents"), "node_modules");

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
export const SMALL_PHONE = { width: 360, height: 640 };

/** Good enough for everybody here. */
export const PASSWORD = "storks fly south";

const PATIENCE_MS = 20_000;
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Opens the house for the tests of one file, and closes it behind them. */
export function openHouse() {
  const house = new House();
  before(() => house.open());
  after(() => house.close());
  return house;
}

class House {
  #programs = [];
  #folder = "";
  #browser = null;
  #output = "";
  /** The messenger. */
  url = "";
  /** Salon's own listener. */
  salon = "";

  async open() {
    this.#folder = mkdtempSync(join(tmpdir(), "salon-e2e-"));
    const [listen, mockListen] = [await freeAddress(), await freeAddress()];
    this.url = `http://${mockListen}`;
    this.salon = `http://${listen}`;
    await this.start(this.#folder, listen, mockListen);
    await this.ready(`${this.salon}/readyz`);
    await this.ready(`${this.url}/healthz`);
    this.#browser = await driver.launch({ executablePath: chromium, args: FLAGS });
  }

  /** Starts what has a listener at each of these addresses. */
  async start(folder, listen, mockListen) {
    this.run(["demo", "--data", join(folder, "data"), "--listen", listen, "--mock-listen", mockListen]);
  }

  /** Runs the program until the house is closed. */
  run(args, options = {}) {
    const program = spawn(salon, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [program.stdout, program.stderr]) stream.on("data", (chunk) => (this.#output = (this.#output + chunk).slice(-8000)));
    this.#programs.push(program);
  }

  async close() {
    await this.#browser?.close();
    // The last to come is the first to go: a server says goodbye while its Telegram still listens.
    for (const program of this.#programs.reverse()) await ended(program);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async ready(url) {
    const patience = Date.now() + 2 * PATIENCE_MS;
    for (;;) {
      assert.ok(this.#programs.every((program) => program.exitCode === null), `salon ended before it was ready:\n${this.#output}`);
      const answer = await fetch(url).catch(() => null);
      if (answer?.ok) return;
      const said = answer ? `${answer.status} ${await answer.text()}` : "nothing";
      assert.ok(Date.now() < patience, `${url} says ${said}\n${this.#output}`);
      await new Promise((again) => setTimeout(again, 50));
    }
  }

  async #profiles(chat) {
    const { bots } = await this.call("/_mock/bot_catalog");
    const profiles = bots.map(({ bot_id, token, name }) => ({ profile_id: `profile-${bot_id}`, label: name, bot_id, token, chat_id: chat, user_id: 9001, selected_for_parallel: false, from_catalog: true }));
    return JSON.stringify({ selected_profile_id: profiles[0].profile_id, profiles });
  }

  /** Where the first administrator comes in; printed once, at the start. */
  first() {
    const [, door] = /(?:First visit |within a day and once:\s+)(\S+)/.exec(this.#output) ?? assert.fail(`no first visit:\n${this.#output}`);
    return door;
  }

  /** Makes an API key, while the program runs. */
  async key(name) {
    const made = spawn(salon, ["key", "add", name, "--quiet", "--data", join(this.#folder, "data")], { stdio: ["ignore", "pipe", "pipe"] });
    let printed = "";
    for (const stream of [made.stdout, made.stderr]) stream.on("data", (chunk) => (printed += chunk));
    const code = await new Promise((done) => made.once("close", done));
    assert.equal(code, 0, printed);
    return printed.trim().split("\n").pop();
  }

  /** Calls the messenger's control API, as a test of its own would. */
  async call(path, body) {
    const response = await fetch(this.url + path, body ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {});
    const answer = await response.json();
    assert.ok(response.ok && answer.ok, `${path}: ${JSON.stringify(answer)}`);
    return answer.result;
  }

  /**
   * Opens the page as a new visitor and runs `visit(page)`. Fails on anything the browser complains of
   * and on every request to a foreign host. `excused` lists complaints a test brings about on purpose; `chat` gives the visitor a chat of their own
   * with every bot of the demo, `cookies` make the visitor somebody who came in before, and `scripts` may be switched off. `origin` is whose page it is; only the messenger's has parts of its own that scroll.
   */
  async visit(options, visit) {
    const { size = DESKTOP, theme = "light", language = "en-US", path = "/_mock/ui", origin = this.url, excused = [], storage = {}, chat = null, cookies = null, scripts = true, settled = origin === this.url } = options;
    if (chat) storage.mock_messenger_ui_state_v3 = await this.#profiles(chat);
    const context = await this.#browser.newContext({ viewport: size, hasTouch: size.width < 760, colorScheme: theme, locale: language, permissions: ["clipboard-read", "clipboard-write"], javaScriptEnabled: scripts });
    context.setDefaultTimeout(PATIENCE_MS);
    if (cookies) await context.addCookies(cookies);
    const complaints = [];
    const excuse = (text) => excused.some((pattern) => pattern.test(text));
    await context.addInitScript((entries) => {
      // Only before the first page: a reload must find what the page itself has kept.
      if (window !== top || sessionStorage.getItem("seeded")) return;
      sessionStorage.setItem("seeded", "1");
      for (const [key, value] of Object.entries(entries)) localStorage.setItem(key, value);
    }, storage);
    const page = await context.newPage();
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => complaints.push(`page: ${error.stack}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (!["data:", "blob:"].includes(url.protocol) && url.origin !== origin) complaints.push(`request: ${url.href}`);
    });
    try {
      await page.goto(origin + path);
      if (settled) await page.locator("#timeline-list:is([data-scene=empty], [data-scene=rows])").waitFor();
      const seen = await visit(page);
      if (origin === this.url) await noScroll(page);
      assert.deepEqual(complaints.filter((text) => !excuse(text)), [], "the browser complained");
      return seen;
    } catch (error) {
      await shoot(page, `failed-${Date.now()}`).catch(() => {});
      throw error;
    } finally {
      await context.close();
    }
  }
}

/** Opens a house with the bots `codex`, `claude` and `gemini`: claude asks what it may do, the others do it. */
export function openAgents() {
  const house = new Agents();
  before(() => house.open());
  after(() => house.close());
  return house;
}

/** How each agent is run, with what, and in whose protocol its model is asked. */
const AGENTS = {
  codex: { program: join(packages, ".bin/codex"), policy: "workspace", kind: "openai", path: "/v1" },
  // A script of its package would put the program there; it is taken from where it came in.
  claude: { program: join(packages, "@anthropic-ai", native(), "claude"), policy: "ask", kind: "anthropic", path: "" },
  gemini: { program: join(packages, ".bin/gemini"), policy: "workspace", kind: "gemini", path: "" },
};

class Agents extends House {
  async start(folder, listen, mockListen) {
    for (const [name, { program }] of Object.entries(AGENTS)) assert.ok(existsSync(program), `${name} is missing: run \`npm ci --ignore-scripts\` in e2e/agents`);
    const upstream = await freeAddress();
    const parts = Object.entries(AGENTS).map(
      ([name, { program, policy, kind, path }]) => `
[upstreams.${kind}]
kind = "${kind}"
base_url = "http://${upstream}${path}"
key_env = "SCRIPTED_API_KEY"

[models.${name}]
upstream = "${kind}"
model = "mock-${name}"
rates = { input = "1", output = "2" }

[agents.${name}]
program = ${JSON.stringify(program)}
model = "${name}"
policy = "${policy}"
`,
    );
    writeFileSync(join(folder, "salon.toml"), `[telegram]\napi_base_url = "${this.url}"\n${parts.join("")}`);
    const bots = Object.keys(AGENTS).map((name, at) => `  - bot_id: ${name}\n    name: ${name}\n    adapter: ${name}\n    telegram_token: mock_token_${at + 1}\n    owner_user_id: 9001\n`);
    writeFileSync(join(folder, "bots.yaml"), `bots:\n${bots.join("")}`);
    this.run(["mock", "--listen", mockListen, "--upstream", upstream, "--bots", "bots.yaml", "--bot-url", this.salon], { cwd: folder });
    await this.ready(`${this.url}/healthz`);
    const env = { PATH: process.env.PATH, SCRIPTED_API_KEY: "sk-scripted" };
    this.run(["serve", "--listen", listen, "--bots", "bots.yaml", "--data", "data"], { cwd: folder, env });
  }
}

/** Opens a house with the bot `house`, answered by models of a scripted server, to which everybody brings a key of their own. */
export function openModels(models) {
  const house = new Models(models);
  before(() => house.open());
  after(() => house.close());
  return house;
}

class Models extends House {
  #models;
  /** Where the models are. */
  upstream = "";

  constructor(models) {
    super();
    this.#models = models;
  }

  async start(folder, listen, mockListen) {
    const upstream = await freeAddress();
    this.upstream = `http://${upstream}`;
    const models = this.#models.map((name) => `\n[models.${name}]\nupstream = "openai"\nmodel = "mock-${name}"\nrates = { input = "1", output = "2" }\n`);
    writeFileSync(join(folder, "salon.toml"), `[telegram]\napi_base_url = "${this.url}"\n\n[upstreams.openai]\nkind = "openai"\nbase_url = "${this.upstream}/v1"\n\n[engines.model]\nmodel = "${this.#models[0]}"\n${models.join("")}`);
    writeFileSync(join(folder, "bots.yaml"), "bots:\n  - bot_id: house\n    name: House\n    adapter: model\n    telegram_token: mock_token_1\n    owner_user_id: 9001\n    allow: [9002]\n");
    this.run(["mock", "--listen", mockListen, "--upstream", upstream, "--bots", "bots.yaml", "--bot-url", this.salon], { cwd: folder });
    await this.ready(`${this.url}/healthz`);
    this.run(["serve", "--listen", listen, "--bots", "bots.yaml", "--data", "data"], { cwd: folder, env: { PATH: process.env.PATH } });
  }

  /** What the scripted server was asked, oldest first. */
  async asked() {
    const response = await fetch(`${this.upstream}/_mock/upstream/calls`);
    assert.ok(response.ok, `the scripted server: ${response.status}`);
    return (await response.json()).result.calls;
  }
}

function native() {
  const makers = join(packages, "@anthropic-ai");
  return (existsSync(makers) && readdirSync(makers).find((name) => name.startsWith("claude-code-"))) || "claude-code";
}

async function ended(program) {
  if (program.exitCode !== null) return;
  const gone = new Promise((done) => program.once("exit", done));
  program.kill("SIGTERM");
  const impatience = setTimeout(() => program.kill("SIGKILL"), PATIENCE_MS);
  await gone;
  clearTimeout(impatience);
}

/** The page as a whole never scrolls; only its parts do, and the conversation only up and down. */
async function noScroll(page) {
  const spill = await page.evaluate(() => {
    scrollTo(50, 50);
    const { scrollWidth, scrollHeight } = document.documentElement;
    return { wide: scrollWidth - innerWidth, high: scrollHeight - innerHeight, left: scrollX, top: scrollY };
  });
  const wide = await page.evaluate(() => {
    const parts = [".topbar", ".bot-sidebar", ".timeline-panel", ".timeline-list", ".composer", ".side-panel", ".compare"];
    return parts.filter((part) => {
      const element = document.querySelector(part);
      if (!element.checkVisibility({ visibilityProperty: true })) return false;
      return element.scrollWidth > element.clientWidth + 1 || element.getBoundingClientRect().right > element.parentElement.getBoundingClientRect().right + 1;
    });
  });
  assert.deepEqual(wide, [], "parts of the page are wider than their place");
  assert.ok(spill.wide <= 0 && spill.high <= 0 && spill.left === 0 && spill.top === 0, `the document scrolls: ${JSON.stringify(spill)}`);
}

/**
 * Looks until what is seen is `wanted`, or what `wanted` says yes to; for everything that follows an event of the page
 * and not the very call before it. A page that is slow is not wrong, but what never comes true is told as it was last.
 */
export async function becomes(look, wanted, words, patience_ms = PATIENCE_MS) {
  const isSo = typeof wanted === "function" ? wanted : (seen) => isDeepStrictEqual(seen, wanted);
  const patience = Date.now() + patience_ms;
  for (;;) {
    let seen;
    let trouble = null;
    try {
      seen = await look();
      if (isSo(seen)) return seen;
    } catch (error) {
      trouble = error;
    }
    if (Date.now() > patience) {
      if (trouble) throw trouble;
      if (typeof wanted === "function") assert.fail(`${words ?? "it never came true"}: ${JSON.stringify(seen)}`);
      assert.deepEqual(seen, wanted, words);
    }
    await new Promise((again) => setTimeout(again, 50));
  }
}

/** Keeps a picture in `shots/`, for people to look at. */
export async function shoot(page, name) {
  const folder = join(here, "shots");
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), animations: "disabled", caret: "initial" });
}

/** Picks a bot by name; on a phone the list is a drawer. */
export async function choose(page, name) {
  const drawer = page.locator("#open-bots-btn");
  if (await drawer.isVisible()) await drawer.click();
  await page.locator(".bot-item", { has: page.locator(".bot-item-title", { hasText: new RegExp(`^${name}$`, "i") }) }).locator(".bot-item-main").click();
  await page.locator("#timeline-title", { hasText: new RegExp(`^${name}$`, "i") }).waitFor({ state: "attached" });
  await page.locator("#timeline-list:is([data-scene=empty], [data-scene=rows])").waitFor();
}

/** Says something the way people do: type, Enter. */
export async function say(page, text) {
  await page.locator("#message-input").fill(text);
  await page.locator("#message-input").press("Escape");
  await page.locator("#message-input").press("Enter");
}

/** The last thing the bot said that is more than a placeholder. */
export const lastAnswer = (page) => page.locator("#timeline-list .bubble.bot:not(.is-thinking)").last();

/** Registers whoever was let in by a link. */
export async function register(page, link, name) {
  await page.goto(link);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("E-mail").fill(`${name.toLowerCase()}@birds.example`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Register" }).click();
  await page.getByRole("heading", { name: `Hello, ${name}` }).waitFor();
}

/** Comes in at the door that is open. */
export async function logIn(page, name) {
  await page.getByLabel("E-mail").fill(`${name.toLowerCase()}@birds.example`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Asks axe, with all its rules, and fails on any finding that is not `excused`. */
export async function examine(page, where, options = {}, excused = () => false) {
  // Asked once of each page: it is half a megabyte.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const { violations } = await page.evaluate((options) => window.axe.run(document, { resultTypes: ["violations"], ...options }), options);
  const counted = violations.filter((violation) => !excused(violation));
  const found = counted.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => `${node.target.join(" ")} ${node.any.concat(node.all, node.none).map((check) => check.message).join("; ")}`).join(" | ")}`);
  assert.deepEqual(found, [], where);
}

/** How much a page is wider than the screen. */
/** What a page took, as the browser saw it: the bytes of what it fetched beside itself, and the milliseconds to its first paint. */
export const took = (page) =>
  page.evaluate(() => ({
    bytes: performance.getEntriesByType("resource").reduce((sum, { decodedBodySize }) => sum + decodedBodySize, 0),
    paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
  }));

/** The most that a page may fetch beside itself. */
export const LIGHT = 100 * 1024;

/** The median and the largest of some numbers, for people to read. */
export function spread(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return `median ${Math.round(sorted[sorted.length >> 1])}, most ${Math.round(sorted.at(-1))}`;
}

export const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

async function freeAddress() {
  return new Promise((found, failed) => {
    const server = createServer();
    server.on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(`127.0.0.1:${port}`));
    });
  });
}
