import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, choose, DESKTOP, openHouse, PHONE, shoot } from "../house.mjs";

const house = openHouse();
const ALL = ["/start", "/help", "/new", "/status", "/reset", "/summary", "/mode", "/providers", "/stop", "/youtube", "/yt", "/echo"];

const names = (page) => page.locator(".command-suggest-item .command-name").allInnerTexts();
const active = (page) => page.locator(".command-suggest-item[aria-selected=true] .command-name").innerText();

for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  test(`a slash offers the twelve commands, and letters narrow them (${name})`, () =>
    house.visit({ size }, async (page) => {
      const field = page.locator("#message-input");
      await field.pressSequentially("/");
      await becomes(() => names(page), ALL);
      await shoot(page, `suggestions-${name}`);
      await field.pressSequentially("st");
      await becomes(() => names(page), ["/start", "/status", "/stop"]);
      await field.pressSequentially("x");
      await page.locator("#command-suggest").waitFor({ state: "hidden" });
      await field.fill("hello /st");
      assert.ok(await page.locator("#command-suggest").isHidden());
    }));
}

test("arrows walk the list round, and Tab and Enter take the command", () =>
  house.visit({}, async (page) => {
    const field = page.locator("#message-input");
    await field.pressSequentially("/st");
    await becomes(() => active(page), "/start");
    await field.press("ArrowDown");
    await becomes(() => active(page), "/status");
    await field.press("ArrowUp");
    await field.press("ArrowUp");
    await becomes(() => active(page), "/stop");
    await field.press("Enter");
    await becomes(() => field.inputValue(), "/stop");
    assert.equal(await page.locator(".bubble").count(), 0, "taking a suggestion must not send it");
    await field.fill("");
    await field.pressSequentially("/mo");
    await field.press("Tab");
    await becomes(() => field.inputValue(), "/mode ");
    await becomes(() => field.evaluate((element) => element === document.activeElement), true);
  }));

test("Escape closes the list and keeps the words; a click takes a command", () =>
  house.visit({}, async (page) => {
    const field = page.locator("#message-input");
    await field.pressSequentially("/he");
    await field.press("Escape");
    await page.locator("#command-suggest").waitFor({ state: "hidden" });
    await becomes(() => field.inputValue(), "/he");
    await field.fill("");
    await field.pressSequentially("/su");
    await page.locator(".command-suggest-item", { hasText: "/summary" }).click();
    await becomes(() => field.inputValue(), "/summary");
  }));

test("a command that is fully typed is sent by Enter", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await page.locator("#message-input").pressSequentially("/start");
    await page.locator("#message-input").press("Enter");
    await page.locator(".bubble.user", { hasText: "/start" }).waitFor();
    await page.locator(".bubble.bot", { hasText: /Parrot/ }).waitFor();
  }));

test("the list is a combobox to assistive technology", () =>
  house.visit({}, async (page) => {
    const field = page.locator("#message-input");
    await field.pressSequentially("/");
    const told = () => field.evaluate((element) => ({
      role: element.getAttribute("role"),
      expanded: element.getAttribute("aria-expanded"),
      controls: document.getElementById(element.getAttribute("aria-controls"))?.getAttribute("role"),
      active: document.getElementById(element.getAttribute("aria-activedescendant"))?.textContent.startsWith("/start"),
    }));
    await becomes(told, { role: "combobox", expanded: "true", controls: "listbox", active: true });
    await field.press("Escape");
    await becomes(() => field.getAttribute("aria-activedescendant"), null);
  }));
