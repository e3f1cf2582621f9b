import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, choose, DESKTOP, lastAnswer, openHouse, PHONE, say, shoot } from "../house.mjs";

const house = openHouse();
const open = (page, id) => page.locator(`#${id} summary`).click();

test("diagnostics tell how the bot is, in words and as JSON", () =>
  house.visit({ chat: 31 }, async (page) => {
    await choose(page, "parrot");
    await page.locator("#facts dd", { hasText: "online" }).waitFor();
    const json = (id) => async () => JSON.parse(await page.locator(id).textContent());
    const told = await becomes(json("#diagnostics-json"), (told) => told?.health?.bot?.ok === true);
    assert.deepEqual(Object.keys(told.session).sort(), ["current_agent", "run_status", "session_id", "summary_preview", "thread_id"]);
    await becomes(json("#state-json"), (told) => told?.state);
    await becomes(json("#threads-json"), Array.isArray);
    await becomes(json("#agent-json"), (told) => told?.bot_id === "parrot");
    await page.locator("#selected-status .chip-health.ok").waitFor();
  }));

test("quick actions send their command", () =>
  house.visit({ chat: 32 }, async (page) => {
    await choose(page, "parrot");
    await page.locator('.quick-action-btn[data-command="/start"]').click();
    await page.locator(".bubble.user", { hasText: "/start" }).waitFor();
    await page.locator(".bubble.bot", { hasText: /Parrot/ }).waitFor();
  }));

test("changing the chat by hand leads to that chat, and nonsense is refused", () =>
  house.visit({ chat: 33 }, async (page) => {
    await choose(page, "parrot");
    await say(page, "in chat 33");
    await lastAnswer(page).filter({ hasText: "in chat 33" }).waitFor();
    await page.locator("#chat-id-input").fill("34");
    await page.locator("#chat-id-input").press("Tab");
    await page.locator("#timeline-list[data-scene=empty]").waitFor();
    await page.locator("#chat-id-input").fill("thirty-five");
    await page.locator("#chat-id-input").press("Tab");
    await page.locator("#chat-id-input[aria-invalid=true]").waitFor();
    await page.locator(".toast.is-bad", { hasText: "whole numbers" }).waitFor();
  }));

// A bot of the demo would take its webhook back at once, for it polls; this token has no bot behind it.
test("a webhook is set, seen and removed", () =>
  house.visit({ path: "/_mock/ui?token=mock_token_77&chat_id=36" }, async (page) => {
    const token = await becomes(() => page.locator("#token-input").inputValue(), "mock_token_77");
    await open(page, "webhook-fold");
    await page.locator("#webhook-url-input").fill("http://127.0.0.1:9/hook");
    await page.locator("#webhook-secret-input").fill("a-secret");
    await page.locator("#set-webhook-btn").click();
    await page.locator("#delivery-mode", { hasText: "Webhook" }).waitFor();
    const { state } = await house.call(`/_mock/state?token=${token}`);
    assert.equal(state.bots.find((bot) => bot.token === token).webhook_url, "http://127.0.0.1:9/hook");
    await shoot(page, "webhook");
    await page.locator("#delete-webhook-btn").click();
    await page.locator("#delivery-mode", { hasText: "polling" }).waitFor();
  }));

test("a rate limit delays the bot, and the answer comes all the same", () =>
  house.visit({ chat: 37 }, async (page) => {
    await choose(page, "parrot");
    await open(page, "rate-fold");
    await page.locator("#rate-method-input").fill("sendMessage");
    await page.locator("#rate-count-input").fill("2");
    const set = page.waitForRequest("**/_mock/rate_limit");
    await page.locator("#rate-limit-btn").click();
    const { method, count, retry_after } = (await set).postDataJSON();
    assert.deepEqual([method, count, retry_after], ["sendMessage", 2, 1]);
    await page.locator(".toast", { hasText: "sendMessage" }).waitFor();
    await say(page, "patience");
    await lastAnswer(page).filter({ hasText: "patience" }).waitFor();
    await shoot(page, "rate-limit");
  }));

test("a fault is survived, and faults can be taken back", () =>
  house.visit({ chat: 38 }, async (page) => {
    await choose(page, "parrot");
    await open(page, "fault-fold");
    await page.locator("#fault-mode-input").selectOption("apply_then_drop");
    await page.locator("#fault-btn").click();
    await page.locator(".toast", { hasText: "editMessageText" }).waitFor();
    await say(page, "still here?");
    await lastAnswer(page).filter({ hasText: "still here?" }).waitFor();
    assert.equal(await page.locator(".bubble.bot", { hasText: "still here?" }).count(), 1);
    await page.locator("#clear-faults-btn").click();
    await page.locator(".toast", { hasText: "removed" }).waitFor();
  }));

test("a cleared conversation is empty, and the bot still hears", () =>
  house.visit({ chat: 39 }, async (page) => {
    await choose(page, "parrot");
    await say(page, "soon forgotten");
    await lastAnswer(page).filter({ hasText: "soon forgotten" }).waitFor();
    page.once("dialog", (dialog) => dialog.dismiss());
    await page.locator("#clear-timeline-btn").click();
    assert.ok((await page.locator(".bubble.user").count()) > 0);
    page.once("dialog", (dialog) => dialog.accept());
    await page.locator("#clear-timeline-btn").click();
    await page.locator("#timeline-list[data-scene=empty]").waitFor();
    await say(page, "can you hear me?");
    await lastAnswer(page).filter({ hasText: "can you hear me?" }).waitFor();
  }));

test("sections fold away and stay folded", () =>
  house.visit({}, async (page) => {
    await page.locator("#toggle-session-section-btn").click();
    await page.locator("#toggle-agent-section-btn").click();
    await page.locator("#session-section-body").waitFor({ state: "hidden" });
    await page.reload();
    await page.locator("#agent-section-body").waitFor({ state: "hidden" });
    await page.locator("#toggle-agent-section-btn").click();
    await page.locator("#agent-section-body").waitFor();
    await becomes(() => page.locator("#toggle-session-section-btn").getAttribute("aria-expanded"), "false");
  }));

for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  test(`when the messenger goes away the page says so, and comes back with it (${name})`, () =>
    house.visit({ size, chat: 41, excused: [/ERR_/, /Failed to load resource/] }, async (page) => {
      await choose(page, "parrot");
      await page.context().setOffline(true);
      await page.locator("#offline-banner").waitFor();
      await shoot(page, `offline-${name}`);
      await page.locator("#message-input").fill("kept for later");
      await page.locator("#message-input").press("Enter");
      await page.locator(".toast.is-bad", { hasText: "no connection" }).waitFor();
      await becomes(() => page.locator("#message-input").inputValue(), "kept for later");
      await page.context().setOffline(false);
      await page.locator("#offline-banner").waitFor({ state: "hidden" });
    }));
}

test("a conversation that cannot be loaded offers another try", () =>
  house.visit({ chat: 42, settled: false, excused: [/500/] }, async (page) => {
    await page.route("**/_mock/messages?*", (route) => route.fulfill({ status: 500, json: { ok: false, description: "broken" } }));
    await page.reload();
    await page.locator("#timeline-list[data-scene=failed]").waitFor();
    await shoot(page, "load-failed");
    await page.unroute("**/_mock/messages?*");
    await page.locator(".scene button").click();
    await page.locator("#timeline-list[data-scene=empty]").waitFor();
  }));

test("without any bot the page says how to get one", () =>
  house.visit({ settled: false }, async (page) => {
    await page.route("**/_mock/bot_catalog", (route) => route.fulfill({ json: { ok: true, result: { bots: [] } } }));
    await page.evaluate(() => localStorage.clear());
    await page.reload();
    await page.locator(".bot-empty", { hasText: "No bots yet" }).waitFor();
    await shoot(page, "no-bots");
  }));
