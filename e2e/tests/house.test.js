// The pages of everybody in a real browser: from the first visit to a conversation, and what a model's words can do to
// them, which is nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, DESKTOP, examine, LIGHT, logIn, openHouse, PASSWORD, shoot, SMALL_PHONE, spread, took, wide } from "../house.mjs";
import { vectors } from "../vectors.mjs";

const house = openHouse();
let state = null;

/** Visits the pages as whoever came in before. */
const visit = (options, steps) => house.visit({ origin: house.salon, cookies: state, ...options }, steps);

/** A story alone takes twenty seconds. */
async function answered(page, count) {
  await becomes(() => page.locator(".turn footer").count(), count, "every question has its answer", 60_000);
}

async function ask(page, text) {
  await page.locator("#text").fill(text);
  await page.locator("#text").press("Enter");
}

test("the first visitor chooses a good password, asks, and finds it again", () =>
  visit({ path: "/login", excused: [/422/] }, async (page) => {
    await page.goto(house.first());
    await page.getByLabel("Name").fill("Alice");
    await page.getByLabel("E-mail").fill("alice@birds.example");
    await page.getByLabel("Password").fill("password1234");
    await page.getByRole("button", { name: "Register" }).click();
    await page.getByText("too easy to guess").waitFor();
    assert.equal(await page.getByLabel("Name").inputValue(), "Alice", "what was entered stays");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Register" }).click();
    await page.getByRole("heading", { name: "Hello, Alice" }).waitFor();

    await page.getByRole("button", { name: "Link a Telegram chat" }).click();
    const code = await page.locator("#code").innerText();
    await house.call("/_mock/send", { token: "mock_token_1", chat_id: 9001, user_id: 9001, text: `/start ${code.replaceAll(" ", "")}` });
    await becomes(async () => {
      await page.goto(`${house.salon}/start`);
      return page.getByRole("button", { name: "Unlink" }).count();
    }, 1, "the chat is linked");

    await page.getByRole("link", { name: "New conversation" }).click();
    await page.getByLabel("Who answers").selectOption("storyteller");
    await ask(page, "Tell me a story of a stork");
    await page.waitForURL(/\/dialogs\/[0-9A-Z]{26}/);
    await page.locator(".turn[data-stream] .block").first().waitFor();
    await page.getByRole("button", { name: "Stop" }).waitFor();
    await page.reload();
    await page.locator(".turn .block").first().waitFor();
    await answered(page, 1);
    const blocks = await page.locator(".turn .block").count();
    assert.ok(blocks > 5, "the whole story is there after a reload in its middle");

    await page.getByLabel("Who answers").selectOption("parrot");
    await page.getByText("Saved.").waitFor();
    await ask(page, "**say this**");
    await answered(page, 2);
    await page.locator(".turn strong", { hasText: "say this" }).waitFor();
    await page.locator(".turn").last().locator("summary", { hasText: "Edit" }).click();
    await page.locator(".turn").last().getByRole("textbox").fill("say that");
    const before = page.url();
    await page.getByRole("button", { name: "Ask this instead" }).click();
    await page.waitForURL((url) => url.pathname !== new URL(before).pathname);
    await answered(page, 2);
    await page.locator(".turn").last().locator(".answer", { hasText: "say that" }).waitFor();

    await page.getByRole("link", { name: "Conversations", exact: true }).click();
    await page.getByPlaceholder("Search in what was said").fill("say this");
    await page.keyboard.press("Enter");
    await becomes(() => page.locator(".dialogs li").count(), 1);
    state = await page.context().cookies();
  }));

for (const theme of ["light", "dark"]) {
  for (const size of [DESKTOP, SMALL_PHONE]) {
    const how = `${size.width}-${theme}`;
    test(`every page is accessible, light and fits (${how})`, (t) =>
      visit({ path: "/start", theme, size, excused: [/404/] }, async (page) => {
        const chat = await page.locator(".card a[href^='/dialogs/0']").first().getAttribute("href");
        const pages = { start: "/start", dialogs: "/dialogs", nothing: "/dialogs?q=penguins", new: "/dialogs/new", chat, panels: "/panels", panel: "/panels/new", keys: "/keys", usage: "/usage", account: "/account", missing: "/dialogs/none" };
        const paints = [];
        for (const [name, path] of Object.entries(pages)) {
          const began = Date.now();
          await page.goto(house.salon + path);
          assert.ok(Date.now() - began < 5000, `${name} took long`);
          await page.locator("main").waitFor();
          await shoot(page, `house-${name}-${how}`);
          await examine(page, `${name}, ${how}`);
          assert.ok((await wide(page)) <= 0, `${name} is wider than the screen`);
          const { bytes, paint } = await took(page);
          assert.ok(bytes > 0 && bytes <= LIGHT, `${name} fetches ${bytes} bytes`);
          paints.push(paint);
        }
        t.diagnostic(`milliseconds to the first paint: ${spread(paints)}`);
      }));
  }
}

test("the pages speak Korean and Russian", async () => {
  for (const [language, words] of [["ko-KR", "로그인"], ["ru-RU", "Войти"]]) {
    await house.visit({ origin: house.salon, path: "/login", language }, async (page) => {
      await page.getByRole("button", { name: words }).waitFor();
      assert.equal(await page.locator("html").getAttribute("lang"), language.slice(0, 2));
      await shoot(page, `house-login-${language}`);
    });
  }
});

test("without a script a question is asked and its answer read", () =>
  visit({ path: "/dialogs/new", scripts: false }, async (page) => {
    await page.getByLabel("Who answers").selectOption("parrot");
    await page.locator("#text").fill("without a script");
    await page.getByRole("button", { name: "Send" }).click();
    await page.waitForURL(/\/dialogs\/[0-9A-Z]{26}/);
    await becomes(async () => {
      const more = page.getByRole("link", { name: "Load again" });
      if (await more.isVisible()) await more.click();
      return page.locator(".answer", { hasText: "without a script" }).isVisible();
    }, true, "the answer is there after a while");
    await page.getByText("Try again").waitFor();
  }));

test("nothing that a model writes becomes more than text", () =>
  visit({ path: "/dialogs/new" }, async (page) => {
    const attacks = [];
    page.on("dialog", (dialog) => { attacks.push(dialog.message()); dialog.dismiss(); });
    await page.exposeFunction("reached", (what) => attacks.push(what));
    const all = vectors();
    assert.ok(all.length >= 200, `${all.length} vectors`);
    await page.getByLabel("Who answers").selectOption("parrot");
    const size = 25;
    for (let at = 0; at < all.length; at += size) {
      await ask(page, all.slice(at, at + size).join("\n\n"));
      if (at === 0) await page.waitForURL(/\/dialogs\/[0-9A-Z]{26}/);
      await answered(page, at / size + 1);
    }
    // As the page renders it anew, and as the script put it there.
    for (const how of ["live", "anew"]) {
      if (how === "anew") await page.reload();
      const bad = await page.locator("#turns").evaluate((turns) => {
        const elements = [...turns.querySelectorAll(".question *, .answer *")];
        const names = ["script", "iframe", "object", "embed", "img", "svg", "math", "style", "link", "meta", "base", "form", "input", "video", "audio", "template"];
        const own = (element) => element.matches(".copy");
        return elements.flatMap((element) => {
          const found = [];
          if (names.includes(element.localName)) found.push(element.outerHTML);
          for (const { name, value } of element.attributes) {
            if (name.startsWith("on") || name === "style" || name === "srcdoc") found.push(`${element.localName} ${name}`);
            if (name === "href" && !/^(https?|mailto):/.test(value)) found.push(value);
          }
          return own(element) ? [] : found;
        });
      });
      assert.deepEqual(bad, [], how);
      for (const link of await page.locator(".answer a").all()) assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
    }
    await page.goto(`${house.salon}/dialogs`);
    await page.goto(`${house.salon}/start`);
    assert.deepEqual(attacks, []);
  }));

test("who is logged out elsewhere is sent to the door", () =>
  visit({ path: "/account" }, async (page) => {
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL(/\/login/);
    await page.goto(`${house.salon}/usage`);
    await page.waitForURL(/\/login\?next=\/usage/);
    await logIn(page, "Alice");
    await page.waitForURL(/\/usage/);
  }));
