import assert from "node:assert/strict";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { becomes, choose, DESKTOP, lastAnswer, openHouse, PHONE, say, shoot } from "../house.mjs";

const house = openHouse();

test("every bot of the demo is listed with its state", () =>
  house.visit({}, async (page) => {
    for (const name of ["Parrot", "Storyteller", "Model"]) await page.locator(".bot-item-title", { hasText: name }).waitFor();
    const parrot = page.locator(".bot-item", { hasText: "bot_id=parrot" });
    await parrot.locator(".bot-item-status.ok").waitFor();
    await becomes(() => parrot.locator(".bot-item-provider").innerText(), "parrot");
    await shoot(page, "sidebar");
  }));

test("a bot shows its ids once it is chosen, and its token only masked", () =>
  house.visit({}, async (page) => {
    await choose(page, "storyteller");
    const item = page.locator(".bot-item.is-selected");
    const metas = await becomes(() => item.locator(".bot-item-meta").allInnerTexts(), (metas) => isDeepStrictEqual(metas.map((meta) => meta.split("=")[0]), ["bot_id", "token", "chat"]));
    assert.equal(metas[0], "bot_id=storyteller");
    assert.match(metas[2], /^chat=-?\d+ user=-?\d+$/);
    const { bots } = await house.call("/_mock/bot_catalog");
    const token = bots.find((bot) => bot.bot_id === (metas[0].split("=")[1])).token;
    assert.ok(!metas[1].includes(token), "the whole token is shown");
    await becomes(() => page.locator("#token-input").inputValue(), token);
  }));

for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  test(`choosing another bot shows its own conversation (${name})`, () =>
    house.visit({ size }, async (page) => {
      await choose(page, "parrot");
      await say(page, `only for the parrot, ${name}`);
      await lastAnswer(page).filter({ hasText: `only for the parrot, ${name}` }).waitFor();
      await choose(page, "model");
      await becomes(() => page.locator("#timeline-list", { hasText: `only for the parrot, ${name}` }).count(), 0);
      await choose(page, "parrot");
      await lastAnswer(page).filter({ hasText: `only for the parrot, ${name}` }).waitFor();
    }));
}

test("what is being written waits while another bot is looked at", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await page.locator("#message-input").fill("half a thou");
    await choose(page, "storyteller");
    await becomes(() => page.locator("#message-input").inputValue(), "");
    await choose(page, "parrot");
    await becomes(() => page.locator("#message-input").inputValue(), "half a thou");
  }));

test("an answer in another chat is counted beside its bot", () =>
  house.visit({}, async (page) => {
    await choose(page, "model");
    const { bots } = await house.call("/_mock/bot_catalog");
    const parrot = bots.find((bot) => bot.bot_id === "parrot");
    await house.call("/_mock/send", { token: parrot.token, chat_id: 1001, user_id: 9001, text: "psst" });
    await page.locator(".bot-item", { hasText: "bot_id=parrot" }).locator(".bot-item-unread").waitFor();
    await choose(page, "parrot");
    await page.locator(".bot-item-unread").waitFor({ state: "detached" });
  }));

test("the chosen bot is remembered, and the address of the page may choose one", async () => {
  await house.visit({}, async (page) => {
    await choose(page, "storyteller");
    await page.reload();
    await page.locator(".bot-item.is-selected", { hasText: "Storyteller" }).waitFor();
    const kept = () => page.evaluate(() => JSON.parse(localStorage.getItem("mock_messenger_ui_state_v3")));
    await becomes(kept, ({ profiles, selected_profile_id: chosen }) => profiles.find((profile) => profile.profile_id === chosen)?.bot_id === "storyteller");
  });
  const { bots } = await house.call("/_mock/bot_catalog");
  const model = bots.find((bot) => bot.bot_id === "model");
  await house.visit({ path: `/_mock/ui?token=${encodeURIComponent(model.token)}&chat_id=4242&user_id=7` }, async (page) => {
    await page.locator(".bot-item.is-selected", { hasText: "chat=4242 user=7" }).waitFor();
    await becomes(() => page.locator("#chat-id-input").inputValue(), "4242");
    await becomes(() => page.locator("#timeline-title").innerText(), "Model");
  });
});

test("garbage in the browser's storage is dropped, not shown", () =>
  house.visit({ storage: { mock_messenger_ui_state_v3: '{"profiles":[null,{"token":7},{"bot_id":"parrot","token":"x"},{"bot_id":"parrot","token":"y"}]' } }, async (page) => {
    await page.locator(".bot-item-title", { hasText: "parrot" }).waitFor();
    await becomes(() => page.locator(".bot-item", { hasText: "bot_id=parrot" }).count(), 1);
  }));

test("a conversation can be renamed and moved to another chat", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await page.locator(".bot-item.is-selected .bot-item-edit-btn").click();
    await page.locator("#profile-label-input").fill("Polly");
    await page.locator("#profile-chat-id-input").fill("not a number");
    await page.locator("#profile-save-btn").click();
    await page.locator("#profile-error", { hasText: "whole numbers" }).waitFor();
    await shoot(page, "profile-dialog");
    await page.locator("#profile-chat-id-input").fill("-100200");
    await page.locator("#profile-save-btn").click();
    await page.locator(".bot-item.is-selected", { hasText: "chat=-100200" }).waitFor();
    await becomes(() => page.locator("#timeline-title").innerText(), "Polly");
    await page.locator(".bot-item.is-selected .bot-item-edit-btn").click();
    await page.locator("#profile-label-input").fill("nobody");
    await page.locator("#profile-cancel-btn").click();
    assert.equal(await page.locator(".bot-item.is-selected .bot-item-title").innerText(), "Polly");
  }));
