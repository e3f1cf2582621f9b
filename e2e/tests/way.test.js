// The whole way of two people, as one story: from the first run of a house to the day on which one of them is blocked.

import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, DESKTOP, examine, logIn, openModels, register, shoot, SMALL_PHONE, wide } from "../house.mjs";

const VOICES = ["Solver", "Critic", "Checker", "Synth"];
const house = openModels(["usual", "gate", ...VOICES.map((voice) => voice.toLowerCase())]);
/** What the provider gave to Bob, and what nobody else has. */
const KEY = "sk-scripted-of-bob-7461";
const BOB = { token: "mock_token_1", chat_id: 9002, user_id: 9002 };
/** Longer than the slowest of panels, and as long as people wait. */
const MINUTE = { timeout: 60_000 };

const visit = (options, steps) => house.visit({ origin: house.salon, ...options }, steps);
const turns = (page) => page.getByRole("log").getByRole("article");
const told = (page, text) => page.getByRole("status").filter({ hasText: text }).waitFor();

async function ask(page, text) {
  const before = await turns(page).count();
  await page.getByLabel("Write something").fill(text);
  await page.getByLabel("Write something").press("Enter");
  await becomes(() => turns(page).count(), before + 1, "the question stands there");
  return turns(page).last();
}

/** An answer has come to its end when it can be asked for again. */
const whole = (turn) => turn.getByRole("button", { name: "Try again" }).waitFor(MINUTE);

/** Opens the same page as whoever came in before, in passing. */
async function glance(cookies, path, steps) {
  return visit({ path, cookies }, async (page) => {
    page.on("dialog", (dialog) => dialog.accept());
    return steps(page);
  });
}

test("two people go the whole way, from the first run to the block", async () => {
  let desk = null;
  // The first run: whoever has the link that was printed once is the administrator.
  await visit({ path: "/login", excused: [/40[0-9]/] }, async (page) => {
    const door = house.first();
    await register(page, door, "Alice");
    assert.match(page.url(), /\/start$/);
    await visit({ path: new URL(door).pathname, excused: [/40[0-9]/] }, (late) => late.getByRole("alert").filter({ hasText: "This invitation was used" }).waitFor());
    await page.getByRole("link", { name: "Administration" }).click();
    await page.waitForURL(/\/admin\/login/);
    await logIn(page, "Alice");
    await page.waitForURL(/\/admin$/);
    desk = await page.context().cookies();
  });

  // The second person comes in by an invitation, and is no administrator.
  const invitation = await glance(desk, "/admin/users", async (admin) => {
    await admin.getByRole("button", { name: "Make an invitation" }).click();
    await told(admin, "The invitation, good once");
    const link = await admin.getByRole("status").getByText("/join/").innerText();
    assert.match(link, /\/join\/[\w-]{43}$/);
    return link;
  });

  await visit({ path: "/login", excused: [/40[13]|429|Failed to load|EventSource/] }, async (page) => {
    await register(page, invitation, "Bob");
    assert.equal(await page.getByRole("link", { name: "Administration" }).count(), 0);

    // Without a key nobody answers; with one of his own, which is tried at its provider first, somebody does.
    await page.getByRole("link", { name: "Add a key" }).click();
    await page.getByLabel("Provider").fill("openai");
    await page.getByLabel("Key", { exact: true }).fill(KEY);
    await page.getByRole("button", { name: "Try and keep it" }).click();
    await told(page, "The provider knows this key. It is kept.");
    await page.getByRole("listitem").filter({ hasText: "openai" }).getByText(`…${KEY.slice(-4)}`).waitFor();
    assert.ok(!(await page.content()).includes(KEY), "what was entered is not shown again");

    // A code links the chat, and what is asked there stands in the same list here.
    await page.getByRole("link", { name: "Start", exact: true }).click();
    await page.getByRole("button", { name: "Link a Telegram chat" }).click();
    const code = await page.locator("#code").innerText();
    assert.match(code, /^([A-Z2-9]{4} ?){4}$/);
    await page.locator(".qr").first().waitFor();
    await page.getByRole("link", { name: "Open in Telegram" }).first().waitFor();
    await shoot(page, "way-link");
    await examine(page, "a code to link a chat");
    await house.visit({ storage: messenger(), path: "/_mock/ui" }, async (telegram) => {
      const said = async (text) => {
        await telegram.locator("#message-input").fill(text);
        await telegram.locator("#message-input").press("Escape");
        await telegram.locator("#message-input").press("Enter");
      };
      await said(`/start ${code.replaceAll(" ", "")}`);
      await telegram.locator("#timeline-list .bubble.bot", { hasText: "Linked. Here you are Bob" }).waitFor();
      await said("a word from Telegram [[say:Storks say it with their beaks.]]");
      await telegram.locator("#timeline-list .bubble.bot", { hasText: "Storks say it with their beaks." }).waitFor();
      await shoot(telegram, "way-telegram");
    });
    await page.getByRole("link", { name: "Start", exact: true }).click();
    await becomes(async () => {
      await page.reload();
      return page.getByRole("button", { name: "Unlink" }).count();
    }, 1, "the chat is linked");
    await examine(page, "the start of somebody with a linked chat");
    await page.getByRole("link", { name: "Conversations", exact: true }).click();
    await becomes(() => page.getByRole("listitem").filter({ hasText: "a word from Telegram" }).count(), 1, "a chat's dialog is a conversation, too");

    // The same dialog goes on here, and knows what was said there.
    await page.getByRole("listitem").getByRole("link", { name: "a word from Telegram" }).click();
    await page.getByText("Storks say it with their beaks.", { exact: true }).waitFor();
    await whole(await ask(page, "and here? [[say:Here as well.]]"));
    await turns(page).nth(1).getByText("Here as well.", { exact: true }).waitFor();
    await shoot(page, "way-continued");
    const last = (await house.asked()).at(-1);
    assert.ok(last.key.endsWith(KEY), "he asks with his own key");
    for (const words of ["a word from Telegram", "Storks say it with their beaks.", "and here?"]) assert.ok(last.body.includes(words), `its model is told ${words}`);

    // What could be asked next is suggested by the model when he wants it; it fills the box, and is not sent.
    await page.getByRole("button", { name: "Suggest questions" }).click();
    await page.getByRole("button", { name: "Here as well.", exact: true }).click();
    assert.equal(await page.getByLabel("Write something").inputValue(), "Here as well.");
    assert.equal(await turns(page).count(), 2, "nothing was sent");
    await page.getByLabel("Write something").fill("");
    await shoot(page, "way-suggestions");
    await examine(page, "what could be asked next");
    assert.match((await house.asked()).at(-1).body, /"max_tokens":150\b/);

    // A panel of his own: a gate and four voices, each another model.
    await page.getByRole("link", { name: "Panels" }).click();
    await page.getByRole("link", { name: "New panel" }).click();
    await page.getByLabel("Name", { exact: true }).fill("council");
    await page.getByLabel("When several are asked").selectOption("A model decides");
    await page.getByLabel("Which model decides").fill("gate");
    await page.getByLabel("Dollars a question, at most").fill("0.25");
    for (const [at, voice] of VOICES.entries()) {
      const seat = page.locator("fieldset").nth(at);
      await seat.getByLabel("Voice").fill(voice);
      await seat.getByLabel("Part").selectOption(voice);
      await seat.getByLabel("Model").fill(voice.toLowerCase());
    }
    await page.getByRole("button", { name: "Save" }).click();
    await told(page, "Saved.");
    const council = page.getByRole("listitem").filter({ hasText: "council" });
    await council.getByText("at most $0.25 a question").waitFor();
    await council.getByRole("link", { name: "Ask it" }).click();

    // A question that matters: several speak, each with words and a price of its own, after a quote.
    const before = (await house.asked()).length;
    await page.getByLabel("Write something").fill("Which tax do I pay on a stork? [[words=24]] [[pace=60]]");
    await page.getByRole("button", { name: "Send" }).click();
    await page.waitForURL(/\/dialogs\/[0-9A-Z]{26}/);
    const panel = turns(page).last();
    await page.getByRole("log").evaluate((log) => {
      const seen = (window.seen = new Set());
      new MutationObserver(() => {
        for (const head of log.querySelectorAll("summary")) if (head.textContent.includes("Writing")) seen.add(head.querySelector("strong").textContent);
      }).observe(log, { childList: true, subtree: true });
    });
    await panel.getByText(/^Panel council, at most \$0\.\d+\./).waitFor();
    await panel.locator("summary").filter({ hasText: "Writing" }).first().waitFor();
    await shoot(page, "way-panel-speaks");
    await whole(panel);
    await panel.getByText("Several are asked: a mistake would cost.").waitFor();
    const speakers = await page.evaluate(() => [...window.seen]);
    for (const voice of VOICES) assert.ok(speakers.includes(voice), `${voice} was not seen speaking: ${speakers.join(", ")}`);
    const said = [];
    for (const voice of VOICES) {
      const seat = panel.locator(".voice", { has: page.getByText(voice, { exact: true }) });
      const fold = seat.locator("summary");
      // The last voice's words are the answer itself, so there is nothing to unfold.
      const isLast = voice === VOICES.at(-1);
      assert.equal(await fold.count(), isLast ? 0 : 1);
      const head = await (isLast ? seat : fold).innerText();
      assert.match(head, new RegExp(`^${voice} ${voice.toLowerCase()} · \\d[\\d\\s]* → [1-9][\\d\\s]* · \\$0\\.\\d*[1-9]`), "its model, its tokens and its cost");
      if (!isLast) await fold.click();
      said.push(await (isLast ? panel.locator(":scope > .answer") : seat.locator(".answer")).innerText());
    }
    assert.ok(said.every((words) => words.trim().split(/\s+/).length === 24), `each says what it was asked for: ${said.join(" | ")}`);
    assert.equal(new Set(said).size, VOICES.length, "each says something of its own");
    await panel.locator(".voice", { has: page.getByText("Deciding who is asked", { exact: true }) }).getByText(/^gate · /).waitFor();
    const asked = (await house.asked()).slice(before);
    assert.deepEqual(asked.map(({ model }) => model).sort(), ["mock-checker", "mock-critic", "mock-gate", "mock-solver", "mock-synth"]);
    assert.ok(asked.every(({ key }) => key.endsWith(KEY)));
    await shoot(page, "way-panel");
    await examine(page, "a panel that has spoken");
    await page.setViewportSize(SMALL_PHONE);
    await shoot(page, "way-panel-phone");
    assert.ok((await wide(page)) <= 0, "a panel is wider than a phone");
    await page.setViewportSize(DESKTOP);
    // What its gate calls plain is answered by one alone, though it speaks of what is risky.
    const plain = await ask(page, "Which tax is on a nest? [[say:A SIMPLE one.]]");
    await whole(plain);
    await plain.getByText("One voice is enough.").waitFor();
    assert.deepEqual((await house.asked()).slice(before + 5).map(({ model }) => model), ["mock-gate", "mock-solver"]);

    // A limit is felt, with a sentence that helps.
    const { calls } = await spent(page);
    const bob = await glance(desk, "/admin/limits", async (admin) => {
      await admin.getByLabel("For whom").selectOption("Each person");
      await admin.getByLabel("What is counted").selectOption("questions");
      await admin.getByLabel("In which time").selectOption("a day");
      await admin.getByLabel("How much (money in dollars)").last().fill(String(calls + 1));
      await admin.getByRole("button", { name: "Add a limit" }).click();
      await admin.getByRole("status").waitFor();
      await admin.goto(`${house.salon}/admin/users`);
      await admin.getByRole("link", { name: "Bob" }).click();
      await admin.getByRole("heading", { name: "Bob" }).waitFor();
      return new URL(admin.url()).pathname;
    });
    await page.getByRole("link", { name: "Conversations", exact: true }).click();
    await page.getByRole("listitem").getByRole("link", { name: "a word from Telegram" }).click();
    const within = await ask(page, "within the limit [[say:This still fits.]]");
    await whole(within);
    await within.getByText("This still fits.", { exact: true }).waitFor();
    const beyond = await ask(page, "beyond the limit");
    await whole(beyond);
    await beyond.getByText(/This does not fit into your limit of .* are left\. It begins anew on/).waitFor();
    await beyond.getByText("An administrator can raise the limit").waitFor();
    await shoot(page, "way-limit");
    await examine(page, "an answer that a limit forbade");
    await page.getByRole("link", { name: "Usage", exact: true }).click();
    await page.getByRole("heading", { name: "What is left" }).waitFor();
    await page.getByText(`${calls + 1} / ${calls + 1}`).waitFor();
    await shoot(page, "house-limit");
    await examine(page, "the usage of somebody at a limit");

    await glance(desk, "/admin/limits", async (admin) => {
      await examine(admin, "limits that are kept");
      await admin.getByRole("button", { name: "Remove" }).first().click();
      await admin.getByRole("status").waitFor();
      // While an answer is being written, its asker is blocked.
      await page.getByRole("link", { name: "New conversation" }).click();
      await page.getByLabel("Write something").fill("a long story of a crane [[words=2000]] [[pace=100]]");
      await page.getByRole("button", { name: "Send" }).click();
      await page.waitForURL(/\/dialogs\/[0-9A-Z]{26}/);
      await page.locator(".turn[data-stream] .block").first().waitFor();
      await admin.goto(house.salon + bob);
      const out = page.waitForURL(/\/login\?next=/).then(() => Date.now());
      const began = Date.now();
      await admin.getByRole("button", { name: "Block" }).click();
      const took = (await out) - began;
      assert.ok(took < 2000, `the open stream ended, and the page was left, ${took} ms after the block`);
      await admin.getByRole("status").waitFor();
      await admin.getByRole("heading", { name: /^Bob blocked/ }).waitFor();
      await shoot(admin, "way-blocked");
      await page.goto(`${house.salon}/start`);
      await page.waitForURL(/\/login/);
      await logIn(page, "Bob");
      await page.getByRole("alert").filter({ hasText: "switched off" }).waitFor();
      await admin.goto(`${house.salon}/admin/logs?q=crane`);
      await admin.getByText("a long story of a crane").first().waitFor();
    });
  });
});

/** The messenger as Bob's Telegram. */
function messenger() {
  const profile = { profile_id: "profile-house", label: "House", bot_id: "house", ...BOB, selected_for_parallel: false, from_catalog: true };
  return { mock_messenger_ui_state_v3: JSON.stringify({ selected_profile_id: profile.profile_id, profiles: [profile] }) };
}

/** What his page of usage says. */
async function spent(page) {
  await page.getByRole("link", { name: "Usage", exact: true }).click();
  await page.getByRole("heading", { name: "By model" }).waitFor();
  const calls = await page.getByText(/^\d+ calls$/).innerText();
  return { calls: Number.parseInt(calls, 10) };
}
