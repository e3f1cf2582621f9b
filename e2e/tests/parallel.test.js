import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { becomes, DESKTOP, openHouse, PHONE, shoot } from "../house.mjs";

const house = openHouse();

// Both wait for the same slow story, so they do it beside each other.
describe("side by side", { concurrency: true }, () => {
  for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    test(`two bots are asked at once and answer side by side (${name})`, () =>
      house.visit({ size, chat: size.width }, async (page) => {
        if (size === PHONE) await page.locator("#open-bots-btn").click();
        for (const bot of ["parrot", "storyteller"]) await page.locator(".bot-item", { hasText: `bot_id=${bot}` }).locator(".bot-item-check").check();
        await page.locator("#parallel-message-input").fill("What do storks eat?");
        await page.locator("#parallel-send-btn").click();
        await page.locator("#parallel-send-btn:disabled").waitFor({ state: "attached" });
        await page.locator("#compare-board").waitFor();
        await becomes(() => page.locator(".compare-column").count(), 2);
        await shoot(page, `parallel-waiting-${name}`);
        await page.locator("#parallel-results .parallel-status-pass").nth(1).waitFor({ state: "attached", timeout: 70_000 });
        await becomes(() => page.locator("#parallel-results .parallel-result-row").count(), 2);
        await page.locator(".compare-column", { hasText: "parrot" }).locator(".bubble-text", { hasText: "What do storks eat?" }).waitFor();
        await becomes(() => page.locator(".compare-column", { hasText: "storyteller" }).locator(".compare-answer").innerText(), (text) => text.length > 80);
        await page.locator("#parallel-send-btn:enabled").waitFor({ state: "attached" });
        await shoot(page, `parallel-${name}`);
        await page.locator(".compare-column", { hasText: "storyteller" }).locator(".open-chat-btn").click();
        await page.locator("#compare-board").waitFor({ state: "hidden" });
        await page.locator("#timeline-list .bubble.user", { hasText: "What do storks eat?" }).waitFor();
      }));
  }
});

test("fewer than two bots, or no words, are told what is missing", () =>
  house.visit({}, async (page) => {
    await page.locator("#parallel-message-input").fill("anyone?");
    await page.locator("#parallel-send-btn").click();
    await page.locator(".toast", { hasText: "Tick at least two bots" }).waitFor();
    for (const box of await page.locator(".bot-item-check").all()) await box.check();
    await page.locator("#parallel-hint", { hasText: "3 bots" }).waitFor();
    await page.locator("#parallel-message-input").fill("  ");
    await page.locator("#parallel-send-btn").click();
    await page.locator(".toast", { hasText: "Write the question" }).waitFor();
    assert.equal(await page.locator(".parallel-result-row").count(), 0);
  }));

test("ticks are remembered, and a bot that fails says so while the others go on", () =>
  house.visit({ chat: 55, excused: [/500/] }, async (page) => {
    for (const bot of ["parrot", "model"]) await page.locator(".bot-item", { hasText: `bot_id=${bot}` }).locator(".bot-item-check").check();
    await page.reload();
    await page.locator("#parallel-hint", { hasText: "2 bots" }).waitFor();
    const { bots } = await house.call("/_mock/bot_catalog");
    const model = bots.find((bot) => bot.bot_id === "model").token;
    await page.route("**/_mock/send", (route) => (route.request().postDataJSON().token === model ? route.fulfill({ status: 500, json: { ok: false, description: "out of order" } }) : route.continue()));
    await page.locator("#parallel-message-input").fill("ping");
    await page.locator("#parallel-send-btn").click();
    await page.locator(".parallel-result-row", { hasText: "model" }).locator(".parallel-status-fail").waitFor();
    await page.locator(".parallel-result-row", { hasText: "out of order" }).waitFor();
    await page.locator(".parallel-result-row", { hasText: "parrot" }).locator(".parallel-status-pass").waitFor();
    await shoot(page, "parallel-failed");
  }));

test("a command named in a column goes to the bot that named it", () =>
  house.visit({ chat: 56 }, async (page) => {
    for (const bot of ["parrot", "model"]) await page.locator(".bot-item", { hasText: `bot_id=${bot}` }).locator(".bot-item-check").check();
    await page.locator("#parallel-message-input").fill("/help");
    await page.locator("#parallel-send-btn").click();
    await page.locator('.compare-column[data-profile="profile-model"] .command-link', { hasText: "/status" }).click();
    await page.locator(".bot-item.is-selected", { hasText: "bot_id=model" }).waitFor();
    await page.locator("#timeline-list .bubble.user", { hasText: "/status" }).waitFor();
    await page.locator("#compare-board").waitFor({ state: "hidden" });
  }));
