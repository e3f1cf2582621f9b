// The messenger page. This file is the glue: it asks the server, keeps what is known, and hands it to
// the parts that draw (sidebar, timeline, suggestions, parallel answers, side panel).

import * as api from "./api.js";
import { Panel } from "./panel.js";
import { Parallel } from "./parallel.js";
import * as profiles from "./profiles.js";
import { avatar, drawSidebar } from "./sidebar.js";
import { Suggest } from "./suggest.js";
import { icon, make } from "./text.js";
import { isWriting, sizeName, Timeline, toItems, toRows } from "./timeline.js";
import { hasWord, language, nameControl, setLanguage, t, translatePage } from "./words.js";

const POLL_MS = 1000;
/** While the event stream is up, polling only guards against what it may have missed. */
const CALM_POLL_MS = 3000;
const SIDEBAR_MS = 5000;
const FIRST_LIMIT = 120;
const MOST_MESSAGES = 1000;
const PRESS_MS = 15_000;
/** What the catalog takes for a new bot; one like any other bot, the demo's parrot say, is an echo. */
const ADAPTERS = ["echo", "parrot", "storyteller", "model", "codex", "gemini", "claude"];
const MOST_FILE_BYTES = 20 * 1024 * 1024;

const $ = (id) => document.getElementById(id);
const field = $("message-input");

/** What is known at this moment; everything on the page is drawn from here. */
const now = {
  catalog: [],
  diagnostics: new Map(),
  threads: [],
  seen: new Map(),
  messages: null,
  failed: false,
  limit: FIRST_LIMIT,
  state: null,
  essential: recall("mock_messenger_essential") !== "0",
  online: true,
  streaming: false,
  pending: [],
  busy: new Set(),
  pressed: new Map(),
  drafts: new Map(),
  editing: null,
  file: null,
};

const timeline = new Timeline($("timeline-list"), $("jump-btn"), $("jump-count"));
const suggest = new Suggest(field, $("command-suggest"));
const parallel = new Parallel($("parallel-results"), $("compare-columns"), (id) => choose(id));
const panel = new Panel({ target, toast, refresh: () => refreshState(), onTarget: changeTarget, say: (text) => say(text) });

// ---------------------------------------------------------------- beginning

async function start() {
  profiles.load();
  applyLanguage();
  wire();
  drawAll();
  // Only with the catalog known is it clear whether `?token=` names one of its bots.
  await refreshCatalog();
  profiles.applyQuery(new URLSearchParams(location.search));
  panel.showTarget(target());
  drawAll();
  refreshAll();
  api.watch(heard, (up) => {
    now.streaming = up;
    if (up) refreshAll();
  });
  tick();
  setInterval(() => document.hidden || (refreshCatalog(), refreshSidebar()), SIDEBAR_MS);
}

function tick() {
  setTimeout(async () => {
    if (!document.hidden) await Promise.all([refreshMessages(), refreshState()]);
    tick();
  }, now.streaming ? CALM_POLL_MS : POLL_MS);
}

function wire() {
  $("composer").addEventListener("submit", (event) => (event.preventDefault(), submit()));
  field.addEventListener("keydown", onFieldKey);
  field.addEventListener("input", () => (keepDraft(), fitField(field)));
  field.addEventListener("change", () => (keepDraft(), fitField(field)));
  field.addEventListener("paste", (event) => event.clipboardData?.files.length && (event.preventDefault(), attach(event.clipboardData.files[0])));
  $("attach-btn").addEventListener("click", () => $("file-input").click());
  $("file-input").addEventListener("change", (event) => attach(event.target.files[0]));
  $("remove-attachment-btn").addEventListener("click", () => attach(null));
  $("cancel-edit-btn").addEventListener("click", () => edit(null));
  wireDrop($("timeline-panel"));

  $("timeline-list").addEventListener("click", onTimelineClick);
  $("timeline-list").addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && event.target.matches("span[role=button]")) (event.preventDefault(), event.target.click());
  });
  $("compare-columns").addEventListener("click", onTimelineClick);
  $("clear-timeline-btn").addEventListener("click", clearTimeline);

  $("bot-list").addEventListener("click", onSidebarClick);
  $("bot-list").addEventListener("change", (event) => {
    profiles.update(event.target.dataset.profile, { selected_for_parallel: event.target.checked });
    drawParallelHint();
  });
  $("add-profile-btn").addEventListener("click", addBot);
  $("parallel-send-btn").addEventListener("click", askSeveral);
  $("parallel-message-input").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) (event.preventDefault(), askSeveral());
  });
  $("open-compare-btn").addEventListener("click", () => (showCompare(true), openDrawer(null)));
  $("close-compare-btn").addEventListener("click", () => showCompare(false));

  $("toggle-essential-btn").addEventListener("click", () => {
    now.essential = !now.essential;
    remember("mock_messenger_essential", now.essential ? "1" : "0");
    drawAll();
  });
  $("refresh-state-btn").addEventListener("click", async (event) => {
    const button = event.currentTarget;
    button.classList.add("is-turning");
    await Promise.all([refreshCatalog(), refreshAll()]);
    button.classList.remove("is-turning");
  });
  $("theme-btn").addEventListener("click", nextTheme);
  $("language-select").addEventListener("change", (event) => (setLanguage(event.target.value), applyLanguage(), drawAll()));

  $("open-bots-btn").addEventListener("click", () => openDrawer("bots"));
  $("open-panel-btn").addEventListener("click", () => openDrawer("panel"));
  $("backdrop").addEventListener("click", () => openDrawer(null));
  for (const button of document.querySelectorAll("[data-close-drawer]")) button.addEventListener("click", () => openDrawer(null));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (document.body.dataset.drawer) openDrawer(null);
    else if (!$("compare-board").hidden) showCompare(false);
    else if (now.editing) edit(null);
  });
  document.addEventListener("visibilitychange", () => document.hidden || refreshAll());
  addEventListener("online", refreshAll);

  $("profile-form").addEventListener("submit", (event) => (event.preventDefault(), saveProfile()));
  $("profile-cancel-btn").addEventListener("click", () => $("profile-dialog").close());
}

// ---------------------------------------------------------------- asking the server

/** Where words go: the selected profile, or the fields of the session section. */
function target() {
  return profiles.selected() ?? { ...profiles.fallback(), ...panel?.typed() };
}

/** One call at a time; those that come meanwhile become one more afterwards. */
function coalesce(work) {
  let running = null;
  let again = false;
  const run = async () => {
    do {
      again = false;
      try {
        await work();
        setOnline(true);
      } catch (error) {
        if (!(error instanceof api.CallError)) throw error;
        if (error.status === 0) setOnline(false);
      }
    } while (again);
    running = null;
  };
  return () => {
    if (running) again = true;
    else running = run();
    return running;
  };
}

const refreshMessages = coalesce(async () => {
  const { profile_id, token, chat_id } = target();
  const limit = now.limit;
  try {
    const found = await api.messages(token, chat_id, limit);
    if (!isCurrent(profile_id, chat_id, token)) return;
    now.messages = found.messages;
    now.failed = false;
    noteCallbacks(found.callback_answers ?? []);
    now.pending = now.pending.filter((pending) => !pending.done && !found.messages.some((message) => message.message_id > pending.after && message.direction === "user" && message.text === pending.text));
  } catch (error) {
    now.failed = isCurrent(profile_id, chat_id, token) && !now.messages;
    drawTimeline();
    throw error;
  }
  drawTimeline();
});

const refreshState = coalesce(async () => {
  const { profile_id, token, chat_id, bot_id } = target();
  const [state, threads, diagnostics] = await Promise.all([api.state(token), api.threads(), isInCatalog(bot_id) ? api.diagnostics(bot_id, token, chat_id).catch(unlessOffline) : null]);
  now.threads = threads ?? [];
  if (!isCurrent(profile_id, chat_id, token)) return;
  now.state = state;
  if (bot_id) now.diagnostics.set(bot_id, diagnostics);
  noteUnread();
  drawStatus();
  drawBots();
  drawTimeline();
});

const refreshSidebar = coalesce(async () => {
  const others = profiles.list().filter((profile) => profile.bot_id && profile.profile_id !== target().profile_id && isInCatalog(profile.bot_id));
  await Promise.all(others.map(async ({ bot_id, token, chat_id }) => now.diagnostics.set(bot_id, await api.diagnostics(bot_id, token, chat_id).catch(unlessOffline))));
  drawBots();
});

const refreshCatalog = coalesce(async () => {
  const { bots } = await api.catalog();
  const before = profiles.selected()?.profile_id;
  now.catalog = Array.isArray(bots) ? bots : [];
  profiles.mergeCatalog(now.catalog);
  if (before !== profiles.selected()?.profile_id) showTarget();
  drawBots();
});

function refreshAll() {
  return Promise.all([refreshMessages(), refreshState(), refreshSidebar()]);
}

/** A line of the event stream: something changed, here or in another chat. */
function heard({ token, chat_id: chat, kind } = {}) {
  const here = target();
  if (kind === "catalog") refreshCatalog();
  if (!token || (token === here.token && (chat === undefined || chat === null || Number(chat) === here.chat_id))) refreshMessages();
  // Edits come in quick succession; the state around them may be looked at more calmly.
  stateTimer ||= setTimeout(() => ((stateTimer = 0), refreshState()), POLL_MS / 2);
}

let stateTimer = 0;

function isCurrent(profileId, chatId, token) {
  const here = target();
  return here.profile_id === profileId && here.chat_id === chatId && here.token === token;
}

function isInCatalog(botId) {
  return Boolean(botId) && now.catalog.some((bot) => bot.bot_id === botId);
}

/** One bot's bad answer must not hide the others; no answer at all means the messenger is away. */
function unlessOffline(error) {
  if (error.status === 0) throw error;
  return null;
}

function setOnline(online) {
  if (now.online === online) return;
  now.online = online;
  $("offline-banner").hidden = online;
  document.body.classList.toggle("is-offline", !online);
  if (online) refreshAll();
}

// ---------------------------------------------------------------- saying things

async function submit() {
  const text = field.value.trim();
  if (now.editing) return saveEdit(text);
  if (now.file) return sendFile(text);
  if (!text) return field.focus();
  setField("");
  if (!(await say(text)) && !field.value) setField(text);
}

/** Sends a text to the selected bot; the bubble is there before the server has answered. */
async function say(text) {
  const here = target();
  const pending = { id: `${Date.now()}-${Math.random()}`, text, after: Math.max(0, ...(now.messages ?? []).filter((message) => !message.is_draft).map((message) => message.message_id)), at: Date.now(), profile: here.profile_id };
  now.pending.push(pending);
  showCompare(false);
  openDrawer(null);
  drawTimeline(true);
  try {
    const result = await api.say(here.token, here.chat_id, here.user_id, text);
    pending.done = true;
    if (result?.webhook_error) toast(t("webhookFailed", { error: result.webhook_error }), "bad");
    return true;
  } catch (error) {
    now.pending = now.pending.filter((other) => other !== pending);
    toast(t("notSent", { error: reason(error) }), "bad");
    return false;
  } finally {
    // Not waited for: words that were not sent come back together with the reason, not a round trip later.
    refreshMessages();
    refreshState();
  }
}

async function sendFile(caption) {
  const here = target();
  const file = now.file;
  setField("");
  attach(null);
  try {
    await api.upload(here.token, here.chat_id, here.user_id, file, caption);
  } catch (error) {
    toast(t("notSent", { error: reason(error) }), "bad");
    if (!now.file) attach(file);
    if (!field.value) setField(caption);
  }
  await refreshMessages();
  timeline.toEnd();
}

function attach(file) {
  $("file-input").value = "";
  if (file && file.size > MOST_FILE_BYTES) {
    toast(t("tooLarge", { n: MOST_FILE_BYTES / 1024 / 1024 }), "bad");
    return;
  }
  const thumb = $("attachment-thumb");
  thumb.removeAttribute("src");
  now.file = file ?? null;
  const isImage = /^image\/(png|jpeg|gif|webp)$/.test(file?.type ?? "");
  if (isImage) {
    const reader = new FileReader();
    reader.onload = () => now.file === file && (thumb.src = reader.result);
    reader.readAsDataURL(file);
  }
  thumb.hidden = !isImage;
  $("attachment-icon").toggleAttribute("hidden", isImage);
  $("attachment-bar").hidden = !file;
  $("attachment-name").textContent = file ? `${file.name} · ${sizeName(file.size)}` : "";
  if (file) field.focus();
}

function wireDrop(place) {
  let depth = 0;
  const show = (by) => {
    depth = Math.max(0, depth + by);
    $("drop-hint").hidden = depth === 0;
  };
  place.addEventListener("dragenter", (event) => event.dataTransfer.types.includes("Files") && (event.preventDefault(), show(1)));
  place.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
  place.addEventListener("dragleave", (event) => event.dataTransfer.types.includes("Files") && show(-1));
  place.addEventListener("drop", (event) => {
    depth = 0;
    show(0);
    if (event.dataTransfer.files.length > 0) (event.preventDefault(), attach(event.dataTransfer.files[0]));
  });
}

/** Starts or stops changing one of the reader's own messages. */
function edit(message) {
  now.editing = message;
  $("editing-bar").hidden = !message;
  setField(message ? message.text : (now.drafts.get(target().profile_id) ?? ""));
  field.focus();
}

async function saveEdit(text) {
  const here = target();
  const { message_id, text: before } = now.editing;
  if (!text || text === before) return edit(null);
  try {
    await api.edit(here.token, here.chat_id, here.user_id, message_id, text);
    edit(null);
  } catch (error) {
    toast(t("failed", { error: reason(error) }), "bad");
  }
  await refreshMessages();
}

function onFieldKey(event) {
  if (isComposing(event)) return;
  if (suggest.key(event)) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" && !field.value && !now.editing) {
    const last = (now.messages ?? []).findLast((message) => message.direction === "user" && message.text && !message.document);
    if (last) (event.preventDefault(), edit(last));
  }
}

/** An Enter that only finishes a syllable belongs to the input method, not to us. */
function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

function setField(text) {
  field.value = text;
  suggest.close();
  keepDraft();
  fitField(field);
}

function keepDraft() {
  if (!now.editing) now.drafts.set(target().profile_id, field.value);
}

function fitField(area) {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

// ---------------------------------------------------------------- the timeline

function drawTimeline(follow = false) {
  const here = target();
  const name = here.label || here.bot_id || here.token;
  const pending = now.pending.filter((entry) => entry.profile === here.profile_id);
  if (!now.messages && now.failed) return timeline.scene("failed", buildFailed);
  if (!now.messages) return timeline.scene("loading", buildLoading);
  const items = toItems(now.messages, now.essential);
  for (const entry of pending) items.push({ kind: "user", pending: entry.id, message: { message_id: "…", text: entry.text, created_at: entry.at } });
  if (items.length === 0) return timeline.scene("empty", () => buildEmpty(name));
  const run = now.diagnostics.get(here.bot_id)?.session?.run_status;
  const rows = toRows(items, { name, busy: now.busy, editable: true });
  if (now.messages.length >= now.limit && now.limit < MOST_MESSAGES) rows.unshift({ key: "earlier", signature: language(), build: buildEarlier });
  if (items.at(-1).kind === "user" && (run === "running" || run === "queued")) rows.push({ key: "typing", signature: name, build: () => buildTyping(name) });
  const fresh = timeline.show(rows, { follow });
  foldShortQuotes();
  announce(items, fresh);
  document.title = `${name} · Salon`;
}

let announced = "";
let announceTimer = 0;

/** Tells listeners of an answer once it has stopped growing, instead of at every edit. */
function announce(items, fresh) {
  const last = items.at(-1);
  if (last?.kind !== "bot") return;
  const text = last.told ?? last.message.text ?? "";
  const mark = `${target().profile_id}:${last.message.message_id}:${text}`;
  if (mark === announced) return;
  const first = announced === "" || fresh.length > 1;
  announced = mark;
  clearTimeout(announceTimer);
  if (!first) announceTimer = setTimeout(() => ($("announcer").textContent = `${target().label}: ${text.slice(0, 600)}`), 1500);
}

function foldShortQuotes() {
  for (const button of document.querySelectorAll("#timeline-list .expand-btn")) {
    const label = button.closest("blockquote").classList.contains("is-open") ? t("showLess") : t("showMore");
    nameControl(button, label);
  }
}

function buildLoading() {
  const lines = ["one", "two", "three"].map((size) => make("div", `skeleton ${size}`));
  const place = make("div", "scene is-loading", make("span", "visually-hidden", t("loading")), ...lines);
  return place;
}

function buildFailed() {
  const again = make("button", "btn btn-soft", t("retry"));
  again.type = "button";
  again.addEventListener("click", refreshAll);
  return make("div", "scene", icon("warn"), make("p", "scene-title", t("loadFailed")), again);
}

function buildEmpty(name) {
  const starters = make("div", "starters");
  for (const text of ["/start", t("starterHello"), t("starterStory"), "/help"]) {
    const button = make("button", "btn btn-soft starter-btn", text);
    button.type = "button";
    button.addEventListener("click", () => say(text));
    starters.append(button);
  }
  return make("div", "scene", avatar(name), make("p", "scene-title", t("emptyTitle", { name })), make("p", "hint", t("emptyHint")), starters);
}

function buildEarlier() {
  const button = make("button", "btn btn-quiet earlier-btn", t("earlier"));
  button.type = "button";
  button.addEventListener("click", () => {
    now.limit = Math.min(MOST_MESSAGES, now.limit * 2);
    refreshMessages();
  });
  return button;
}

function buildTyping(name) {
  return make("div", "bubble meta typing", make("span", "", t("writing", { name })), make("span", "dots", make("i"), make("i"), make("i")));
}

async function onTimelineClick(event) {
  const { target: at } = event;
  const key = at.closest(".keyboard-btn");
  if (key?.dataset.callback !== undefined) return pressKey(key);
  if (key?.dataset.copy) return copy(key.dataset.copy);
  const view = at.closest(".view-btn");
  if (view) return openView(view.dataset);
  const spoiler = at.closest(".spoiler:not(.is-revealed)");
  if (spoiler) return (event.preventDefault(), spoiler.classList.add("is-revealed"));
  const command = at.closest(".command-link");
  if (command) {
    // Side by side, a command belongs to the bot that named it.
    const column = at.closest(".compare-column");
    if (column) choose(column.dataset.profile);
    return say(command.dataset.command);
  }
  const copyButton = at.closest(".copy-btn");
  if (copyButton) return copy(copyButton.closest(".code-block").querySelector("code").textContent);
  const expand = at.closest(".expand-btn");
  if (expand) return (expand.closest("blockquote").classList.toggle("is-open"), foldShortQuotes());
  const editButton = at.closest(".edit-btn");
  if (editButton) {
    const id = editButton.closest(".bubble").dataset.id;
    const message = now.messages?.find((candidate) => candidate.direction === "user" && String(candidate.message_id) === id);
    if (message) edit(message);
  }
}

/**
 * Presses a button. It stays busy until the bot has answered, or has been silent for too long.
 * Side by side, a button belongs to the bot in whose column it is.
 */
async function pressKey(key) {
  const column = key.closest(".compare-column");
  const here = (column && profiles.find(column.dataset.profile)) || target();
  const { callback, message } = key.dataset;
  const mark = `${message}:${callback}`;
  if (now.busy.has(mark)) return;
  now.busy.add(mark);
  drawTimeline();
  try {
    const result = await api.press(here.token, here.chat_id, here.user_id, Number(message), callback);
    if (result.answer || !result.callback_query_id) return release(mark, result.answer);
    now.pressed.set(result.callback_query_id, mark);
    setTimeout(() => now.pressed.delete(result.callback_query_id) && release(mark), PRESS_MS);
  } catch (error) {
    release(mark);
    toast(t("failed", { error: reason(error) }), "bad");
  } finally {
    refreshMessages();
  }
}

function noteCallbacks(answers) {
  for (const answer of answers) {
    const mark = now.pressed.get(answer.id);
    if (mark === undefined || !answer.answered_at) continue;
    now.pressed.delete(answer.id);
    release(mark, answer);
  }
}

function release(mark, { text, show_alert: loud } = {}) {
  now.busy.delete(mark);
  drawTimeline();
  if (text && loud) showAlert(text);
  else if (text) toast(text);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("copied"));
  } catch {
    toast(t("failed", { error: "clipboard" }), "bad");
  }
}

async function clearTimeline() {
  const here = target();
  if (!confirm(t("confirmClear"))) return;
  try {
    await api.clear(here.token, here.chat_id);
    now.pending = [];
    edit(null);
    toast(t("cleared"));
  } catch (error) {
    toast(t("failed", { error: reason(error) }), "bad");
  }
  await refreshMessages();
  refreshState();
}

function openView({ view, url, name }) {
  const body = $("view-body");
  $("view-name").textContent = name;
  let shown;
  if (view === "image") {
    shown = make("img", "view-image");
    shown.alt = t("imageAlt", { name });
  } else {
    shown = make("iframe", "view-page");
    shown.setAttribute("sandbox", "");
    shown.setAttribute("referrerpolicy", "no-referrer");
    shown.title = t("pageFrame", { name });
  }
  shown.src = url;
  Object.assign($("view-download"), { href: url, download: name });
  body.replaceChildren(shown);
  $("view-dialog").showModal();
}

function showAlert(text) {
  $("alert-text").textContent = text;
  $("alert-dialog").showModal();
}

// ---------------------------------------------------------------- bots

function onSidebarClick(event) {
  if (event.target.closest(".bot-item-check")) return;
  const id = event.target.closest("[data-profile]")?.dataset.profile;
  if (!id) return;
  if (event.target.closest(".bot-item-delete-btn")) deleteBot(id);
  else if (event.target.closest(".bot-item-edit-btn")) openProfile(id);
  else choose(id);
}

/** Opens a bot's conversation; what was being written elsewhere waits there. */
function choose(id) {
  showCompare(false);
  openDrawer(null);
  if (profiles.selected()?.profile_id === id) return;
  profiles.select(id);
  showTarget();
  if (matchMedia("(hover: hover)").matches) field.focus();
}

/** Shows whatever is the target now, from the beginning. */
function showTarget() {
  const here = target();
  now.messages = null;
  now.failed = false;
  now.state = null;
  now.limit = FIRST_LIMIT;
  now.editing = null;
  announced = "";
  $("editing-bar").hidden = true;
  now.seen.delete(threadKey(here));
  timeline.reset();
  setField(now.drafts.get(here.profile_id) ?? "");
  panel.showTarget(here);
  drawAll();
  refreshMessages();
  refreshState();
}

/** The session fields were changed by hand: they belong to the selected profile. */
function changeTarget(changes) {
  const profile = profiles.selected();
  if (profile) profiles.update(profile.profile_id, changes);
  showTarget();
}

async function addBot() {
  const button = $("add-profile-btn");
  const here = target();
  const current = now.catalog.find((bot) => bot.bot_id === here.bot_id);
  button.disabled = true;
  button.lastElementChild.textContent = t("adding");
  try {
    const { bot } = await api.addBot(current ? { adapter: ADAPTERS.includes(current.default_adapter) ? current.default_adapter : "echo" } : {});
    const profile = profiles.add({ bot_id: bot.bot_id, token: bot.token, label: bot.name || bot.bot_id, chat_id: here.chat_id, user_id: here.user_id, from_catalog: true });
    now.catalog.push(bot);
    profiles.select(profile.profile_id);
    showTarget();
    toast(t("added", { name: profile.label }));
    await refreshCatalog();
    refreshState();
    document.querySelector(".bot-item.is-selected")?.scrollIntoView({ block: "nearest" });
  } catch (error) {
    toast(t("failed", { error: reason(error) }), "bad");
  } finally {
    button.disabled = false;
    button.lastElementChild.textContent = t("addBot");
  }
}

async function deleteBot(id) {
  const profile = profiles.find(id);
  const name = profile.label || profile.bot_id;
  if (!confirm(t("confirmDelete", { name }))) return;
  const known = isInCatalog(profile.bot_id);
  // Nobody asks after its health any more while it goes.
  now.catalog = now.catalog.filter((bot) => bot.bot_id !== profile.bot_id);
  try {
    if (known) await api.deleteBot(profile.bot_id);
  } catch (error) {
    // A bot that somebody else has deleted meanwhile may still be forgotten here.
    if (error.status !== 404) return (toast(t("failed", { error: reason(error) }), "bad"), refreshCatalog());
  }
  const wasShown = profiles.selected()?.profile_id === id;
  now.diagnostics.delete(profile.bot_id);
  now.drafts.delete(id);
  profiles.remove(id);
  toast(t("deleted", { name }));
  if (wasShown) showTarget();
  else drawBots();
  refreshCatalog();
}

let edited = null;

function openProfile(id) {
  edited = profiles.find(id);
  $("profile-label-input").value = edited.label;
  $("profile-bot-id-input").value = edited.bot_id;
  $("profile-chat-id-input").value = edited.chat_id;
  $("profile-user-id-input").value = edited.user_id;
  $("profile-error").textContent = "";
  $("profile-dialog").showModal();
}

function saveProfile() {
  const chatId = profiles.toId($("profile-chat-id-input").value);
  const userId = profiles.toId($("profile-user-id-input").value);
  if (chatId === null || userId === null) {
    $("profile-error").textContent = t("badNumber");
    $(chatId === null ? "profile-chat-id-input" : "profile-user-id-input").focus();
    return;
  }
  profiles.update(edited.profile_id, { label: $("profile-label-input").value.trim() || edited.bot_id, chat_id: chatId, user_id: userId });
  $("profile-dialog").close();
  if (edited.profile_id === target().profile_id) showTarget();
  else drawBots();
}

const threadKey = ({ token, chat_id: chat }) => `${token} ${chat}`;

/** What has come into other chats since they were last looked at. */
function noteUnread() {
  const here = target();
  for (const thread of now.threads) {
    const key = threadKey(thread);
    if (!now.seen.has(key) || key === threadKey(here) || thread.message_count < now.seen.get(key)) now.seen.set(key, thread.message_count);
  }
  for (const profile of profiles.list()) if (!now.seen.has(threadKey(profile))) now.seen.set(threadKey(profile), 0);
}

function unread(profile) {
  const thread = now.threads.find((candidate) => candidate.token === profile.token && Number(candidate.chat_id) === profile.chat_id);
  return thread ? Math.max(0, thread.message_count - (now.seen.get(threadKey(profile)) ?? thread.message_count)) : 0;
}

// ---------------------------------------------------------------- several bots at once

async function askSeveral() {
  const text = $("parallel-message-input").value.trim();
  const chosen = profiles.ticked();
  if (chosen.length < 2) return toast(t("parallelNeedTwo"), "bad");
  if (!text) return (toast(t("parallelNeedText"), "bad"), $("parallel-message-input").focus());
  const button = $("parallel-send-btn");
  if (button.disabled) return;
  button.disabled = true;
  button.textContent = t("parallelBusy");
  $("compare-question").textContent = text;
  $("parallel-message-input").value = "";
  openDrawer(null);
  showCompare(true);
  try {
    const asked = parallel.ask(chosen, text);
    $("open-compare-btn").hidden = false;
    await asked;
  } finally {
    button.disabled = false;
    button.textContent = t("parallelSend");
    refreshAll();
  }
}

/** Lays the answers over the conversation, which cannot be reached meanwhile. */
function showCompare(shown) {
  if ($("compare-board").hidden === !shown) return;
  $("compare-board").hidden = !shown;
  for (const covered of document.querySelectorAll(".timeline-head, .timeline-body")) covered.inert = shown;
  if (shown) $("close-compare-btn").focus();
}

function drawParallelHint() {
  const count = profiles.ticked().length;
  $("parallel-hint").textContent = count < 2 ? t("parallelHint") : t("parallelReady", { n: count });
}

// ---------------------------------------------------------------- drawing the rest

function drawAll() {
  drawBots();
  drawStatus();
  drawTimeline();
  const button = $("toggle-essential-btn");
  button.setAttribute("aria-pressed", String(now.essential));
  nameControl(button, t(now.essential ? "essentialOn" : "essentialOff"));
  document.body.classList.toggle("is-essential", now.essential);
  parallel.draw();
}

function drawBots() {
  drawSidebar($("bot-list"), profiles.list(), profiles.selected()?.profile_id, (profile) => {
    const found = now.diagnostics.get(profile.bot_id);
    return {
      bot: now.catalog.find((bot) => bot.bot_id === profile.bot_id),
      health: !isInCatalog(profile.bot_id) ? "gone" : found === undefined ? "wait" : found?.health?.bot?.ok ? "ok" : "fail",
      run: found?.session?.run_status,
      unread: unread(profile),
    };
  });
  drawParallelHint();
}

function drawStatus() {
  const here = target();
  const found = now.diagnostics.get(here.bot_id);
  const bot = now.catalog.find((candidate) => candidate.bot_id === here.bot_id);
  const session = found?.session ?? {};
  const name = here.label || here.bot_id || here.token;
  const agent = session.current_agent && session.current_agent !== "unknown" ? session.current_agent : (bot?.default_adapter ?? "–");
  const told = hasWord(`run_${session.run_status}`) ? session.run_status : "idle";
  const run = isWriting(now.messages?.at(-1)) ? "running" : told;
  const ok = found?.health?.bot?.ok;
  const health = found === undefined ? "checking" : ok ? "online" : isInCatalog(here.bot_id) ? "offlineStatus" : "gone";
  $("selected-status").replaceChildren(
    chip("bot", name),
    chip("agent", agent, t("agent")),
    chip("thread", session.thread_id ? shorten(session.thread_id) : t("none"), t("thread")),
    chip(`run is-${run}`, t(`run_${run}`), t("run")),
    chip(`health ${ok ? "ok" : found === undefined ? "wait" : "fail"}`, t(health), t("health")),
  );
  $("timeline-title").textContent = name;
  $("timeline-session-status").textContent = [t(`run_${run}`), session.session_id ? `session=${shorten(session.session_id)}` : ""].filter(Boolean).join(" · ");
  panel.showState({ bot, found, session, run, health: t(health), state: now.state, threads: now.threads, here });
}

function chip(kind, text, label) {
  const made = make("span", `chip chip-${kind}`, label ? make("span", "chip-label", label) : null, " ", make("span", "chip-text", text));
  made.title = label ? `${label}: ${text}` : text;
  return made;
}

const shorten = (id) => (String(id).length > 14 ? `${String(id).slice(0, 12)}…` : String(id));

function applyLanguage() {
  translatePage();
  $("language-select").value = language();
  drawThemeName();
  panel.translate();
  timeline.reset();
}

function nextTheme() {
  const order = { system: "light", light: "dark", dark: "system" };
  const next = order[document.documentElement.dataset.theme ?? "system"];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  remember("mock_messenger_theme", next);
  drawThemeName();
  toast($("theme-btn").title);
}

function drawThemeName() {
  nameControl($("theme-btn"), t({ light: "themeLight", dark: "themeDark" }[document.documentElement.dataset.theme] ?? "themeSystem"));
}

/** On narrow screens the two sides are drawers; what lies beneath cannot be reached while one is open. */
function openDrawer(name) {
  const before = document.body.dataset.drawer;
  if ((before ?? null) === name) return;
  if (name) document.body.dataset.drawer = name;
  else delete document.body.dataset.drawer;
  $("backdrop").hidden = !name;
  $("open-bots-btn").setAttribute("aria-expanded", String(name === "bots"));
  $("open-panel-btn").setAttribute("aria-expanded", String(name === "panel"));
  for (const part of document.querySelectorAll(".topbar, .timeline-panel")) part.inert = Boolean(name);
  if (name) $(name === "bots" ? "bot-sidebar" : "side-panel").querySelector("[data-close-drawer]").focus();
  else if (before) $(before === "bots" ? "open-bots-btn" : "open-panel-btn").focus();
}

/** Says something in passing. */
function toast(text, kind = "good") {
  const slip = make("div", `toast is-${kind}`, text);
  $("toasts").append(slip);
  while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
  setTimeout(() => slip.remove(), kind === "bad" ? 7000 : 3500);
}

function reason(error) {
  return error.status === 0 ? t("noServer") : error.message;
}

function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Nothing is lost but the memory of it.
  }
}

start();
