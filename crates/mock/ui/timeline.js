// The conversation: bubbles that are changed in place, so that streaming neither flickers nor jumps.

import { documentUrl } from "./api.js";
import { essence, findVideo, icon, iconButton, make, morph, renderPlain, renderRich, safeUrl, sliceEntities } from "./text.js";
import { language, t } from "./words.js";

const AT_BOTTOM_PX = 64;
const PLACEHOLDER = /^(?:…|\.{3}|⋯)$/;

/** Whether a bot's message only says that more is to come. */
export const isPlaceholder = (message) => PLACEHOLDER.test((message.text ?? "").trim()) && !message.document;

/** Whether a bot's message asks to be allowed something: its buttons are the answers, and it is not at an end. */
export const isAsking = (message) => message?.direction === "bot" && /^🔐 /mu.test(message.text ?? "") && (message.reply_markup?.inline_keyboard ?? []).length > 0;

const WRITING_MS = 10_000;

/**
 * Whether an answer is being written: a placeholder, a draft, a question of whoever writes it, or a message
 * that lately changed and offers nothing but to be stopped. Event lines say so themselves, and the diagnostics read them.
 */
export function isWriting(message) {
  if (message?.direction !== "bot") return false;
  if (isPlaceholder(message) || message.is_draft || isAsking(message)) return true;
  const keys = (message.reply_markup?.inline_keyboard ?? []).flat().length;
  return keys === 1 && !/(?:^|\n)(?:⚠️|⏹) /.test(message.text ?? "") && Date.now() - toMs(message.updated_at) < WRITING_MS;
}

/** Milliseconds, from whatever the server calls a time. */
export function toMs(time) {
  if (typeof time === "string" && !/^\d+$/.test(time)) return Date.parse(time) || 0;
  const number = Number(time) || 0;
  return number > 1e11 ? number : number * 1000;
}

/**
 * Turns messages into what is shown. In the essential view progress lines fall away, a turn that only
 * reports progress is one "thinking" bubble, and repeated words are said once.
 */
export function toItems(messages, essential) {
  const items = [];
  let carried = null;
  messages.forEach((message, index) => {
    if (message.direction === "user") {
      items.push({ message, kind: "user" });
      return;
    }
    const told = essential && !message.document ? essence(message.text ?? "") : { progress: false };
    if (!told.progress) {
      items.push({ message, kind: isPlaceholder(message) ? "thinking" : "bot", keyboard: message.reply_markup ? message : carried });
      carried = null;
      return;
    }
    if (message.reply_markup) carried = message;
    if (told.ranges.length > 0) {
      const text = told.ranges.map(({ start, end, joint }, at) => (at > 0 ? joint : "") + message.text.slice(start, end)).join("");
      const last = items.at(-1);
      if (last?.told === text) {
        Object.assign(last, { message, keyboard: carried ?? last.keyboard, times: (last.times ?? 1) + 1 });
      } else {
        items.push({ message, kind: "bot", told: text, ranges: told.ranges, keyboard: carried, error: told.ranges.every((range) => range.error) });
      }
      carried = null;
    } else if (!told.ended && !messages.slice(index + 1).some((later) => later.direction !== "user")) {
      items.push({ message, kind: "thinking", keyboard: carried });
      carried = null;
    }
  });
  return items;
}

/** Builds one bubble. `busy` holds the buttons that wait for their bot. */
export function buildBubble(item, { name, busy = new Set(), editable = false } = {}) {
  const { message, kind } = item;
  const user = kind === "user";
  const bubble = make("article", `bubble ${user ? "user" : "bot"}`);
  bubble.dataset.id = message.message_id;
  bubble.append(buildHeader(message, user ? t("you") : name));
  const body = make("div", "bubble-text");
  if (kind === "thinking") {
    bubble.classList.add("is-thinking");
    body.append(make("span", "visually-hidden", t("thinking")), make("span", "dots", make("i"), make("i"), make("i")));
  } else if (user) body.append(renderPlain(message.text ?? ""));
  else if (item.ranges) item.ranges.forEach((range, index) => body.append(index > 0 ? range.joint : "", renderRange(message, range)));
  else body.append(renderRich(message.text ?? "", message.entities));
  body.normalize();
  if (item.error) bubble.classList.add("is-error");
  if (message.is_draft) bubble.classList.add("is-draft");
  if (item.pending) bubble.classList.add("is-pending");
  if (message.document) bubble.append(...buildDocument(message.document));
  if (body.hasChildNodes()) bubble.append(body);
  if (item.times) bubble.append(make("span", "times", t("times", { n: item.times })));
  const video = user || kind === "thinking" ? null : findVideo(message.text ?? "");
  if (video) bubble.append(buildVideo(video));
  if (item.keyboard?.reply_markup) bubble.append(buildKeyboard(item.keyboard, busy));
  if (editable && user && !item.pending && message.text && !message.document) bubble.append(iconButton("edit-btn", "pencil", t("editMessage")));
  return bubble;
}

/** Owns `#timeline-list`: shows items, keeps the reader's place, counts what arrives out of sight. */
export class Timeline {
  #list;
  #jump;
  #jumpCount;
  #rows = new Map();
  #unseen = 0;
  #scene = "";

  constructor(list, jump, jumpCount) {
    this.#list = list;
    this.#jump = jump;
    this.#jumpCount = jumpCount;
    list.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    // Images get their height late; whoever reads the newest line stays there.
    list.addEventListener("load", () => this.#sticking && this.toEnd(), true);
    jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => {
      this.#sized = sizeOf(list);
      if (this.#sticking) this.toEnd();
      else this.#placeJump();
    }).observe(list);
  }

  #sticking = true;
  #sized = "";
  #top = 0;

  /** Only who scrolls up goes away from the newest line; not a list that changes its size, nor one that grows. */
  #onScroll() {
    const { scrollTop } = this.#list;
    const up = scrollTop < this.#top;
    this.#top = scrollTop;
    if (this.#sized !== sizeOf(this.#list)) return;
    if (this.#sticking && !up) this.toEnd();
    else this.#placeJump();
  }

  /** Shows a whole-page word instead of bubbles: loading, empty, failed. */
  scene(name, build) {
    this.#list.dataset.scene = name;
    if (this.#scene === name && name === "loading") return;
    this.#scene = name;
    this.#rows.clear();
    this.#unseen = 0;
    this.#list.replaceChildren(build());
    this.#sticking = true;
    this.#placeJump();
  }

  /** Forgets what is shown, for another conversation. */
  reset() {
    this.#rows.clear();
    this.#scene = "";
    this.#unseen = 0;
    this.#sticking = true;
  }

  /** Shows the rows `[{key, signature, build}]`, oldest first; returns the keys that are new. */
  show(rows, { follow = false } = {}) {
    const list = this.#list;
    const first = this.#rows.size === 0;
    if (first) list.replaceChildren();
    this.#scene = "rows";
    list.dataset.scene = "rows";
    // Whoever reads further up must not be moved by what is put in above.
    const anchor = [...this.#rows.values()].find(({ element }) => element.dataset.id && element.offsetTop + element.offsetHeight > list.scrollTop)?.element;
    const before = anchor?.offsetTop;
    const stick = first || follow || (this.#sticking && !this.#isSelecting());
    const next = new Map();
    const fresh = [];
    let cursor = list.firstChild;
    for (const row of rows) {
      let shown = this.#rows.get(row.key);
      if (!shown) {
        shown = { element: row.build(), signature: row.signature };
        fresh.push(row.key);
      } else if (shown.signature !== row.signature) {
        const wanted = row.build();
        for (const { name, value } of wanted.attributes) if (shown.element.getAttribute(name) !== value) shown.element.setAttribute(name, value);
        morph(shown.element, wanted);
        shown.signature = row.signature;
      }
      next.set(row.key, shown);
      if (shown.element === cursor) cursor = cursor.nextSibling;
      else list.insertBefore(shown.element, cursor);
    }
    for (const [key, { element }] of this.#rows) if (!next.has(key)) element.remove();
    this.#rows = next;
    if (stick) this.toEnd();
    else {
      if (anchor?.isConnected) list.scrollTop += anchor.offsetTop - before;
      this.#unseen += fresh.filter((key) => key.startsWith("m:bot")).length;
    }
    this.#placeJump();
    return fresh;
  }

  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#top = this.#list.scrollTop;
    this.#sticking = true;
    this.#unseen = 0;
    this.#placeJump();
  }

  #isSelecting() {
    const selection = getSelection();
    return !selection.isCollapsed && this.#list.contains(selection.anchorNode);
  }

  #placeJump() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    this.#sticking = scrollHeight - scrollTop - clientHeight < AT_BOTTOM_PX;
    if (this.#sticking) this.#unseen = 0;
    this.#jump.hidden = this.#sticking;
    this.#jumpCount.textContent = this.#unseen > 0 ? t("jumpCount", { n: this.#unseen }) : "";
  }
}

const sizeOf = ({ clientWidth, clientHeight }) => `${clientWidth} ${clientHeight}`;

/** Rows for the timeline: day lines between bubbles. */
export function toRows(items, context) {
  const rows = [];
  const keys = new Set();
  let day = "";
  for (const item of items) {
    const { message } = item;
    const date = new Date(toMs(message.created_at));
    const today = date.toDateString();
    if (today !== day) {
      day = today;
      rows.push({ key: `d:${today}`, signature: language(), build: () => make("div", "bubble meta day", make("span", "", dayName(date))) });
    }
    const side = item.kind === "user" ? "user" : "bot";
    const buttons = item.keyboard?.reply_markup?.inline_keyboard ?? [];
    const busy = buttons.flat().filter((button) => context.busy.has(`${item.keyboard.message_id}:${button.callback_data}`)).length;
    // A draft bears the number its message will have, so that it turns into it; a second one needs its own.
    const numbered = item.pending ? `p:${item.pending}` : `m:${side}:${message.message_id}`;
    const key = keys.has(numbered) ? `${numbered}:${message.draft_id ?? keys.size}` : numbered;
    keys.add(key);
    rows.push({
      key,
      signature: JSON.stringify([item.kind, message.text, message.entities, message.document?.id, buttons, busy, item.ranges, item.times, message.is_draft, language(), context.name]),
      build: () => buildBubble(item, context),
    });
  }
  return rows;
}

/** The size of a file in words. */
export function sizeName(bytes) {
  if (bytes < 1024) return t("bytes", { n: bytes });
  const kib = bytes / 1024;
  return kib < 1024 ? t("kib", { n: Math.round(kib) }) : t("mib", { n: (kib / 1024).toLocaleString(language(), { maximumFractionDigits: 1 }) });
}

function renderRange(message, { start, end }) {
  return renderRich(message.text.slice(start, end), sliceEntities(message.entities, start, end));
}

function buildHeader(message, name) {
  const date = new Date(toMs(message.created_at));
  const time = make("time", "", date.toLocaleTimeString(language(), { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString(language());
  return make("div", "bubble-header", make("span", "bubble-author", name), " ", make("span", "bubble-id", `[${message.message_id}]`), " ", time);
}

function dayName(date) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days === 0) return t("today");
  if (days === 1) return t("yesterday");
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return date.toLocaleDateString(language(), { day: "numeric", month: "long", year });
}

function buildDocument(file) {
  const url = documentUrl(file);
  const name = String(file.filename || file.id);
  if (!url) return [make("p", "bubble-file", icon("file"), make("span", "file-name", name))];
  const parts = [];
  if (file.is_image) {
    const image = make("img", "bubble-image");
    image.src = url;
    image.alt = t("imageAlt", { name });
    const open = make("button", "image-btn view-btn", image);
    open.type = "button";
    open.dataset.view = "image";
    open.title = t("enlarge");
    parts.push(open);
  } else if (file.is_html) {
    const frame = make("iframe", "bubble-html-preview");
    frame.setAttribute("sandbox", "");
    frame.setAttribute("referrerpolicy", "no-referrer");
    frame.title = t("pageFrame", { name });
    frame.src = url;
    const open = make("button", "btn btn-quiet view-btn", t("enlarge"));
    open.type = "button";
    open.dataset.view = "page";
    parts.push(make("div", "page-preview", frame, make("div", "page-note", make("span", "", t("sandboxed")), open)));
  } else if (String(file.media_type).startsWith("audio/")) {
    const sound = make("audio", "bubble-audio");
    sound.controls = true;
    sound.src = url;
    sound.setAttribute("aria-label", name);
    parts.push(sound);
  }
  // An image is its own name plate; its file can be had from the enlarged view.
  for (const part of parts) for (const button of part.matches(".view-btn") ? [part] : part.querySelectorAll(".view-btn")) Object.assign(button.dataset, { url, name });
  if (file.is_image) return parts;
  const anchor = make("a", "bubble-file", icon("file"), make("span", "file-name", name));
  if (file.size > 0) anchor.append(make("span", "file-size", sizeName(file.size)));
  anchor.href = url;
  anchor.download = name;
  anchor.title = t("download");
  parts.push(anchor);
  return parts;
}

/** A card drawn here: nothing is asked of YouTube until the reader follows the link. */
function buildVideo(id) {
  const card = make("a", "bubble-youtube-preview", make("span", "video-play", icon("play")), make("span", "video-words", make("strong", "", t("video")), make("span", "video-id", `youtube.com/watch?v=${id}`)));
  card.href = `https://www.youtube.com/watch?v=${id}`;
  card.target = "_blank";
  card.rel = "noopener noreferrer nofollow";
  card.title = t("openVideo");
  return card;
}

function buildKeyboard(message, busy) {
  const keyboard = make("div", "bubble-keyboard");
  for (const row of message.reply_markup.inline_keyboard ?? []) {
    const line = make("div", "keyboard-row");
    for (const button of row) line.append(buildKey(message, button, busy));
    keyboard.append(line);
  }
  return keyboard;
}

function buildKey(message, button, busy) {
  const href = button.url ? safeUrl(button.url) : null;
  if (href) {
    const anchor = make("a", "keyboard-btn is-link", String(button.text));
    anchor.href = href;
    anchor.target = "_blank";
    anchor.rel = "noopener noreferrer nofollow";
    return anchor;
  }
  const key = make("button", "keyboard-btn", String(button.text));
  key.type = "button";
  if (typeof button.callback_data === "string") {
    key.dataset.callback = button.callback_data;
    key.dataset.message = message.message_id;
    if (busy.has(`${message.message_id}:${button.callback_data}`)) {
      key.classList.add("is-busy");
      key.setAttribute("aria-busy", "true");
      key.setAttribute("aria-disabled", "true");
    }
  } else if (typeof button.copy_text?.text === "string") key.dataset.copy = button.copy_text.text;
  else key.disabled = true;
  return key;
}
