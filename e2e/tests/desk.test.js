// The desk in a real browser: what an administrator does there is felt by everybody else, and every page of it can be used.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { becomes, DESKTOP, openHouse, shoot, SMALL_PHONE } from "../house.mjs";

const house = openHouse();
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PASSWORD = "storks fly south";
let alice = null;
let desk = null;
let bob = null;

const visit = (options, steps) => house.visit({ origin: house.salon, ...options }, steps);

async function examine(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => `${node.target.join(" ")} ${node.any.concat(node.all, node.none).map((check) => check.message).join("; ")}`).join(" | ")}`);
  assert.deepEqual(found, [], where);
}

const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

test("the administrator comes in twice, and invites somebody", () =>
  visit({ path: "/login" }, async (page) => {
    await page.goto(house.first());
    await page.getByLabel("Name").fill("Alice");
    await page.getByLabel("E-mail").fill("alice@birds.example");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Register" }).click();
    await page.getByRole("heading", { name: "Hello, Alice" }).waitFor();
    alice = await page.context().cookies();
    await page.getByRole("link", { name: "Administration" }).click();
    await page.waitForURL(/\/admin\/login/);
    await page.getByLabel("E-mail").fill("alice@birds.example");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.waitForURL(/\/admin$/);
    desk = await page.context().cookies();

    await page.goto(`${house.salon}/admin/users`);
    await page.getByRole("button", { name: "Make an invitation" }).click();
    const invitation = await page.locator(".code").first().innerText();
    assert.match(invitation, /\/join\/[\w-]{43}$/);
    await visit({ path: new URL(invitation).pathname }, async (other) => {
      await other.getByLabel("Name").fill("Bob");
      await other.getByLabel("E-mail").fill("bob@birds.example");
      await other.getByLabel("Password").fill("cranes fly north");
      await other.getByRole("button", { name: "Register" }).click();
      await other.getByRole("heading", { name: "Hello, Bob" }).waitFor();
      assert.equal(await other.getByRole("link", { name: "Administration" }).count(), 0);
      bob = await other.context().cookies();
    });
  }));

test("a limit is felt, and a block ends what is open", () =>
  visit({ path: "/dialogs/new", cookies: bob, excused: [/40[13]|Failed to load|EventSource/] }, async (page) => {
    await page.getByLabel("Who answers").selectOption("parrot");
    await page.locator("#text").fill("before the limit");
    await page.locator("#text").press("Enter");
    await page.locator(".turn footer").waitFor();
    const id = await visit({ path: "/admin/users", cookies: desk }, async (admin) => {
      await admin.getByRole("link", { name: "Bob" }).click();
      const person = new URL(admin.url()).pathname.split("/").pop();
      await admin.goto(`${house.salon}/admin/limits`);
      await admin.locator("[name=scope]").selectOption("user");
      await admin.locator("[name=measure]").selectOption("requests");
      await admin.locator("[name=period]").selectOption("day");
      await admin.locator("[name=amount]").fill("2");
      await admin.locator("form", { has: admin.locator("[name=amount]") }).first().getByRole("button").click();
      await admin.locator("[role=status]").waitFor();
      return person;
    });
    await page.locator("#text").fill("within the limit");
    await page.locator("#text").press("Enter");
    await becomes(() => page.locator(".turn footer").count(), 2);
    await page.locator("#text").fill("beyond the limit");
    await page.locator("#text").press("Enter");
    await becomes(() => page.locator(".turn footer").count(), 3);
    await page.locator(".turn .wrong").last().waitFor();
    await page.goto(`${house.salon}/usage`);
    await page.getByRole("heading", { name: "What is left" }).waitFor();
    await page.getByText("2 / 2").waitFor();
    await shoot(page, "house-limit");

    await visit({ path: "/admin/limits", cookies: desk }, async (admin) => {
      admin.on("dialog", (dialog) => dialog.accept());
      await admin.locator("form[action$='/remove'] button").first().click();
      await admin.locator("[role=status]").waitFor();
      await page.goto(`${house.salon}/dialogs/new`);
      await page.getByLabel("Who answers").selectOption("storyteller");
      await page.locator("#text").fill("a long story of a crane");
      await page.locator("#text").press("Enter");
      await page.locator(".turn[data-stream] .block").first().waitFor();
      await admin.goto(`${house.salon}/admin/users/${id ?? ""}`);
      await admin.getByRole("button", { name: "Block" }).click();
      await admin.locator("[role=status]").waitFor();
      const blocked = Date.now();
      await page.locator(".lost").waitFor();
      assert.ok(Date.now() - blocked < 4000, "the open stream ends soon after the block");
      await page.goto(`${house.salon}/start`);
      await page.waitForURL(/\/login/);
      await admin.goto(`${house.salon}/admin/logs?q=crane`);
      await admin.getByText("a long story of a crane").first().waitFor();
    });
  }));

for (const theme of ["light", "dark"]) {
  for (const size of [DESKTOP, SMALL_PHONE]) {
    const how = `${size.width}-${theme}`;
    test(`every page of the desk is accessible and fits (${how})`, () =>
      visit({ path: "/admin", theme, size, cookies: desk, excused: [/404/] }, async (page) => {
        await page.goto(`${house.salon}/admin/users`);
        const person = await page.getByRole("link", { name: "Bob" }).getAttribute("href");
        const pages = ["", "/users", "/bots", "/bots/parrot", "/logs", "/logs/dialogs", "/stats", "/limits", "/held", "/models", "/keys", "/plans", "/commands", "/orgs", "/audit", "/settings", "/prove", "/users/nobody"];
        for (const path of [...pages.map((path) => `/admin${path}`), person]) {
          await page.goto(house.salon + path);
          await page.locator("main").waitFor();
          await shoot(page, `desk${path.replaceAll("/", "-").replace(/[0-9A-Z]{26}/, "person")}-${how}`);
          await examine(page, `${path}, ${how}`);
          assert.ok((await wide(page)) <= 0, `${path} is wider than the screen`);
        }
      }));
  }
}

test("the twins of the settings speak JSON and keep secrets", async () => {
  const cookie = desk.map(({ name, value }) => `${name}=${value}`).join("; ");
  const stranger = await fetch(`${house.salon}/admin/api/settings`);
  assert.equal(stranger.status, 401);
  const settings = await fetch(`${house.salon}/admin/api/settings`, { headers: { cookie } });
  assert.equal(settings.status, 200);
  assert.ok(!(await settings.text()).includes("mock_token"));
  const foreign = await fetch(`${house.salon}/admin/api/bot/stop`, { method: "POST", headers: { cookie, "sec-fetch-site": "cross-site" } });
  assert.equal(foreign.status, 403);
});
