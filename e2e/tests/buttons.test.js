import assert from "node:assert/strict";
import { test } from "node:test";
import { choose, DESKTOP, lastAnswer, openHouse, PHONE, say, shoot } from "../house.mjs";

const house = openHouse();

for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  test(`a button under an answer is pressed once and the bot reacts (${name})`, () =>
    house.visit({ size, chat: size.width }, async (page) => {
      await choose(page, "parrot");
      await say(page, "buttons, please");
      await lastAnswer(page).filter({ hasText: "buttons, please" }).waitFor();
      const keys = page.locator(".bubble.bot .keyboard-btn[data-callback]");
      // Until the answer has ended there is one button, and it may go in the moment it is pressed.
      await keys.nth(2).waitFor();
      const key = keys.first();
      await shoot(page, `buttons-${name}`);
      let pressed = 0;
      page.on("request", (request) => (pressed += request.url().endsWith("/_mock/press") ? 1 : 0));
      const answered = page.waitForResponse("**/_mock/press");
      await key.click();
      const { ok, result } = await (await answered).json();
      assert.ok(ok);
      if (result.answer?.text && !result.answer.show_alert) await page.locator(".toast", { hasText: result.answer.text }).waitFor();
      await page.locator(".keyboard-btn.is-busy").waitFor({ state: "detached" });
      assert.equal(pressed, 1);
    }));
}

test("while the bot thinks about a press, the button is busy and takes no second one", () =>
  house.visit({ chat: 91 }, async (page) => {
    await choose(page, "parrot");
    await say(page, "slowly");
    const keys = page.locator(".bubble.bot .keyboard-btn[data-callback]");
    await keys.nth(2).waitFor();
    const key = keys.first();
    let release;
    const held = new Promise((done) => (release = done));
    let pressed = 0;
    await page.route("**/_mock/press", async (route) => {
      pressed += 1;
      await held;
      await route.fulfill({ json: { ok: true, result: { answer: { text: "Look here.", show_alert: true } } } });
    });
    await key.click();
    await page.locator(".keyboard-btn.is-busy[aria-busy=true]").waitFor();
    await key.click({ force: true });
    await shoot(page, "button-busy");
    release();
    await page.locator("#alert-dialog[open]", { hasText: "Look here." }).waitFor();
    assert.equal(pressed, 1);
    await page.locator("#alert-dialog button").click();
    await page.locator(".keyboard-btn.is-busy").waitFor({ state: "detached" });
  }));
