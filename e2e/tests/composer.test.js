import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, choose, lastAnswer, openHouse, say, shoot } from "../house.mjs";

const house = openHouse();
const PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FABJADveWkH6oAAAAAElFTkSuQmCC", "base64");

test("Enter sends, Shift+Enter breaks the line, and the parrot says it all back", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    const field = page.locator("#message-input");
    await field.pressSequentially("first line");
    await field.press("Shift+Enter");
    await field.pressSequentially("second line");
    await field.press("Enter");
    await becomes(() => field.inputValue(), "");
    await page.locator(".bubble.user:not(.is-pending)").last().waitFor();
    await becomes(() => page.locator(".bubble.user .bubble-text").last().innerText(), "first line\nsecond line");
    await lastAnswer(page).filter({ hasText: "second line" }).waitFor();
    await becomes(() => lastAnswer(page).locator(".bubble-text").innerText(), (text) => /first line\nsecond line/.test(text));
  }));

test("an Enter that only finishes a syllable does not send", () =>
  house.visit({}, async (page) => {
    await choose(page, "model");
    const field = page.locator("#message-input");
    await field.fill("안녕하");
    await field.evaluate((element) => {
      element.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true }));
      element.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }));
    });
    assert.equal(await field.inputValue(), "안녕하");
    assert.equal(await page.locator(".bubble.user").count(), 0);
    await field.press("Enter");
    await page.locator(".bubble.user", { hasText: "안녕하" }).waitFor();
  }));

test("blank words are not sent", () =>
  house.visit({}, async (page) => {
    await choose(page, "storyteller");
    await page.locator("#message-input").fill("   ");
    await page.locator("#send-btn").click();
    assert.equal(await page.locator(".bubble.user").count(), 0);
  }));

test("markup stays words", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    const words = '<img src=x onerror="document.title=1"> <b>bold</b> & <script>alert(1)</script>';
    await say(page, words);
    await lastAnswer(page).filter({ hasText: "onerror" }).waitFor();
    await becomes(() => page.locator(".bubble.user .bubble-text").last().innerText(), words);
    await becomes(() => lastAnswer(page).locator(".bubble-text").innerText(), (text) => text.includes(words));
    assert.equal(await page.locator("#timeline-list :is(img, script, b)").count(), 0);
  }));

test("links lead to the web and nowhere else", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await say(page, "see https://salon.example.org/a?b=1. and javascript:alert(1) and ftp://x.example");
    const links = page.locator(".bubble.user .bubble-text").last().locator("a");
    await links.first().waitFor();
    await becomes(() => links.evaluateAll((all) => all.map((link) => [link.href, link.rel])), [["https://salon.example.org/a?b=1", "noopener noreferrer nofollow"]]);
  }));

test("a YouTube link becomes a card, drawn without asking YouTube", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await say(page, "watch https://youtu.be/dQw4w9WgXcQ please");
    const card = page.locator(".bubble.bot .bubble-youtube-preview").last();
    await card.waitFor();
    assert.equal(await card.getAttribute("href"), "https://www.youtube.com/watch?v=dQw4w9WgXcQ");
    await shoot(page, "youtube");
  }));

test("one's own message can be changed, by its pencil or the up arrow", () =>
  house.visit({}, async (page) => {
    await choose(page, "parrot");
    await say(page, "a typo heer");
    const bubble = page.locator(".bubble.user:not(.is-pending)", { hasText: "a typo heer" });
    await bubble.waitFor();
    await bubble.hover();
    await bubble.locator(".edit-btn").click();
    await page.locator("#editing-bar").waitFor();
    await becomes(() => page.locator("#message-input").inputValue(), "a typo heer");
    await page.locator("#message-input").fill("a typo here");
    await page.locator("#message-input").press("Enter");
    await page.locator(".bubble.user", { hasText: "a typo here" }).waitFor();
    await becomes(() => page.locator(".bubble.user", { hasText: "a typo heer" }).count(), 0);
    await page.locator("#message-input").press("ArrowUp");
    await becomes(() => page.locator("#message-input").inputValue(), "a typo here");
    await page.locator("#message-input").press("Escape");
    await page.locator("#editing-bar").waitFor({ state: "hidden" });
    await becomes(() => page.locator("#message-input").inputValue(), "");
  }));

test("a picture is attached, shown and enlarged; a page is framed without rights", () =>
  house.visit({ excused: [/sandboxed and the 'allow-scripts' permission/, /Content Security Policy/] }, async (page) => {
    await choose(page, "model");
    await page.locator("#file-input").setInputFiles({ name: "chart one.png", mimeType: "image/png", buffer: PIXEL });
    await page.locator("#attachment-bar", { hasText: "chart one.png" }).waitFor();
    await shoot(page, "attachment");
    await page.locator("#message-input").fill("what is this?");
    await page.locator("#send-btn").click();
    const image = page.locator(".bubble.user .bubble-image").last();
    await image.waitFor();
    await becomes(() => image.evaluate((element) => element.decode().then(() => element.naturalWidth)), 10);
    await page.locator(".bubble.user", { hasText: "what is this?" }).waitFor();
    await image.click();
    await page.locator("#view-dialog .view-image").waitFor();
    await page.keyboard.press("Escape");

    const html = "<h1>Landing</h1><script>parent.document.title = 'taken'</script>";
    await page.locator("#file-input").setInputFiles({ name: "landing.html", mimeType: "text/html", buffer: Buffer.from(html) });
    await page.locator("#send-btn").click();
    const frame = page.locator(".bubble-html-preview").last();
    await frame.waitFor();
    assert.equal(await frame.getAttribute("sandbox"), "");
    await frame.contentFrame().locator("h1", { hasText: "Landing" }).waitFor();
    assert.doesNotMatch(await page.title(), /taken/);
    await shoot(page, "documents");
  }));

test("an attachment can be taken back", () =>
  house.visit({}, async (page) => {
    await page.locator("#file-input").setInputFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("x") });
    await page.locator("#attachment-bar", { hasText: "notes.txt" }).waitFor();
    await page.locator("#remove-attachment-btn").click();
    await page.locator("#attachment-bar").waitFor({ state: "hidden" });
  }));

test("words that could not be sent come back, with the reason", () =>
  house.visit({ excused: [/503/] }, async (page) => {
    await choose(page, "parrot");
    await page.route("**/_mock/send", (route) => route.fulfill({ status: 503, json: { ok: false, description: "Service Unavailable: draining" } }));
    await say(page, "do not lose me");
    await page.locator(".toast.is-bad", { hasText: "draining" }).waitFor();
    await becomes(() => page.locator("#message-input").inputValue(), "do not lose me");
    await becomes(() => page.locator(".bubble.is-pending").count(), 0);
  }));
