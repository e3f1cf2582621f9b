import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, openHouse } from "../house.mjs";

const house = openHouse();
const paper = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const LIGHT = "rgb(245, 243, 238)";
const DARK = "rgb(21, 24, 27)";

test("the page follows the system, and changes with it", () =>
  house.visit({ theme: "dark" }, async (page) => {
    await becomes(() => paper(page), DARK);
    await page.emulateMedia({ colorScheme: "light" });
    await becomes(() => paper(page), LIGHT);
  }));

test("the button goes from the system's theme to light, dark and back, and is remembered", () =>
  house.visit({ theme: "dark" }, async (page) => {
    const button = page.locator("#theme-btn");
    const both = async () => [await page.evaluate(() => localStorage.getItem("mock_messenger_theme")), await paper(page)];
    await button.click();
    await becomes(both, ["light", LIGHT]);
    await page.reload();
    await page.locator("#timeline-title:not(:empty)").waitFor();
    await becomes(() => paper(page), LIGHT);
    await becomes(() => button.getAttribute("aria-label"), (label) => /light/.test(label));
    await button.click();
    await becomes(both, ["dark", DARK]);
    await button.click();
    await page.emulateMedia({ colorScheme: "light" });
    await becomes(both, ["system", LIGHT]);
  }));

test("a chosen theme is there before the first paint", () =>
  house.visit({ theme: "light", storage: { mock_messenger_theme: "dark" }, settled: false }, async (page) => {
    await page.route("**/app.js", () => {});
    await page.reload({ waitUntil: "commit" });
    await page.locator("body").waitFor({ state: "attached" });
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await becomes(() => paper(page), DARK);
  }));

test("motion stops for those who ask for stillness", () =>
  house.visit({}, async (page) => {
    await page.emulateMedia({ reducedMotion: "reduce" });
    await becomes(() => page.evaluate(() => document.getAnimations().length), 0);
  }));
