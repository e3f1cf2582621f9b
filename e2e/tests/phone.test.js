import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, choose, lastAnswer, openHouse, PHONE, say, shoot, SMALL_PHONE } from "../house.mjs";

const house = openHouse();

for (const size of [PHONE, SMALL_PHONE]) {
  const name = `${size.width}x${size.height}`;
  test(`one column, with the field in reach and the sides in drawers (${name})`, () =>
    house.visit({ size, chat: size.width }, async (page) => {
      for (const side of ["#bot-sidebar", "#side-panel"]) await page.locator(side).waitFor({ state: "hidden" });
      const field = await page.locator("#message-input").boundingBox();
      assert.ok(field.y + field.height <= size.height && field.width > size.width / 2);

      await page.locator("#open-bots-btn").click();
      await page.locator("#bot-sidebar").waitFor();
      await becomes(() => page.locator("#open-bots-btn").getAttribute("aria-expanded"), "true");
      await becomes(() => page.locator(".timeline-panel").evaluate((panel) => panel.inert), true, "what lies beneath cannot be reached");
      await shoot(page, `phone-bots-${name}`);
      await page.keyboard.press("Escape");
      await page.locator("#bot-sidebar").waitFor({ state: "hidden" });
      await becomes(() => page.locator("#open-bots-btn").evaluate((button) => button === document.activeElement), true);

      await page.locator("#open-panel-btn").click();
      await page.locator("#token-input").waitFor();
      await shoot(page, `phone-panel-${name}`);
      await page.mouse.click(4, size.height / 2);
      await page.locator("#side-panel").waitFor({ state: "hidden" });
    }));

  test(`nothing is wider than the screen, however long the words (${name})`, () =>
    house.visit({ size, chat: size.width + 1 }, async (page) => {
      await choose(page, "parrot");
      await say(page, "a".repeat(300));
      await lastAnswer(page).filter({ hasText: "aaaa" }).waitFor();
      await say(page, `https://salon.example.org/${"b".repeat(200)}`);
      await lastAnswer(page).filter({ hasText: "bbbb" }).waitFor();
      const list = page.locator("#timeline-list");
      assert.ok(await list.evaluate((element) => element.scrollWidth <= element.clientWidth), "the conversation scrolls sideways");
      await shoot(page, `phone-long-${name}`);
    }));
}

test("everything one presses on a phone is big enough for a thumb", () =>
  house.visit({ size: PHONE }, async (page) => {
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("button, select, textarea, a[href]")]
        .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".skip-link") && !element.matches(".skip-link"))
        .map((element) => [element.id || element.className, element.getBoundingClientRect()])
        .filter(([, box]) => box.width < 32 || box.height < 32)
        .map(([name, box]) => `${name} ${Math.round(box.width)}x${Math.round(box.height)}`),
    );
    assert.deepEqual(small, []);
  }));
