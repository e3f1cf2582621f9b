// A bot of the tests: its program, and everything that people and tests do with it.

import assert from "node:assert/strict";
import { freePort, Program } from "./stage.mjs";

export class Bot {
  program = null;
  port = 0;

  /** `client` says how its program is started and stopped; with a `secret` it has a webhook, else it polls. */
  constructor(mock, client, token, secret = "") {
    Object.assign(this, { mock, client, token, secret });
  }

  async start() {
    if (this.secret) this.port ||= await freePort();
    const env = { BOT_TOKEN: this.token, TELEGRAM_API: this.mock.url };
    if (this.secret) Object.assign(env, { WEBHOOK_PORT: String(this.port), WEBHOOK_SECRET: this.secret });
    const [file, ...args] = this.client.command;
    this.program = new Program(file, args, env);
  }

  async stop() {
    const how = await this.program.end(this.client.signal ?? "SIGTERM");
    const { output } = this.program;
    this.program = null;
    assert.equal(how, 0, `it did not end well:\n${output}`);
  }

  until(what, look) {
    return this.mock.until(this, what, look);
  }

  /** What people do: they write in their private chat with the bot. */
  says(person, text) {
    return this.mock.call("/_mock/send", { token: this.token, chat_id: person.user_id, ...person, text });
  }

  /** The bot's messages in a chat. */
  async messages(person) {
    const { messages } = await this.mock.call(`/_mock/messages?token=${this.token}&chat_id=${person.user_id}&limit=1000`);
    return messages.filter(({ direction }) => direction === "bot");
  }

  answer(person, text) {
    return this.until(`${JSON.stringify(text)} is in the chat`, async () => (await this.messages(person)).find((message) => message.text === text));
  }

  /** What it called since the mock began, of one method. */
  async calls(method) {
    const { calls } = await this.mock.call(`/_mock/ledger?token=${this.token}&limit=10000`);
    return calls.filter((call) => call.method === method);
  }

  async state() {
    const { state } = await this.mock.call(`/_mock/state?token=${this.token}`);
    return { ...state, ...state.bots[0] };
  }

  /** Waits until it has confirmed everything it got, so that it may be stopped. */
  settled() {
    return this.until("every update is confirmed", async () => (await this.state()).updates_undelivered === 0);
  }

  refuse(method) {
    return this.mock.call("/_mock/rate_limit", { token: this.token, method, count: 1, retry_after: 1 });
  }
}

