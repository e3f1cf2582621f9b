// Bots of five libraries, each by polling and by webhook, in the same scenes. What is checked is what people see.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { after, before, describe, test } from "node:test";
import { Bot } from "./bot.mjs";
import { Mock, python } from "./stage.mjs";

const node = process.execPath;
const CLIENTS = [
  { name: "aiogram", command: [python, "bots/aiogram_bot.py"] },
  { name: "python-telegram-bot", command: [python, "bots/ptb_bot.py"] },
  // It knows Ctrl-C only.
  { name: "pyTelegramBotAPI", command: [python, "bots/telebot_bot.py"], signal: "SIGINT" },
  { name: "grammY", command: [node, "bots/grammy_bot.js"] },
  // It answers a press in the response to the webhook.
  { name: "telegraf", command: [node, "bots/telegraf_bot.js"], inResponse: ["answercallbackquery"] },
];

const ALICE = { user_id: 1001, first_name: "Alice", last_name: "Keys" };
const CROWD = [2001, 2002, 2003, 2004, 2005];
const QUESTIONS = 4;

const mock = new Mock();
before(() => mock.open());
after(() => mock.close());

describe("bots of other libraries", { concurrency: availableParallelism() + 1 }, () => {
  CLIENTS.forEach((client, n) => {
    describe(`${client.name} polls`, { concurrency: 1 }, () => play(new Bot(mock, client, `${100_001 + n}:polls`)));
    describe(`${client.name} has a webhook`, { concurrency: 1 }, () => play(new Bot(mock, client, `${200_001 + n}:webhook`, randomBytes(16).toString("hex"))));
  });
});

function play(bot) {
  before(() => bot.start());
  after(() => bot.program?.end("SIGKILL"));

  test("a command is answered by name", async () => {
    await bot.says(ALICE, "/start");
    await bot.answer(ALICE, "Hello, Alice Keys!");
  });

  test("a text comes back with a button; its press is answered and edits the message", async () => {
    await bot.says(ALICE, "the sea & <the> *sky* 🌊");
    const message = await bot.answer(ALICE, "the sea & <the> *sky* 🌊");
    assert.deepEqual(message.reply_markup.inline_keyboard, [[{ text: "Louder", callback_data: "louder" }]]);

    await mock.call("/_mock/press", { token: bot.token, chat_id: ALICE.user_id, user_id: ALICE.user_id, message_id: message.message_id, callback_data: "louder" });
    const edited = await bot.answer(ALICE, "THE SEA & <THE> *SKY* 🌊");
    assert.equal(edited.message_id, message.message_id);
    assert.deepEqual([edited.edited, edited.reply_markup], [1, null]);
    const answer = await bot.until("the press is answered", async () => {
      const { callback_answers } = await mock.call(`/_mock/messages?token=${bot.token}&chat_id=${ALICE.user_id}`);
      return callback_answers.find(({ answered_at }) => answered_at);
    });
    assert.deepEqual([answer.text, answer.message_id], ["Louder it is", message.message_id]);
  });

  test("a document is received and comes back byte for byte", async () => {
    const bytes = Buffer.concat([Buffer.from("--\r\n\r\n"), randomBytes(100_000), Buffer.from("\r\n")]);
    const form = new FormData();
    for (const [name, value] of Object.entries({ token: bot.token, chat_id: ALICE.user_id, user_id: ALICE.user_id, caption: "für Björn" })) form.append(name, String(value));
    form.append("document", new Blob([bytes]), "보고서 1.bin");
    await mock.call("/_mock/upload", form);

    const message = await bot.answer(ALICE, `${bytes.length} bytes: für Björn`);
    assert.equal(message.document.filename, "보고서 1.bin");
    const answer = await fetch(mock.url + message.document.url);
    assert.ok(bytes.equals(Buffer.from(await answer.arrayBuffer())), "the document has changed on its way");
  });

  test("what was refused with a 429 is sent again, and once", async () => {
    await bot.refuse("sendMessage");
    await bot.says(ALICE, "too fast");
    const message = await bot.answer(ALICE, "too fast");
    const calls = (await bot.calls("sendmessage")).slice(-2);
    assert.deepEqual(calls.map(({ fault, message_id }) => fault ?? message_id), ["429:1", message.message_id]);
  });

  if (bot.secret) {
    test("a message comes by webhook, with the secret", async () => {
      const { webhook_url, webhook_secret } = await bot.state();
      assert.equal(new URL(webhook_url).host, `127.0.0.1:${bot.port}`);
      assert.equal(webhook_secret, bot.secret);
      const sent = await bot.says(ALICE, "by webhook");
      assert.deepEqual([sent.delivery_mode, sent.delivered_via_webhook, sent.webhook_error], ["webhook", true, null]);
      await bot.answer(ALICE, "by webhook");
    });

    test("whoever does not know the secret is turned away", async () => {
      const { webhook_url } = await bot.state();
      const message = { message_id: 1, date: 1, chat: { id: ALICE.user_id, type: "private", first_name: "Mallory" }, from: { id: ALICE.user_id, is_bot: false, first_name: "Mallory" }, text: "forged" };
      for (const secret of [{}, { "x-telegram-bot-api-secret-token": "wrong" }]) {
        const answer = await fetch(webhook_url, { method: "POST", headers: { "content-type": "application/json", ...secret }, body: JSON.stringify({ update_id: 1, message }) });
        assert.ok([401, 403].includes(answer.status), `it said ${answer.status}`);
      }
      await bot.says(ALICE, "genuine");
      await bot.answer(ALICE, "genuine");
      const texts = (await bot.messages(ALICE)).map(({ text }) => text);
      assert.ok(!texts.includes("forged"));
    });
  } else {
    test("polling goes on after a 429", async () => {
      await bot.refuse("getUpdates");
      // The first message ends the poll that is under way, the second waits for the one after the refusal.
      for (const text of ["before the refusal", "after the refusal"]) {
        await bot.says(ALICE, text);
        await bot.answer(ALICE, text);
      }
      const refused = (await bot.calls("getupdates")).filter(({ fault }) => fault === "429:1");
      assert.equal(refused.length, 1);
    });
  }

  test("a crowd is answered, each person in order", async () => {
    await Promise.all(
      CROWD.map(async (user_id) => {
        const person = { user_id, first_name: `No. ${user_id}` };
        for (let n = 1; n <= QUESTIONS; n += 1) {
          await bot.says(person, `question ${n} of ${user_id}`);
          await bot.answer(person, `question ${n} of ${user_id}`);
        }
      }),
    );
  });

  test("what is said while the bot is away is answered when it is back", async () => {
    await bot.settled();
    await bot.stop();
    const people = CROWD.map((user_id) => ({ user_id, first_name: `No. ${user_id}` }));
    for (const person of people) await bot.says(person, `question from outside`);
    assert.equal((await bot.state()).updates_undelivered, CROWD.length);
    await bot.start();
    for (const person of people) await bot.answer(person, `question from outside`);
  });

  test("nothing was lost or doubled, and it stops when asked to", async () => {
    await bot.settled();
    await bot.stop();
    const verdict = await mock.call(`/_mock/verify?token=${bot.token}&prefix=question`);
    const { ok, questions, answered, pending, unanswered_callbacks } = verdict;
    const asked = CROWD.length * (QUESTIONS + 1);
    assert.deepEqual({ ok, questions, answered, pending, unanswered_callbacks }, { ok: true, questions: asked, answered: asked, pending: [], unanswered_callbacks: [] }, JSON.stringify(verdict));
    const [polls, webhooks] = [await bot.calls("getupdates"), await bot.calls("setwebhook")];
    assert.deepEqual([polls.length > 0, webhooks.length > 0], [!bot.secret, Boolean(bot.secret)]);
    for (const method of (bot.secret && bot.client.inResponse) || []) {
      assert.deepEqual([...new Set((await bot.calls(method)).map(({ via }) => via))], ["webhook"], `${method} came in a response`);
    }
  });
}
