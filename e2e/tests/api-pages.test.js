// The two pages that show the API: that they show all of it, ask nobody else, and can be used.

import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, DESKTOP, openHouse, shoot, SMALL_PHONE } from "../house.mjs";

const house = openHouse();
const METHODS = ["get", "post", "put", "patch", "delete"];

async function operations() {
  const { paths } = await (await fetch(`${house.salon}/openapi.json`)).json();
  return Object.values(paths).flatMap((item) => METHODS.filter((method) => item[method]).map((method) => item[method]));
}

const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

for (const size of [DESKTOP, SMALL_PHONE]) {
  for (const theme of ["light", "dark"]) {
    const how = `${size.width}-${theme}`;

    test(`Swagger UI shows every operation (${how})`, () =>
      house.visit({ origin: house.salon, path: "/docs#/Keys/makeKey", size, theme }, async (page) => {
        const all = await operations();
        await becomes(() => page.locator(".opblock").count(), all.length);
        // An open operation is wider than a closed one.
        await page.locator("#operations-Keys-makeKey .responses-table").first().waitFor();
        await shoot(page, `docs-${how}`);
        assert.ok((await wide(page)) <= 0, "the page is wider than the screen");
      }));

    test(`ReDoc shows every operation (${how})`, () =>
      house.visit({ origin: house.salon, path: "/redoc", size, theme }, async (page) => {
        const all = await operations();
        for (const { operationId, summary } of all) await page.locator(`[id$="operation/${operationId}"]`, { hasText: summary }).first().waitFor({ state: "attached" });
        await shoot(page, `redoc-${how}`);
        assert.ok((await wide(page)) <= 0, "the page is wider than the screen");
      }));
  }
}

test("a call can be tried with a key", async () => {
  const key = await house.key("tried");
  await house.visit({ origin: house.salon, path: "/docs#/Usage/findOwnUsage" }, async (page) => {
    await page.locator("button.authorize").first().click();
    await page.locator("#auth-bearer-value").fill(key);
    await page.locator(".auth-container", { has: page.locator("#auth-bearer-value") }).getByRole("button", { name: /authorize|apply/i }).click();
    await page.locator(".modal-ux button.btn-done, .modal-ux .close-modal").first().click();
    const usage = page.locator("#operations-Usage-findOwnUsage");
    await usage.getByRole("button", { name: "Try it out" }).click();
    await usage.getByRole("button", { name: "Execute" }).click();
    await becomes(() => usage.locator(".live-responses-table tbody .response-col_status").first().textContent(), (status) => status?.includes("200"));
    await shoot(page, "docs-tried");
  });
});
