import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { becomes, choose, DESKTOP, examine as ask, lastAnswer, openHouse, PHONE, say, shoot } from "../house.mjs";

const house = openHouse();

/**
 * Asks axe, with all its rules, and fails on any finding but one: a text area that is a combobox while its
 * list is open. HTML knows no several-line combobox, and without the role the list would go unannounced.
 */
async function examine(page, where) {
  await page.evaluate(() => Promise.all(document.getAnimations().filter((animation) => animation.effect.getComputedTiming().iterations !== Infinity).map((animation) => animation.finished.catch(() => {}))));
  const isField = (node) => node.target.length === 1 && node.target[0] === "#message-input";
  await ask(page, where, { iframes: false }, ({ id, nodes }) => id === "aria-allowed-role" && nodes.every(isField));
}

// Beside each other, for all of them wait for the same slow story.
describe("in every state", { concurrency: true }, () => {
  for (const theme of ["light", "dark"]) {
    for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      test(`the page is accessible in every state (${theme}, ${name})`, () =>
        house.visit({ size, theme, chat: size.width + theme.length }, async (page) => {
          const look = async (state) => {
            await shoot(page, `${state}-${name}-${theme}`);
            await examine(page, `${state}, ${name}, ${theme}`);
          };
          await choose(page, "parrot");
          await look("empty");
          await page.locator("#message-input").pressSequentially("/");
          await look("commands");
          await page.locator("#message-input").fill("");
          await say(page, "see `this` and https://youtu.be/dQw4w9WgXcQ");
          await lastAnswer(page).filter({ hasText: "see" }).waitFor();
          await look("conversation");
          await choose(page, "storyteller");
          await say(page, "Tell me a story");
          await lastAnswer(page).waitFor();
          await page.locator(".bubble.bot").last().locator(".keyboard-btn").nth(1).waitFor({ timeout: 60_000 });
          await look("story");
          if (size === PHONE) {
            await page.locator("#open-bots-btn").click();
            await look("bots");
            await page.locator("#bot-sidebar [data-close-drawer]").click();
            await page.locator("#open-panel-btn").click();
          }
          for (const fold of await page.locator("#side-panel details").all()) await fold.locator("summary").click();
          await look("panel");
          if (size === PHONE) {
            await page.locator("#side-panel [data-close-drawer]").click();
            await page.locator("#open-bots-btn").click();
          }
          for (const bot of ["parrot", "model"]) await page.locator(`.bot-item[data-bot-id=${bot}] .bot-item-check`).check();
          await page.locator(".bot-item.is-selected .bot-item-edit-btn").click();
          await look("dialog");
          await page.locator("#profile-cancel-btn").click();
          await page.locator("#parallel-message-input").fill("And you?");
          await page.locator("#parallel-send-btn").click();
          await page.locator("#compare-board").waitFor();
          await page.locator(".compare-column .bubble").nth(1).waitFor();
          await look("compare");
        }));
    }
  }
});

test("everything can be reached and done by keyboard alone", () =>
  house.visit({ chat: 61 }, async (page) => {
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "skip-link");
    await page.keyboard.press("Enter");
    await becomes(focused, "message-input");
    await page.keyboard.type("by keys alone");
    await page.keyboard.press("Enter");
    await lastAnswer(page).filter({ hasText: "by keys alone" }).waitFor();
    const reached = new Set();
    await page.locator("#language-select").focus();
    for (let step = 0; step < 60; step += 1) {
      await page.keyboard.press("Tab");
      reached.add(await focused());
    }
    for (const id of ["theme-btn", "toggle-essential-btn", "refresh-state-btn", "add-profile-btn", "bot-item-check", "bot-item-main", "parallel-message-input", "parallel-send-btn", "clear-timeline-btn", "timeline-list", "message-input", "send-btn", "token-input"]) {
      assert.ok(reached.has(id), `${id} is not reached by Tab: ${[...reached].join(", ")}`);
    }
  }));
