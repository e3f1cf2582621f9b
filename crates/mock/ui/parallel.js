// Asks several bots the same thing and shows the answers side by side as they are written.

import * as api from "./api.js";
import { avatar } from "./sidebar.js";
import { essence, iconButton, make, morph } from "./text.js";
import { buildBubble, isAsking, isPlaceholder, toItems } from "./timeline.js";
import { t } from "./words.js";

const POLL_MS = 1000;
const MOST_POLLS = 60;
/** A bot without event lines has answered when its words have not changed for this many looks. */
const CALM_LOOKS = 3;
const FAILED = /\[error\]|\[delivery_error\]|executable not found|send error|(?:^|\n)(?:⚠️|⏹) /i;
const QUEUED = /^(?:queued turn:|a run is already active)/i;
const COMPLETED = /\[turn_completed\]\s*(.*)/i;
const BAD_STATUS = /"status"\s*:\s*"(?:error|failed|timeout)"/i;

/**
 * Judges one bot's answer: "pass", "fail", or null while it is still open. `calm` counts how often in a
 * row the same words were seen, `run` is the run state of the diagnostics, which are read from event lines.
 */
export function judge(messages, run, calm) {
  const text = messages.map((message) => message.text ?? "").join("\n");
  const tellsEvents = messages.some((message) => essence(message.text ?? "").progress);
  const completed = COMPLETED.exec(text);
  if (FAILED.test(text) || (completed && BAD_STATUS.test(completed[1])) || (tellsEvents && run === "error")) return "fail";
  if (completed || (tellsEvents && run === "completed")) return "pass";
  const last = messages.findLast((message) => message.text || message.document);
  if (!last || isPlaceholder(last) || last.is_draft || isAsking(last) || QUEUED.test(last.text)) return null;
  if (tellsEvents) return /\[assistant_message\]/i.test(text) && calm >= CALM_LOOKS ? "pass" : null;
  // A finished answer offers several ways on; one that is being written offers only to be stopped.
  const keys = (last.reply_markup?.inline_keyboard ?? []).flat().length;
  if (keys > 1) return "pass";
  return calm >= CALM_LOOKS && keys === 0 ? "pass" : null;
}

/** Owns `#parallel-results` and the board with one column per bot. */
export class Parallel {
  #results;
  #columns;
  #lanes = [];
  #onOpen;

  constructor(results, columns, onOpen) {
    this.#results = results;
    this.#columns = columns;
    this.#onOpen = onOpen;
    for (const place of [results, columns]) {
      place.addEventListener("click", (event) => {
        const id = event.target.closest("[data-open]")?.dataset.open;
        if (id) this.#onOpen(id);
      });
    }
  }

  get hasResults() {
    return this.#lanes.length > 0;
  }

  /** Sends to every profile at once; resolves when each has answered, failed or run out of time. */
  async ask(profiles, text) {
    this.#lanes = profiles.map((profile) => ({ profile, verdict: null, reason: "", messages: [], seconds: 0 }));
    this.#columns.replaceChildren();
    this.draw();
    await Promise.all(this.#lanes.map((lane) => this.#run(lane, text)));
  }

  draw() {
    const rows = document.createDocumentFragment();
    const columns = document.createDocumentFragment();
    for (const lane of this.#lanes) {
      rows.append(this.#buildRow(lane));
      columns.append(this.#buildColumn(lane));
    }
    morph(this.#results, rows);
    morph(this.#columns, columns);
  }

  async #run(lane, text) {
    const { token, chat_id, user_id, bot_id } = lane.profile;
    let calm = 0;
    let seen = "";
    try {
      const before = await api.messages(token, chat_id, 1000);
      const newest = Math.max(0, ...before.messages.filter((message) => !message.is_draft).map((message) => message.message_id));
      await api.say(token, chat_id, user_id, text);
      while (lane.seconds < MOST_POLLS && !lane.verdict) {
        const [found, health] = await Promise.all([api.messages(token, chat_id, 120), bot_id ? api.diagnostics(bot_id, token, chat_id).catch(() => null) : null]);
        lane.messages = found.messages.filter((message) => message.message_id > newest && message.direction === "bot");
        const now = JSON.stringify(lane.messages.map((message) => [message.message_id, message.text]));
        calm = now === seen ? calm + 1 : 0;
        seen = now;
        lane.verdict = judge(lane.messages, health?.session?.run_status, calm);
        if (lane.verdict === "fail") lane.reason = t("failError");
        this.draw();
        // Whoever is asked may take longer than a model; after ten minutes the bot takes it for a no.
        lane.seconds += lane.messages.some(isAsking) ? 0.05 : 1;
        if (!lane.verdict) await new Promise((wake) => setTimeout(wake, POLL_MS));
      }
      const said = lane.messages.some((message) => /\[assistant_message\]/i.test(message.text ?? ""));
      if (!lane.verdict && said) lane.verdict = "pass";
      if (!lane.verdict) Object.assign(lane, { verdict: "fail", reason: t("failTimeout") });
    } catch (error) {
      Object.assign(lane, { verdict: "fail", reason: `${t("failSend")}: ${error.message || t("noServer")}` });
    }
    this.draw();
  }

  #buildRow(lane) {
    const row = make("div", "parallel-result-row", make("span", "parallel-name", nameOf(lane)), buildStatus(lane));
    if (lane.reason) row.append(make("span", "parallel-reason", lane.reason));
    row.dataset.profile = lane.profile.profile_id;
    return row;
  }

  #buildColumn(lane) {
    const name = nameOf(lane);
    const open = iconButton("open-chat-btn", "chat", t("openChat"));
    open.dataset.open = lane.profile.profile_id;
    const title = make("h3", "", name);
    const body = make("div", "compare-answer");
    const items = toItems(lane.messages, true);
    body.append(...items.map((item) => buildBubble({ ...item, keyboard: isAsking(item.message) ? item.keyboard : null }, { name })));
    if (items.length === 0 && !lane.verdict) body.append(make("p", "hint", t("thinking")));
    if (lane.reason) body.append(make("p", "parallel-reason", lane.reason));
    body.tabIndex = 0;
    body.setAttribute("role", "group");
    body.setAttribute("aria-label", name);
    const column = make("article", "compare-column", make("header", "compare-column-head", avatar(name), make("div", "compare-column-words", title, buildStatus(lane)), open), body);
    column.dataset.profile = lane.profile.profile_id;
    return column;
  }
}

const nameOf = ({ profile }) => profile.label || profile.bot_id;

function buildStatus(lane) {
  const verdict = lane.verdict ?? "wait";
  return make("span", `parallel-status parallel-status-${verdict}`, `${{ pass: "PASS", fail: "FAIL", wait: "WAIT" }[verdict]} · ${t(verdict)}`);
}
