import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, openHouse, shoot } from "../house.mjs";

const house = openHouse();
const at = Date.now();
const message = (message_id, direction, text, more = {}) => ({ token: "t", chat_id: 1001, message_id, direction, text, created_at: at + message_id, updated_at: at + message_id, document: null, entities: [], reply_markup: null, is_draft: false, ...more });
const KEYS = { inline_keyboard: [[{ text: "요약", callback_data: "act:1" }, { text: "중단", callback_data: "act:2" }]] };

/** Shows a conversation that is dictated word by word. */
const dictate = (messages, check, options = {}) =>
  house.visit({ settled: false, ...options }, async (page) => {
    const talk = { messages };
    await page.route("**/_mock/messages?*", (route) => route.fulfill({ json: { ok: true, result: { messages: talk.messages, updates: [] } } }));
    await page.reload();
    await page.locator("#timeline-list[data-scene=rows]").waitFor();
    await check(page, talk);
  });
const shown = (page) => page.locator("#timeline-list .bubble:is(.user, .bot) .bubble-text").allInnerTexts();

test("the essential view shows the answer, and one bubble that thinks until it comes", () =>
  dictate([message(1, "user", "hi"), message(2, "bot", "Queued turn: 1\nsession=s\nagent=echo", { reply_markup: KEYS })], async (page, talk) => {
    await page.locator(".bubble.is-thinking").waitFor();
    await becomes(() => page.locator(".bubble.bot").count(), 1);
    talk.messages.push(message(3, "bot", '[1][10:00:00][thread_started] {"thread_id": "t"}\n[2][10:00:00][turn_started] {}'));
    await page.locator('.bubble.is-thinking[data-id="3"]').waitFor();
    await becomes(() => page.locator(".bubble.bot").count(), 1);
    talk.messages[2] = message(3, "bot", `${talk.messages[2].text}\n[3][10:00:01][assistant_message] echo: hi\nand more\n[4][10:00:01][turn_completed] {"status": "success"}`);
    await page.locator(".bubble.bot", { hasText: "echo: hi" }).waitFor();
    await becomes(() => shown(page), ["hi", "echo: hi\nand more"]);
    await becomes(() => page.locator('.keyboard-btn[data-message="2"]').count(), 2, "the buttons came along");
    await shoot(page, "events-essential");
    await page.locator("#toggle-essential-btn").click();
    await page.locator(".bubble-text", { hasText: "[turn_completed]" }).waitFor();
    await page.locator(".bubble-text", { hasText: "Queued turn: 1" }).waitFor();
    await shoot(page, "events-full");
  }));

test("errors are shown, pieces are joined, and repeats are said once", () =>
  dictate(
    [
      message(1, "user", "go"),
      message(2, "bot", "[1][10:00:00][reasoning] hm\n[2][10:00:00][assistant_message] (1/2) half a wo\n[2][10:00:00][assistant_message] (2/2) rd\n[3][10:00:00][command_started] ls"),
      message(3, "bot", "[1][10:00:02][error] provider=codex executable not found; install CLI"),
      message(4, "bot", "[1][10:00:03][error] provider=codex executable not found; install CLI"),
    ],
    async (page) => {
      await becomes(() => shown(page), ["go", "half a word", "provider=codex executable not found; install CLI"]);
      await page.locator(".bubble.is-error .times", { hasText: "×2" }).waitFor();
    },
  ));

test("entities become elements, and only safe addresses become links", () => {
  const pieces = [["bold", "bold"], ["italic", "italic"], ["under", "underline"], ["struck", "strikethrough"], ["🦜 secret", "spoiler"], ["code()", "code"], ["a link", "text_link", { url: "https://salon.example.org/" }], ["a trap", "text_link", { url: "javascript:alert(1)" }], ["fn main() {\n    \"<b>\"\n}", "pre", { language: "rust" }], ["short", "blockquote"], ["one\ntwo\nthree\nfour\nfive", "expandable_blockquote"]];
  let text = "";
  const entities = [];
  for (const [words, type, more] of pieces) {
    entities.push({ type, offset: text.length, length: words.length, ...more });
    text += `${words}\n`;
  }
  entities.push({ type: "bold", offset: 2, length: 8 });
  return dictate([message(1, "bot", text, { entities })], async (page) => {
    const body = page.locator(".bubble-text");
    for (const [selector, words] of [["strong", "bold"], ["u", "under"], ["s", "struck"], ["code:not(pre *)", "code()"], ["pre code.language-rust", '"<b>"'], ["blockquote:not(.expandable)", "short"]]) await body.locator(selector, { hasText: words }).first().waitFor();
    await becomes(async () => (await body.locator("em").allInnerTexts()).join(""), "italic", "a span that crosses another's end is split, not lost");
    assert.deepEqual(await body.locator("a").evaluateAll((links) => links.map((link) => [link.href, link.rel])), [["https://salon.example.org/", "noopener noreferrer nofollow"]]);
    const spoiler = body.locator(".spoiler");
    await spoiler.focus();
    await page.keyboard.press("Enter");
    await body.locator(".spoiler.is-revealed", { hasText: "🦜 secret" }).waitFor();
    const quote = body.locator("blockquote.expandable");
    const before = (await quote.boundingBox()).height;
    await quote.locator(".expand-btn").click();
    await becomes(async () => (await quote.boundingBox()).height, (height) => height > before, "the quotation does not grow");
    await shoot(page, "entities");
  });
});

test("code that older bots send as markup or fences is understood, other markup is not", () =>
  dictate(
    [
      message(1, "bot", 'first<br>second<pre><code class="language-js">1 &lt; 2</code></pre>'),
      message(2, "bot", "see:\n```sh\nls -l\n```\nand `this`"),
      message(3, "bot", '<pre>a</pre><img src="https://foreign.example/x.png">'),
    ],
    async (page) => {
      assert.equal(await page.locator(".bubble-text").nth(0).locator("pre code.language-js").innerText(), "1 < 2");
      assert.equal(await page.locator(".bubble-text").nth(1).locator("pre code").innerText(), "ls -l");
      assert.equal(await page.locator(".bubble-text").nth(1).locator("code:not(pre *)").innerText(), "this");
      assert.match(await page.locator(".bubble-text").nth(2).innerText(), /<img src=/);
      assert.equal(await page.locator("#timeline-list img").count(), 0);
    },
  ));

test("a draft streams and turns into its message", () =>
  dictate([message(1, "user", "hi"), message(2, "bot", "Half an ans", { is_draft: true, draft_id: 7 })], async (page, talk) => {
    const bubble = await page.locator(".bubble.is-draft").elementHandle();
    talk.messages[1] = message(2, "bot", "Half an answer is no answer.");
    await page.locator(".bubble.bot:not(.is-draft)", { hasText: "no answer." }).waitFor();
    assert.ok(await bubble.evaluate((element) => element.isConnected));
  }));

test("buttons may lead to the web, but not to anything else", () =>
  dictate([message(1, "bot", "choose", { reply_markup: { inline_keyboard: [[{ text: "Site", url: "https://salon.example.org/" }, { text: "Trap", url: "javascript:alert(1)" }]] } })], async (page) => {
    assert.equal(await page.locator("a.keyboard-btn").getAttribute("href"), "https://salon.example.org/");
    assert.ok(await page.locator("button.keyboard-btn", { hasText: "Trap" }).isDisabled());
  }));

test("a document that leads to another place is named but not opened", () =>
  dictate([message(1, "bot", "", { document: { id: "1", filename: "x.html", media_type: "text/html", is_image: false, is_html: true, url: "https://foreign.example/x.html" } })], async (page) => {
    await page.locator(".bubble-file", { hasText: "x.html" }).waitFor();
    assert.equal(await page.locator("#timeline-list :is(iframe, a)").count(), 0);
  }));

test("a long conversation shows its newest part first and more on demand", () => {
  const all = Array.from({ length: 200 }, (_, index) => message(index + 1, index % 2 ? "bot" : "user", `line ${index + 1}`));
  return house.visit({ settled: false }, async (page) => {
    await page.route("**/_mock/messages?*", (route) => route.fulfill({ json: { ok: true, result: { messages: all.slice(-Number(new URL(route.request().url()).searchParams.get("limit"))), updates: [] } } }));
    await page.reload();
    await page.locator(".bubble", { hasText: "line 200" }).waitFor();
    await becomes(() => page.locator(".bubble:is(.user, .bot)").count(), 120);
    await page.locator("#timeline-list").evaluate((list) => list.scrollTo(0, 0));
    const anchor = page.locator('.bubble[data-id="81"]');
    await page.locator(".earlier-btn").click();
    await page.locator('.bubble[data-id="1"]').waitFor({ state: "attached" });
    await becomes(() => anchor.boundingBox(), (box) => box && box.y > 0 && box.y < 800, "the place where one was reading is lost");
  });
});
