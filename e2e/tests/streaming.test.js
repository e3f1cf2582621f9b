import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { becomes, choose, DESKTOP, lastAnswer, openHouse, PHONE, say, shoot } from "../house.mjs";

const house = openHouse();
/** While it is written, a story can only be stopped; told to its end, it offers several ways on. */
const whole = (page) => page.locator(".bubble.bot").last().locator(".keyboard-btn").nth(1);

// A story takes as long as it takes; several are told beside each other, each in a chat of its own.
describe("stories", { concurrency: true }, () => {
  for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    test(`a story grows inside one bubble (${name})`, () =>
      house.visit({ size, chat: size.width }, async (page) => {
        await choose(page, "storyteller");
        await page.evaluate(() => {
          const seen = (window.seen = { elements: new Set(), lengths: [] });
          new MutationObserver(() => {
            for (const text of document.querySelectorAll("#timeline-list .bubble.bot .bubble-text")) {
              seen.elements.add(text.parentElement);
              if (seen.lengths.at(-1) !== text.textContent.length) seen.lengths.push(text.textContent.length);
            }
          }).observe(document.getElementById("timeline-list"), { childList: true, subtree: true, characterData: true });
        });
        // Its first words wait a moment, so that even a slow page shows that they are waited for.
        const { bots } = await house.call("/_mock/bot_catalog");
        const { token } = bots.find((bot) => bot.bot_id === "storyteller");
        await house.call("/_mock/fault", { token, chat_id: size.width, method: "editMessageText", mode: "429:2", count: 1 });
        await say(page, "Tell me a story");
        await page.locator(".bubble.is-thinking .dots").waitFor();
        await lastAnswer(page).waitFor();
        if (size === DESKTOP) await page.locator(".chip-run.is-running").waitFor();
        await shoot(page, `streaming-${name}`);
        await whole(page).waitFor({ timeout: 60_000 });
        const { bubbles, steps, onPage } = await page.evaluate(() => ({ bubbles: window.seen.elements.size, steps: window.seen.lengths.length, onPage: document.querySelectorAll("#timeline-list .bubble.bot").length }));
        assert.equal(bubbles, onPage, "a bubble was replaced instead of changed");
        assert.ok(steps > 3, `the story came in ${steps} pieces`);
        const gap = () => page.locator("#timeline-list").evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight);
        await becomes(gap, (gap) => gap < 4, "pixels of the newest line that are out of sight");
        await shoot(page, `story-${name}`);
      }));
  }

  test("whoever reads further up is left there, and told of news", () =>
    house.visit({ chat: 77 }, async (page) => {
      await choose(page, "storyteller");
      await say(page, "Tell me a story");
      await whole(page).waitFor({ timeout: 60_000 });
      await say(page, "Tell me another story");
      await page.locator(".bubble.bot:not(.is-thinking)").nth(1).waitFor();
      const list = page.locator("#timeline-list");
      // Again if the page followed a new line in the same moment.
      await becomes(async () => {
        await list.evaluate((element) => element.scrollTo(0, 30));
        await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
        return page.locator("#jump-btn").isVisible();
      }, true);
      const grown = page.waitForFunction((before) => document.getElementById("timeline-list").scrollHeight > before + 60, await list.evaluate((element) => element.scrollHeight), { timeout: 60_000 });
      await grown;
      assert.equal(await list.evaluate((element) => element.scrollTop), 30);
      await shoot(page, "reading-above");
      await page.locator("#jump-btn").click();
      await page.locator("#jump-btn").waitFor({ state: "hidden" });
    }));

  test("a selection survives while the answer grows", () =>
    house.visit({ chat: 78 }, async (page) => {
      await choose(page, "storyteller");
      await say(page, "Tell me a story");
      await lastAnswer(page).waitFor();
      const selected = await page.evaluate(() => {
        const text = [...document.querySelectorAll("#timeline-list .bubble.bot .bubble-text")].at(-1);
        const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
        const node = walker.nextNode();
        const range = document.createRange();
        range.setStart(node, 0);
        range.setEnd(node, Math.min(8, node.length));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        return String(getSelection());
      });
      assert.ok(selected.length > 0);
      await whole(page).waitFor({ timeout: 60_000 });
      assert.equal(await page.evaluate(() => String(getSelection())), selected);
    }));

  test("code in an answer is set apart and can be copied", () =>
    house.visit({ chat: 79 }, async (page) => {
      await choose(page, "storyteller");
      await say(page, "Tell me a story");
      await whole(page).waitFor({ timeout: 60_000 });
      const block = page.locator(".bubble.bot .code-block").first();
      await block.waitFor();
      await block.locator(".copy-btn").click();
      await page.locator(".toast", { hasText: "Copied" }).waitFor();
      const code = await block.locator("code").evaluate((code) => code.textContent);
      await becomes(() => page.evaluate(() => navigator.clipboard.readText()), code);
    }));
});
