import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, DESKTOP, lastAnswer, openHouse, PHONE, say, shoot } from "../house.mjs";

const house = openHouse();

for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  test(`a bot is added, starts at once, answers, and is deleted again (${name})`, () =>
    house.visit({ size }, async (page) => {
      const openList = async () => size === PHONE && (await page.locator("#open-bots-btn").click());
      await openList();
      const items = page.locator("#bot-list .bot-item");
      const ids = () => items.evaluateAll((all) => all.map((item) => item.dataset.botId));
      // The three of the demo.
      const known = await becomes(ids, (all) => all.length === 3);
      const before = known.length;
      await page.locator("#add-profile-btn").click();
      await items.nth(before).waitFor();
      const [botId] = (await ids()).filter((id) => !known.includes(id));
      const added = page.locator(`.bot-item.is-selected[data-bot-id="${botId}"]`);
      await added.locator(".bot-item-meta", { hasText: `bot_id=${botId}` }).waitFor();
      const { bots } = await house.call("/_mock/bot_catalog");
      assert.equal(bots.find((bot) => bot.bot_id === botId)?.default_adapter, "parrot", "a new bot is like the chosen one");
      await page.locator(`.bot-item[data-bot-id="${botId}"] .bot-item-status.ok`).waitFor();
      await shoot(page, `added-${name}`);

      if (size === PHONE) await page.locator("#bot-sidebar [data-close-drawer]").click();
      await say(page, "are you there already?");
      await lastAnswer(page).filter({ hasText: "are you there already?" }).waitFor();

      await openList();
      page.once("dialog", (dialog) => dialog.dismiss());
      await added.locator(".bot-item-delete-btn").click();
      assert.equal(await items.count(), before + 1, "a refused confirmation keeps the bot");
      page.once("dialog", (dialog) => {
        assert.equal(dialog.type(), "confirm");
        dialog.accept();
      });
      await added.locator(".bot-item-delete-btn").click();
      await page.locator(`.bot-item[data-bot-id="${botId}"]`).waitFor({ state: "detached" });
      await becomes(ids, known);
      await becomes(() => page.locator(".bot-item.is-selected").count(), 1, "another bot is chosen in its place");
      const after = await house.call("/_mock/bot_catalog");
      assert.ok(!after.bots.some((bot) => bot.bot_id === botId));
      await page.reload();
      await items.nth(before - 1).waitFor({ state: "attached" });
      await becomes(ids, known);
    }));
}

// Its health may be asked for in the very moment it goes.
test("a bot that others delete disappears here too", () =>
  house.visit({ excused: [/404/] }, async (page) => {
    const { bot } = await house.call("/_mock/bot_catalog/add", { adapter: "echo" });
    await page.locator("#refresh-state-btn").click();
    await page.locator(`.bot-item[data-bot-id="${bot.bot_id}"]`).waitFor();
    await house.call("/_mock/bot_catalog/delete", { bot_id: bot.bot_id });
    await page.locator("#refresh-state-btn").click();
    await page.locator(`.bot-item[data-bot-id="${bot.bot_id}"]`).waitFor({ state: "detached" });
  }));

test("a profile whose bot is unknown says so and can be forgotten", () =>
  house.visit({ storage: { mock_messenger_ui_state_v3: JSON.stringify({ profiles: [{ profile_id: "old", label: "Old friend", bot_id: "gone-1", token: "gone-token", chat_id: 1, user_id: 2 }] }) } }, async (page) => {
    const old = page.locator('.bot-item[data-bot-id="gone-1"]');
    await old.locator(".bot-item-status.fail").waitFor();
    page.once("dialog", (dialog) => dialog.accept());
    await old.locator(".bot-item-delete-btn").click();
    await old.waitFor({ state: "detached" });
  }));
