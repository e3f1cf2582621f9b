// The desk in a real browser: every page of it can be used, and keeps its secrets. What is done there and felt elsewhere is in
// the whole way.

import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, DESKTOP, examine, LIGHT, logIn, openHouse, register, shoot, SMALL_PHONE, spread, took, wide } from "../house.mjs";

const house = openHouse();
let desk = null;

const visit = (options, steps) => house.visit({ origin: house.salon, ...options }, steps);

// What the pages below have to show.
test("an administrator has somebody to look after, a limit, and what it forbade", () =>
  visit({ path: "/login" }, async (page) => {
    await register(page, house.first(), "Alice");
    await page.goto(`${house.salon}/admin/login`);
    await logIn(page, "Alice");
    await page.waitForURL(/\/admin$/);
    desk = await page.context().cookies();
    await page.goto(`${house.salon}/admin/limits`);
    await page.getByLabel("For whom").selectOption("Each person");
    await page.getByLabel("What is counted").selectOption("questions");
    await page.getByLabel("In which time").selectOption("a day");
    await page.getByLabel("How much (money in dollars)").fill("1");
    await page.getByRole("button", { name: "Add a limit" }).click();
    await page.getByRole("status").waitFor();
    await page.goto(`${house.salon}/admin/users`);
    await page.getByRole("button", { name: "Make an invitation" }).click();
    const invitation = await page.getByRole("status").getByText("/join/").innerText();
    await visit({ path: "/login" }, async (other) => {
      await register(other, invitation, "Bob");
      await other.goto(`${house.salon}/dialogs/new`);
      await other.getByLabel("Who answers").selectOption("parrot");
      for (const [at, words] of ["within the limit", "beyond the limit"].entries()) {
        await other.locator("#text").fill(words);
        await other.locator("#text").press("Enter");
        await becomes(() => other.locator(".turn footer").count(), at + 1);
      }
    });
    page.on("dialog", (dialog) => dialog.accept());
    await page.goto(`${house.salon}/admin/users`);
    await page.getByRole("link", { name: "Bob" }).click();
    await page.getByRole("button", { name: "Block" }).click();
    await page.getByRole("status").waitFor();
  }));

for (const theme of ["light", "dark"]) {
  for (const size of [DESKTOP, SMALL_PHONE]) {
    const how = `${size.width}-${theme}`;
    test(`every page of the desk is accessible, light and fits (${how})`, (t) =>
      visit({ path: "/admin", theme, size, cookies: desk, excused: [/404/] }, async (page) => {
        await page.goto(`${house.salon}/admin/users`);
        const person = await page.getByRole("link", { name: "Bob" }).getAttribute("href");
        const pages = ["", "/users", "/bots", "/bots/parrot", "/logs", "/logs/dialogs", "/stats", "/limits", "/held", "/models", "/keys", "/plans", "/commands", "/orgs", "/audit", "/settings", "/prove", "/users/nobody"];
        const paints = [];
        for (const path of [...pages.map((path) => `/admin${path}`), person]) {
          await page.goto(house.salon + path);
          await page.locator("main").waitFor();
          await shoot(page, `desk${path.replaceAll("/", "-").replace(/[0-9A-Z]{26}/, "person")}-${how}`);
          await examine(page, `${path}, ${how}`);
          assert.ok((await wide(page)) <= 0, `${path} is wider than the screen`);
          const { bytes, paint } = await took(page);
          assert.ok(bytes > 0 && bytes <= LIGHT, `${path} fetches ${bytes} bytes`);
          paints.push(paint);
        }
        t.diagnostic(`milliseconds to the first paint: ${spread(paints)}`);
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
