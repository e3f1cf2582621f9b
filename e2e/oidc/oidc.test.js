// People sign on at a provider that somebody else wrote, with a browser that keeps cookies and follows addresses by hand.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Program, salon } from "../sdks/stage.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const SECRET = "kQ7xWm4ZrT1bLs8pDf6hYc3nGe5a9vJ2";
const PASSWORD = "seven grey storks";
const folder = mkdtempSync(join(tmpdir(), "salon-oidc-"));
let base, issuer, provider, house, invitation;

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** A browser: cookies by origin, and no script. */
class Browser {
  #cookies = new Map();

  async ask(url, options = {}) {
    const { origin } = new URL(url);
    const jar = this.#cookies.get(origin) ?? new Map();
    this.#cookies.set(origin, jar);
    const headers = { "user-agent": "Firefox/1 Linux", accept: "text/html", "sec-fetch-site": "same-origin", ...options.headers };
    if (jar.size > 0) headers.cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { ...options, headers, redirect: "manual" });
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(";")[0].split("=");
      if (value === "" || /max-age=0|expires=thu, 01 jan 1970/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
    return response;
  }

  send(url, fields) {
    return this.ask(url, { method: "POST", body: new URLSearchParams(fields), headers: { "content-type": "application/x-www-form-urlencoded" } });
  }

  cookie(origin, name) {
    return this.#cookies.get(origin)?.get(name);
  }

  /** Forgets who it is somewhere. */
  forget(origin) {
    this.#cookies.delete(origin);
  }

  /** Follows addresses until `stop` says that the next one is not to be gone to. */
  async follow(response, from, stop) {
    for (let steps = 0; steps < 20; steps++) {
      // A form of Salon's leads nowhere else; the page that answers it does.
      const location = response.headers.get("location") ?? response.headers.get("refresh")?.replace(/^0;url=/, "");
      if (!location) return { response, url: from };
      from = new URL(location, from).href;
      if (stop(from)) return { url: from };
      response = await this.ask(from);
    }
    throw new Error("this goes round in circles");
  }

  /** Goes from Salon to the provider, says who one is and agrees; answers where the provider sends one then. */
  async signOn(response, who) {
    const comesBack = (url) => url.startsWith(`${base}/login/oidc/`) && url.includes("/callback?");
    let at = await this.follow(response, base, comesBack);
    for (let steps = 0; at.response && steps < 5; steps++) {
      const page = await at.response.text();
      assert.equal(at.response.status, 200, page);
      const [, action] = page.match(/<form[^>]*action="([^"]+)"/) ?? assert.fail(page);
      const [, prompt] = page.match(/name="prompt" value="(\w+)"/) ?? assert.fail(page);
      const url = new URL(action, at.url).href;
      at = await this.follow(await this.send(url, { prompt, login: who, password: "any" }), url, comesBack);
    }
    return at.url;
  }

  async enter(name, who) {
    const back = await this.signOn(await this.ask(`${base}/login/oidc/${name}`), who);
    return { back, response: await this.ask(back) };
  }
}

const said = async (words) => {
  const program = new Program(salon, words.split(" "), { cwd: folder, env: { BIRDS_SECRET: SECRET } });
  assert.equal(await program.gone, 0, program.output);
  return program.printed.trim();
};
const people = async () => (await said("user list")).split("\n").filter((line) => line.trim());

before(async () => {
  const [port, own] = [await freePort(), await freePort()];
  (issuer = `http://127.0.0.1:${port}`), (base = `http://127.0.0.1:${own}`);
  provider = new Program(process.execPath, [join(here, "provider.mjs"), String(port), base, SECRET]);
  await provider.says(/the provider is at/);
  const common = `issuer = "${issuer}"\nlan_allow = ["127.0.0.1:${port}"]\n`;
  writeFileSync(
    join(folder, "salon.toml"),
    [
      `listen = "127.0.0.1:${own}"\n[log]\nformat = "json"\n[house]\nsecure_cookies = false\npublic_url = "${base}"\n`,
      `[oidc.birds]\n${common}client_id = "salon"\nclient_secret_env = "BIRDS_SECRET"\nlabel = "the birds"\nroles = "groups"\ncreate = true\n`,
      `[oidc.nest]\n${common}client_id = "salon-public"\nlabel = "the nest"\n`,
    ].join("\n"),
  );
  house = new Program(salon, ["serve"], { cwd: folder, env: { BIRDS_SECRET: SECRET } });
  await house.says(/"address":"127\.0\.0\.1:\d+"/);
  [, invitation] = await house.says(/\/join\/([A-Za-z0-9_-]{43})/);
});

after(async () => {
  await house?.end();
  await provider?.end();
  rmSync(folder, { recursive: true, force: true });
});

test("the login page offers the providers", async () => {
  const page = await (await new Browser().ask(`${base}/login`)).text();
  assert.match(page, /href="\/login\/oidc\/birds\?next=/);
  assert.match(page, /Sign on with the birds/);
  assert.equal((await new Browser().ask(`${base}/login/oidc/nobody`)).status, 404);
});

test("whoever comes for the first time is made, with the role that the provider says, and is known the next time", async () => {
  const before = (await people()).length;
  const alice = new Browser();
  const { response } = await alice.enter("birds", "alice+manager");
  assert.equal(response.status, 303, await response.text());
  assert.equal(response.headers.get("location"), "/start");
  const page = await alice.ask(`${base}/start`);
  assert.equal(page.status, 200);
  assert.match(await page.text(), /alice/);
  assert.equal(alice.cookie(base, "oidc"), undefined, "what was kept on the way is gone");
  const again = new Browser();
  assert.equal((await again.enter("birds", "alice+manager")).response.status, 303);
  const listed = await people();
  assert.equal(listed.length, before + 1);
  assert.match(listed.join("\n"), /alice {2}manager/);
});

test("an answer is good once, and in the browser that asked for it", async () => {
  const bob = new Browser();
  const { back, response } = await bob.enter("birds", "bob");
  assert.equal(response.status, 303);
  assert.equal((await bob.ask(back)).status, 400, "the cookie is gone");
  // Somebody else's browser is sent to a link that a thief has made with an own code.
  const [thief, victim] = [new Browser(), new Browser()];
  const link = await thief.signOn(await thief.ask(`${base}/login/oidc/birds`), "mallory");
  assert.equal((await victim.ask(link)).status, 400);
  await victim.ask(`${base}/login/oidc/birds`);
  assert.equal((await victim.ask(link)).status, 400, "its own cookie is of another state");
  assert.equal(victim.cookie(base, "sid"), undefined);
  // The code is still good, but not with another state.
  const forged = new URL(link);
  forged.searchParams.set("state", "A".repeat(43));
  assert.equal((await thief.ask(forged.href)).status, 400);
  const foreign = new Browser();
  const other = new URL(await foreign.signOn(await foreign.ask(`${base}/login/oidc/birds`), "eve"));
  other.searchParams.set("iss", "https://evil.example");
  assert.equal((await foreign.ask(other.href)).status, 400);
  assert.equal((await people()).some((line) => /mallory|eve/.test(line)), false);
});

test("somebody who says no at the provider does not come in", async () => {
  const dora = new Browser();
  const left = await dora.ask(`${base}/login/oidc/birds`);
  const state = new URL(left.headers.get("location")).searchParams.get("state");
  const response = await dora.ask(`${base}/login/oidc/birds/callback?error=access_denied&state=${state}`);
  assert.equal(response.status, 403);
  assert.match(await response.text(), /The provider said no/);
});

test("an account takes an identity from within, and never by its address", async () => {
  const carol = new Browser();
  const registered = await carol.send(`${base}/register`, { name: "carol", email: "carol@birds.example", password: PASSWORD, pass: invitation });
  assert.equal(registered.status, 303, await registered.text());
  // The provider knows the same address, and this provider makes nobody.
  const stranger = await new Browser().enter("nest", "carol");
  assert.equal(stranger.response.status, 403);
  assert.match(await stranger.response.text(), /Nobody here is known by this identity/);
  const count = (await people()).length;
  const page = await (await carol.ask(`${base}/account/ways`)).text();
  const [, seal] = page.match(/name="seal" value="([^"]+)"/);
  assert.equal((await carol.send(`${base}/account/identities/link/nest`, { seal: "no" })).status, 403);
  const back = await carol.signOn(await carol.send(`${base}/account/identities/link/nest`, { seal }), "carol");
  // Whoever takes her answer into a browser of their own links nothing.
  assert.equal((await new Browser().ask(back)).status, 400);
  const linked = await carol.ask(back);
  assert.equal(linked.headers.get("location"), "/account/ways?done=saved", await linked.text());
  const home = new Browser();
  assert.equal((await home.enter("nest", "carol")).response.status, 303, "by ES256, without a secret");
  assert.match(await (await home.ask(`${base}/start`)).text(), /carol/);
  // It is the same identity at the other client of this issuer, and cannot be somebody else's, too.
  const alice = new Browser();
  await alice.enter("birds", "alice+manager");
  const [, hers] = (await (await alice.ask(`${base}/account/ways`)).text()).match(/name="seal" value="([^"]+)"/);
  const taken = await alice.send(`${base}/account/identities/link/nest`, { seal: hers });
  const theirs = await alice.signOn(taken, "carol");
  // Her browser is still somebody at the provider; it comes back as whoever it is there, and alice is alice already.
  const answered = await alice.ask(theirs);
  assert.match(answered.headers.get("location") ?? "", /done=saved/);
  const ways = await (await alice.ask(`${base}/account/ways`)).text();
  assert.match(ways, /alice\+manager/);
  assert.doesNotMatch(ways, /<small>carol<\/small>/);
  // At a fresh provider session she is carol there, and that is somebody already.
  const sly = new Browser();
  await sly.enter("birds", "sly");
  const [, seal2] = (await (await sly.ask(`${base}/account/ways`)).text()).match(/name="seal" value="([^"]+)"/);
  sly.forget(issuer);
  const stolen = await sly.signOn(await sly.send(`${base}/account/identities/link/nest`, { seal: seal2 }), "carol");
  assert.equal((await sly.ask(stolen)).status, 409);
  assert.equal((await people()).length, count + 1, "sly came by themselves");
  const audit = await said("audit list --limit 200");
  for (const action of ["identity.added", "user.added", "login.begin"]) assert.match(audit, new RegExp(action));
  assert.match(await said("audit verify"), /lines, whole/);
  assert.equal(house.output.includes(SECRET), false);
});

/** What an authenticator app shows (RFC 6238). */
function shown(secret, at = Date.now()) {
  const bits = [...secret.replaceAll(" ", "")].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const mac = createHmac("sha1", key).update(step).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

test("a second factor is switched on, asked for, and switched off by the pages", async () => {
  const carol = new Browser();
  const login = { email: "carol@birds.example", password: PASSWORD };
  assert.equal((await carol.send(`${base}/login`, login)).status, 303);
  const page = async () => (await carol.ask(`${base}/account/ways`)).text();
  const seal = async () => (await page()).match(/name="seal" value="([^"]+)"/)[1];
  const begin = async (password) => carol.send(`${base}/account/factor`, { seal: await seal(), password });
  assert.equal((await begin("seven grey geese")).status, 422);
  assert.equal((await begin(PASSWORD)).status, 303);
  const [, secret] = (await page()).match(/<p class="code">([A-Z2-7 ]+)<\/p>/);
  assert.match(await page(), /<svg class="qr"/);
  const confirm = async (code) => carol.send(`${base}/account/factor/confirm`, { seal: await seal(), code });
  assert.equal((await confirm("000000")).status, 422);
  const on = await confirm(shown(secret));
  assert.equal(on.status, 200);
  const codes = [...(await on.text()).matchAll(/<code>([A-Z2-9]{4}-[A-Z2-9]{4}-[A-Z2-9]{4})<\/code>/g)].map(([, code]) => code);
  assert.equal(codes.length, 10);
  assert.doesNotMatch(await page(), new RegExp(codes[0]), "they are shown once");
  // Another browser is asked for a code.
  const phone = new Browser();
  const asked = await phone.send(`${base}/login`, login);
  assert.equal(asked.status, 401);
  assert.match(await asked.text(), /name="code"/);
  assert.equal((await phone.send(`${base}/login`, { ...login, code: "000000" })).status, 401);
  assert.equal((await phone.send(`${base}/login`, { ...login, code: codes[0] })).status, 303);
  const end = await carol.send(`${base}/account/factor/end`, { seal: await seal(), password: PASSWORD, code: codes[1] });
  assert.equal(end.status, 303);
  assert.equal((await new Browser().send(`${base}/login`, login)).status, 303);
});
