// Talks to the messenger: its control API under /_mock/ and, for webhooks, the Telegram methods themselves.

/** A call the server refused or never answered; `status` is 0 when there was no answer at all. */
export class CallError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const DEADLINE_MS = 20_000;

export const threads = (token) => read("/_mock/threads", { token });
export const messages = (token, chat_id, limit) => read("/_mock/messages", { token, chat_id, limit });
export const state = (token) => read("/_mock/state", { token });
export const catalog = () => read("/_mock/bot_catalog");
export const diagnostics = (bot_id, token, chat_id) => read("/_mock/bot_diagnostics", { bot_id, token, chat_id, limit: 120 });

export const say = (token, chat_id, user_id, text) => write("/_mock/send", { token, chat_id, user_id, text });
export const edit = (token, chat_id, user_id, message_id, text) => write("/_mock/edit", { token, chat_id, user_id, message_id, text });
export const press = (token, chat_id, user_id, message_id, callback_data) => write("/_mock/press", { token, chat_id, user_id, message_id, callback_data });
export const clear = (token, chat_id) => write("/_mock/messages/clear", { token, chat_id });
export const addBot = (body) => write("/_mock/bot_catalog/add", body);
export const deleteBot = (bot_id) => write("/_mock/bot_catalog/delete", { bot_id });
export const limitRate = (token, method, count, retry_after) => write("/_mock/rate_limit", { token, method, count, retry_after });
export const addFault = (fault) => write("/_mock/fault", fault);
export const clearFaults = () => call("/_mock/faults", { method: "DELETE" });
export const setWebhook = (token, url, secret_token) => write(botPath(token, "setWebhook"), secret_token ? { url, secret_token } : { url });
export const deleteWebhook = (token) => write(botPath(token, "deleteWebhook"), {});

export function upload(token, chat_id, user_id, file, caption) {
  const form = new FormData();
  form.append("token", token);
  form.append("chat_id", String(chat_id));
  form.append("user_id", String(user_id));
  if (caption) form.append("caption", caption);
  form.append(/^image\//.test(file.type) ? "photo" : "document", file, file.name);
  return call("/_mock/upload", { method: "POST", body: form }, 120_000);
}

/** Addresses of documents come from the server; anything that leads elsewhere is not followed. */
export function documentUrl(document) {
  const url = new URL(String(document.url), location.origin);
  return url.origin === location.origin && url.pathname.startsWith("/_mock/document/") ? url.pathname + url.search : null;
}

/** Calls `onChange({token, chat_id})` when something happened, and `onLink(up)` as the stream comes and goes. */
export function watch(onChange, onLink) {
  const source = new EventSource("/_mock/events");
  const heard = (event) => {
    try {
      onChange(JSON.parse(event.data));
    } catch {
      onChange({});
    }
  };
  source.onopen = () => onLink(true);
  source.onerror = () => onLink(false);
  source.onmessage = heard;
  addEventListener("pagehide", () => source.close());
}

function botPath(token, method) {
  return `/bot${encodeURIComponent(token).replaceAll("%3A", ":")}/${method}`;
}

function read(path, query = {}) {
  const words = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const search = new URLSearchParams(words.map(([name, value]) => [name, String(value)])).toString();
  return call(search ? `${path}?${search}` : path, {});
}

function write(path, body) {
  return call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

async function call(path, options, deadline = DEADLINE_MS) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(deadline), ...options });
  } catch {
    throw new CallError(0, "");
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    // An answer that is not JSON is judged by its status alone.
  }
  if (!response.ok || !body || body.ok === false) {
    throw new CallError(response.status, String(body?.description ?? body?.detail ?? `HTTP ${response.status}`));
  }
  return body.result;
}
