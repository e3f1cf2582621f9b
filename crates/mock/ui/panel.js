// The right side: where words go, how they are delivered, what may go wrong, and how the bot is.

import * as api from "./api.js";
import { toId } from "./profiles.js";
import { make, morph } from "./text.js";
import { hasWord, t } from "./words.js";

const $ = (id) => document.getElementById(id);

/** The faults one can ask for, and what is sent for each. */
const FAULTS = { drop_before: "drop_before", apply_then_drop: "apply_then_drop", status: "status:500", delay: "delay:3000", rst: "rst", garbage: "garbage", 429: "429:1" };

export class Panel {
  #page;

  /** `page` is how the panel reaches the rest: `target`, `toast`, `refresh`, `onTarget`, `say`. */
  constructor(page) {
    this.#page = page;
    fold($("toggle-session-section-btn"), $("session-section-body"), "mock_messenger_session_section_hidden");
    fold($("toggle-agent-section-btn"), $("agent-section-body"), "mock_messenger_agent_section_hidden");
    for (const button of document.querySelectorAll(".quick-action-btn")) button.addEventListener("click", () => page.say(button.dataset.command));
    for (const id of ["token-input", "chat-id-input", "user-id-input"]) $(id).addEventListener("change", () => this.#changeTarget());
    $("set-webhook-btn").addEventListener("click", () => this.#setWebhook());
    $("delete-webhook-btn").addEventListener("click", () => this.#try(api.deleteWebhook(page.target().token), t("webhookDeleted")));
    $("rate-limit-btn").addEventListener("click", () => this.#limitRate());
    $("fault-btn").addEventListener("click", () => this.#addFault());
    $("clear-faults-btn").addEventListener("click", () => this.#try(api.clearFaults(), t("faultsCleared")));
  }

  /** What the fields say, for when there is no profile to ask. */
  typed() {
    return { token: $("token-input").value.trim() || "mock_token_1", chat_id: toId($("chat-id-input").value) ?? 1001, user_id: toId($("user-id-input").value) ?? 9001 };
  }

  showTarget({ token, chat_id, user_id }) {
    $("token-input").value = token;
    $("chat-id-input").value = chat_id;
    $("user-id-input").value = user_id;
    $("webhook-url-input").value = "";
    $("webhook-secret-input").value = "";
    for (const id of ["token-input", "chat-id-input", "user-id-input"]) $(id).removeAttribute("aria-invalid");
  }

  translate() {
    const chosen = $("fault-mode-input").value || "status";
    $("fault-mode-input").replaceChildren(...Object.keys(FAULTS).map((mode) => Object.assign(make("option", "", t(`fault_${mode}`)), { value: mode })));
    $("fault-mode-input").value = chosen;
  }

  showState({ bot, found, session, run, health, state, threads, here }) {
    const webhook = state?.state?.bots?.find((candidate) => candidate.token === here.token)?.webhook_url;
    $("delivery-mode").textContent = webhook ? t("webhook") : t("polling");
    if (webhook) suggestValue($("webhook-url-input"), webhook);
    else if (bot?.webhook?.path_secret && bot.embedded_url) {
      suggestValue($("webhook-url-input"), `${bot.embedded_url}/telegram/webhook/${bot.bot_id}/${bot.webhook.path_secret}`);
      suggestValue($("webhook-secret-input"), bot.webhook.secret_token ?? "");
    }

    const probe = found?.health?.bot;
    const beats = found?.metrics?.worker_heartbeat ?? {};
    const model = session.model ?? bot?.default_models?.[session.current_agent] ?? bot?.default_models?.[bot?.default_adapter];
    const facts = [
      [t("health"), [health, probe?.latency_ms === undefined || probe?.latency_ms === null ? "" : t("latency", { n: Math.round(probe.latency_ms) }), probe?.error].filter(Boolean).join(" · ")],
      [t("agent"), session.current_agent && session.current_agent !== "unknown" ? session.current_agent : bot?.default_adapter],
      [t("model"), model, t("unsaid")],
      [t("run"), t(`run_${run}`)],
      [t("sessionId"), session.session_id, t("unsaid")],
      [t("thread"), session.thread_id, t("unsaid")],
      [t("summary"), session.summary_preview],
      [t("inFlight"), found?.metrics?.in_flight_runs],
      [t("heartbeat"), [beats.run_worker, beats.update_worker].filter((beat) => beat !== undefined && beat !== null).join(" · ")],
      [t("delivery"), webhook ? t("webhook") : t("polling")],
    ];
    const list = document.createDocumentFragment();
    for (const [name, value, otherwise] of facts) {
      const empty = value === undefined || value === null || value === "";
      list.append(make("div", "fact", make("dt", "", name), make("dd", empty ? "is-empty" : "", empty ? (otherwise ?? t("none")) : String(value))));
    }
    morph($("facts"), list);

    const tag = found?.last_error_tag;
    $("advice").hidden = !tag;
    if (tag) {
      const advice = document.createDocumentFragment();
      advice.append(make("strong", "", `${t("lastError")}: ${tag}`), make("span", "", t(hasWord(`tag_${tag}`) ? `tag_${tag}` : "tag_unknown")));
      morph($("advice"), advice);
    }
    setText($("agent-json"), json({ bot_id: here.bot_id, token: bot?.token_masked, chat_id: here.chat_id, user_id: here.user_id, ...session }));
    setText($("diagnostics-json"), json(found ?? {}));
    setText($("state-json"), json(state ?? {}));
    setText($("threads-json"), json(threads ?? []));
  }

  #changeTarget() {
    const token = $("token-input").value.trim();
    const chatId = toId($("chat-id-input").value);
    const userId = toId($("user-id-input").value);
    $("token-input").toggleAttribute("aria-invalid", false);
    const wrong = [["token-input", token === ""], ["chat-id-input", chatId === null], ["user-id-input", userId === null]];
    for (const [id, bad] of wrong) if (bad) $(id).setAttribute("aria-invalid", "true");
    if (wrong.some(([, bad]) => bad)) return this.#page.toast(t("badNumber"), "bad");
    this.#page.onTarget({ token, chat_id: chatId, user_id: userId });
  }

  #setWebhook() {
    const url = $("webhook-url-input").value.trim();
    if (!url) return $("webhook-url-input").focus();
    return this.#try(api.setWebhook(this.#page.target().token, url, $("webhook-secret-input").value.trim()), t("webhookSet"));
  }

  #limitRate() {
    const method = $("rate-method-input").value.trim();
    const count = within($("rate-count-input"), 1, 100);
    return this.#try(api.limitRate(this.#page.target().token, method, count, within($("rate-retry-input"), 1, 120)), t("rateSet", { n: count, method }));
  }

  #addFault() {
    const method = $("fault-method-input").value.trim();
    const count = within($("fault-count-input"), 1, 100);
    const mode = $("fault-mode-input").value;
    return this.#try(api.addFault({ token: this.#page.target().token, method, mode: FAULTS[mode], count }), t("faultSet", { mode: t(`fault_${mode}`), n: count, method }));
  }

  async #try(call, done) {
    try {
      await call;
      this.#page.toast(done);
    } catch (error) {
      this.#page.toast(t("failed", { error: error.status === 0 ? t("noServer") : error.message }), "bad");
    }
    this.#page.refresh();
  }
}

/** Folds a section away, and remembers it. */
function fold(button, body, key) {
  let hidden = false;
  try {
    hidden = ["1", "true"].includes(localStorage.getItem(key));
  } catch {
    // Sections are open where nothing can be remembered.
  }
  const show = () => {
    body.hidden = hidden;
    button.setAttribute("aria-expanded", String(!hidden));
  };
  button.addEventListener("click", () => {
    hidden = !hidden;
    show();
    try {
      localStorage.setItem(key, hidden ? "1" : "0");
    } catch {
      // See above.
    }
  });
  show();
}

/** Fills a field nobody is writing in, and nobody has written in. */
function suggestValue(input, value) {
  if (!input.value && document.activeElement !== input) input.value = value;
}

function within(input, least, most) {
  const number = Math.min(most, Math.max(least, Math.round(Number(input.value)) || least));
  input.value = number;
  return number;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const json = (value) => JSON.stringify(value, null, 2);
