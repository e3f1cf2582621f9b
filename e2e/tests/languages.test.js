import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, choose, DESKTOP, openHouse, PHONE, shoot } from "../house.mjs";

const house = openHouse();
const WORDS = {
  en: { locale: "en-GB", send: "Send", bots: "Bots", start: "Wake the bot and see how it works" },
  ko: { locale: "ko-KR", send: "보내기", bots: "봇", start: "봇을 깨우고 쓰는 법을 봅니다" },
  ru: { locale: "ru-RU", send: "Отправить", bots: "Боты", start: "Разбудить бота и узнать, как он работает" },
};

for (const [code, words] of Object.entries(WORDS)) {
  for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    test(`the page speaks the browser's language (${code}, ${name})`, () =>
      house.visit({ language: words.locale, size }, async (page) => {
        assert.equal(await page.evaluate(() => document.documentElement.lang), code);
        assert.equal(await page.locator("#send-btn").getAttribute("aria-label"), words.send);
        assert.equal(await page.locator("#bot-sidebar h2").textContent(), words.bots);
        await page.locator("#message-input").pressSequentially("/sta");
        await becomes(() => page.locator(".command-suggest-item .command-text").first().innerText(), words.start);
        const cut = await page.evaluate(() => [...document.querySelectorAll("button, h2, .field > span")].filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth + 1).map((element) => element.id || element.textContent));
        assert.deepEqual(cut, [], "words do not fit");
        await shoot(page, `language-${code}-${name}`);
      }));
  }
}

test("another language can be chosen, at once and for good", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await page.locator("#language-select").selectOption("ru");
    await page.locator(".scene-title", { hasText: "Поздоровайтесь" }).waitFor();
    await page.locator(".bot-item-status", { hasText: "на связи" }).first().waitFor();
    await page.reload();
    await page.locator("#clear-timeline-btn", { hasText: "Очистить" }).waitFor();
    await becomes(() => page.locator("#language-select").inputValue(), "ru");
  }));

test("an unknown language is met in English", () =>
  house.visit({ language: "fr-FR" }, async (page) => {
    assert.equal(await page.locator("#send-btn").getAttribute("aria-label"), "Send");
  }));

test("no language lacks a word the others have", () =>
  house.visit({}, async (page) => {
    const keys = await page.evaluate(() => import("/_mock/ui/words.js").then((words) => words.listKeys()));
    assert.deepEqual(keys.ko, keys.en);
    assert.deepEqual(keys.ru, keys.en);
    const unknown = await page.evaluate(async (known) => {
      const asked = [...document.querySelectorAll("[data-t], [data-t-label], [data-t-aria], [data-t-placeholder]")].flatMap(({ dataset }) => [dataset.t, dataset.tLabel, dataset.tAria, dataset.tPlaceholder]);
      return asked.filter((key) => key && !known.includes(key));
    }, keys.en);
    assert.deepEqual(unknown, []);
  }));
