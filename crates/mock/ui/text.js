// Turns what bots say into nodes. Text becomes text nodes, never markup: whatever a bot writes, it stays words.

import { t } from "./words.js";

const MOST_ENTITIES = 400;
const SIMPLE_TAGS = { bold: "strong", italic: "em", underline: "u", strikethrough: "s", code: "code" };
const BLOCKS = new Set(["pre", "blockquote", "expandable_blockquote"]);
const MENTIONS = new Set(["mention", "hashtag", "cashtag", "text_mention", "phone_number", "email", "bank_card_number"]);

/** Makes an element with a class and children; strings become text. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An icon of the page's sprite. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A button that shows an icon and is known by a name. */
export function iconButton(className, name, label) {
  const button = make("button", `icon-btn ${className}`, icon(name));
  button.type = "button";
  button.title = label;
  button.setAttribute("aria-label", label);
  return button;
}

/** What a person wrote: plain, with links. */
export function renderPlain(text) {
  const fragment = document.createDocumentFragment();
  addPlain(fragment, text);
  return fragment;
}

/**
 * What a bot wrote. Entities decide; without any, fenced and inline code are understood, and so is
 * text that consists of nothing but words, `br`, `pre` and `code`, which older bots send.
 */
export function renderRich(text, entities) {
  const fragment = document.createDocumentFragment();
  const spans = toSpans(text, entities);
  if (spans.length > 0) grow(fragment, text, 0, text.length, spans);
  else if (isPlainCodeHtml(text)) addCodeHtml(fragment, text);
  else addFenced(fragment, text);
  return fragment;
}

/** The entities that fall into `start..end`, counted from `start`. */
export function sliceEntities(entities, start, end) {
  return (entities ?? [])
    .map((entity) => {
      const from = Math.max(entity.offset, start);
      const to = Math.min(entity.offset + entity.length, end);
      return { ...entity, offset: from - start, length: to - from };
    })
    .filter((entity) => entity.length > 0);
}

/** An address one may follow, or null: only the web, nothing that runs. */
export function safeUrl(address) {
  try {
    const url = new URL(String(address));
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/** The id of the first YouTube video the text points at. */
export function findVideo(text) {
  const match = /https?:\/\/(?:www\.|m\.|music\.)?(?:youtube\.com\/(?:watch\?(?:[^\s#]*&)?v=|shorts\/|live\/)|youtu\.be\/)([\w-]{11})(?![\w-])/.exec(text);
  return match ? match[1] : null;
}

const EVENT_LINE = /^\[(?:\d+|~)\]\[\d\d:\d\d:\d\d\]\[([a-z_]+)\] ?/;
const SHOWN_EVENTS = new Set(["assistant_message", "error", "delivery_error"]);
const QUEUED = /^(queued turn:|a run is already active|\[button\] queued)/i;

/**
 * What of a bot's text matters to someone who only wants the answer: ranges of the text, whether it is
 * a bot's progress at all, and whether the turn it tells of has come to its end.
 */
export function essence(text) {
  if (QUEUED.test(text)) return { progress: true, ranges: [], ended: false };
  const ranges = [];
  let progress = false;
  let ended = false;
  let open = null;
  let offset = 0;
  for (const line of text.split("\n")) {
    const event = EVENT_LINE.exec(line);
    if (event) {
      progress = true;
      open = null;
      if (event[1] === "turn_completed") ended = true;
      if (SHOWN_EVENTS.has(event[1])) {
        const part = /^\(\d+\/\d+\) /.exec(line.slice(event[0].length));
        const start = offset + event[0].length + (part ? part[0].length : 0);
        // A long body comes in numbered pieces that were cut anywhere; other bodies are lines of their own.
        open = { start, end: offset + line.length, error: event[1] !== "assistant_message", joint: part && !part[0].startsWith("(1/") ? "" : "\n" };
        ranges.push(open);
      }
    } else if (open) {
      open.end = offset + line.length;
    }
    offset += line.length + 1;
  }
  return { progress, ranges, ended };
}

/**
 * Makes `live` look like `wanted` by touching only what differs, so that a selection, an opened spoiler
 * and the scroll position survive while an answer grows.
 */
export function morph(live, wanted) {
  let here = live.firstChild;
  for (const next of [...wanted.childNodes]) {
    if (!here) {
      live.append(next);
      continue;
    }
    const following = here.nextSibling;
    if (here.nodeType !== next.nodeType || here.nodeName !== next.nodeName) {
      here.replaceWith(next);
    } else if (here.nodeType === Node.TEXT_NODE) {
      changeText(here, next.data);
    } else {
      matchAttributes(here, next);
      morph(here, next);
    }
    here = following;
  }
  while (here) {
    const following = here.nextSibling;
    here.remove();
    here = following;
  }
}

/** Changes only the end that differs: what is selected before it stays selected. */
function changeText(node, text) {
  let same = 0;
  while (same < text.length && text[same] === node.data[same]) same += 1;
  if (same < Math.max(text.length, node.length)) node.replaceData(same, node.length - same, text.slice(same));
}

/** Classes that the reader put there by pressing; an update must not take them away. */
const KEPT_CLASSES = ["is-revealed", "is-open"];

function matchAttributes(live, wanted) {
  const kept = KEPT_CLASSES.filter((name) => live.classList.contains(name));
  for (const { name } of [...live.attributes]) if (!wanted.hasAttribute(name)) live.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  if (kept.length > 0) live.classList.add(...kept);
}

function toSpans(text, entities) {
  return (Array.isArray(entities) ? entities : [])
    .slice(0, MOST_ENTITIES)
    .map((entity) => ({ entity, start: Math.max(0, Number(entity.offset)), end: Math.min(text.length, Number(entity.offset) + Number(entity.length)) }))
    .filter(({ start, end }) => end > start)
    .sort(inOrder);
}

const inOrder = (a, b) => a.start - b.start || b.end - a.end;

/** Nests spans; one that crosses another's end is split there. */
function grow(parent, text, start, end, spans) {
  let at = start;
  let queue = spans;
  while (queue.length > 0) {
    const [span, ...others] = queue;
    const inner = [];
    const later = [];
    for (const other of others) {
      if (other.start < span.end) inner.push({ ...other, end: Math.min(other.end, span.end) });
      if (other.end > span.end) later.push({ ...other, start: Math.max(other.start, span.end) });
    }
    // A block brings its own line break: the one written around it would show as an empty line.
    const isBlock = BLOCKS.has(span.entity.type);
    addPlain(parent, isBlock ? text.slice(at, span.start).replace(/\n$/, "") : text.slice(at, span.start));
    const words = text.slice(span.start, span.end);
    const { outer, hole, literal } = dress(span.entity, words);
    if (literal) hole.append(words);
    else grow(hole, text, span.start, span.end, inner);
    parent.append(outer);
    at = isBlock && text[span.end] === "\n" && span.end < end ? span.end + 1 : span.end;
    queue = later.map((other) => ({ ...other, start: Math.max(other.start, at) })).filter((other) => other.end > other.start).sort(inOrder);
  }
  addPlain(parent, text.slice(at, end));
}

function dress(entity, words) {
  const type = String(entity.type);
  const literal = type === "code" || type === "pre";
  if (Object.hasOwn(SIMPLE_TAGS, type)) return whole(make(SIMPLE_TAGS[type]), literal);
  if (type === "pre") {
    const { block, code } = codeBlock(entity.language);
    return { outer: block, hole: code, literal };
  }
  if (type === "text_link" || type === "url") {
    const href = safeUrl(type === "url" && !/^[a-z]+:/i.test(words) ? `https://${words}` : (entity.url ?? words));
    return whole(href ? link(href) : make("span"), type === "url");
  }
  if (type === "spoiler") return whole(pressable("spoiler", t("spoiler")));
  if (type === "bot_command") {
    const command = pressable("command-link");
    command.dataset.command = words;
    return whole(command, true);
  }
  if (type === "blockquote") return whole(make("blockquote"));
  if (type === "expandable_blockquote") return quote(words);
  return whole(make("span", MENTIONS.has(type) ? "mention" : ""));
}

const whole = (element, literal = false) => ({ outer: element, hole: element, literal });

function pressable(className, label) {
  const element = make("span", className);
  element.tabIndex = 0;
  element.setAttribute("role", "button");
  if (label) element.title = label;
  return element;
}

function quote(words) {
  const hole = make("div", "quote-body");
  const outer = make("blockquote", "", hole);
  if (words.length > 180 || words.split("\n").length > 3) {
    outer.className = "expandable";
    outer.append(iconButton("expand-btn", "chevron", t("showMore")));
  }
  return { outer, hole, literal: false };
}

function link(href) {
  const anchor = make("a");
  anchor.href = href;
  anchor.rel = "noopener noreferrer nofollow";
  anchor.target = "_blank";
  return anchor;
}

function codeBlock(language) {
  const code = make("code");
  const pre = make("pre", "", code);
  // Long lines scroll, with the keyboard too.
  pre.tabIndex = 0;
  const block = make("div", "code-block", pre, iconButton("copy-btn", "copy", t("copy")));
  const name = String(language ?? "").replace(/[^\w+#.-]/g, "").slice(0, 24);
  if (name) {
    code.className = `language-${name}`;
    block.dataset.language = name;
  }
  return { block, code };
}

function addPlain(parent, text) {
  let at = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+/g)) {
    const address = match[0].replace(/[.,;:!?…»”’)\]}]+$/, (tail) => (tail.startsWith(")") && match[0].includes("(") ? ")" : ""));
    const href = safeUrl(address);
    if (!href) continue;
    addText(parent, text.slice(at, match.index));
    const anchor = link(href);
    anchor.append(address);
    parent.append(anchor);
    at = match.index + address.length;
  }
  addText(parent, text.slice(at));
}

function addText(parent, text) {
  if (text) parent.append(text);
}

function addFenced(parent, text) {
  const fence = /```([\w+#.-]{0,24})[^\S\n]*\n([\s\S]*?)(?:\n```(?=\n|$)|$)/g;
  let at = 0;
  for (const match of text.matchAll(fence)) {
    addInline(parent, text.slice(at, match.index).replace(/\n$/, ""));
    const { block, code } = codeBlock(match[1]);
    code.append(match[2]);
    parent.append(block);
    at = match.index + match[0].length + (text[match.index + match[0].length] === "\n" ? 1 : 0);
  }
  addInline(parent, text.slice(at));
}

function addInline(parent, text) {
  let at = 0;
  for (const match of text.matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)) {
    addPlain(parent, text.slice(at, match.index));
    parent.append(make("code", "", match[1]));
    at = match.index + match[0].length;
  }
  addPlain(parent, text.slice(at));
}

const CODE_TAG = /<(?:br ?\/?|\/?pre|\/code|code(?: class="language-[\w+#.-]{1,24}")?)>/g;

function isPlainCodeHtml(text) {
  return text.search(CODE_TAG) >= 0 && !/<[a-z/!]/i.test(text.replace(CODE_TAG, ""));
}

function addCodeHtml(parent, text) {
  const unescape = (part) => part.replace(/&(lt|gt|quot|#39|amp);/g, (_, name) => ({ lt: "<", gt: ">", quot: '"', "#39": "'", amp: "&" })[name]);
  let hole = parent;
  let at = 0;
  let block = null;
  const say = (part) => (hole === parent ? addPlain(parent, unescape(part)) : addText(hole, unescape(part)));
  for (const match of text.matchAll(CODE_TAG)) {
    say(text.slice(at, match.index));
    at = match.index + match[0].length;
    const tag = match[0];
    if (tag.startsWith("<br")) addText(hole, "\n");
    else if (tag === "<pre>") {
      block = codeBlock("");
      parent.append(block.block);
      hole = block.code;
    } else if (tag === "</pre>") {
      block = null;
      hole = parent;
    } else if (tag.startsWith("<code")) {
      const language = /language-([^"]+)/.exec(tag)?.[1];
      if (block && language) {
        block.code.className = `language-${language}`;
        block.block.dataset.language = language;
      } else if (!block) {
        hole = make("code");
        parent.append(hole);
      }
    } else if (!block) hole = parent;
  }
  say(text.slice(at));
}
