// The list of bots: who is there, how they are, what is new.

import { iconButton, make, morph } from "./text.js";
import { t } from "./words.js";

const HUES = 6;

/** Draws the list anew, touching only what changed. `view` says what is known of each profile. */
export function drawSidebar(list, profiles, selectedId, view) {
  const focused = document.activeElement?.closest?.("#bot-list [data-profile]")?.dataset.profile;
  const wanted = document.createDocumentFragment();
  if (profiles.length === 0) wanted.append(make("li", "bot-empty", make("strong", "", t("noBots")), make("span", "", t("noBotsHint"))));
  for (const profile of profiles) wanted.append(buildItem(profile, profile.profile_id === selectedId, view(profile)));
  morph(list, wanted);
  for (const box of list.querySelectorAll(".bot-item-check")) box.checked = profiles.find((profile) => profile.profile_id === box.dataset.profile)?.selected_for_parallel ?? false;
  // A row that was deleted under the focus hands it on instead of dropping it.
  if (focused && !list.contains(document.activeElement)) list.querySelector(".bot-item-main")?.focus();
}

/** The circle with a bot's first letter; its colour follows from its name. */
export function avatar(name) {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7) % HUES;
  const circle = make("span", `avatar hue-${hue}`, [...name.trim()][0]?.toUpperCase() ?? "?");
  circle.setAttribute("aria-hidden", "true");
  return circle;
}

/** Shows as much of a token as tells it from others. */
export function maskToken(token) {
  return token.length <= 8 ? `${token.slice(0, 2)}…` : `${token.slice(0, 4)}…${token.slice(-4)}`;
}

function buildItem(profile, isSelected, { bot, health, run, unread }) {
  const name = profile.label || profile.bot_id;
  const item = make("li", isSelected ? "bot-item is-selected" : "bot-item");
  item.dataset.profile = profile.profile_id;
  item.dataset.botId = profile.bot_id;

  const status = make("span", `bot-item-status ${health}`, t({ ok: "online", fail: "offlineStatus", gone: "gone" }[health] ?? "checking"));
  if (health === "gone") status.classList.add("fail");
  const provider = make("span", "bot-item-provider", run === "running" || run === "queued" ? `${bot?.default_adapter ?? ""} · ${t(`run_${run}`)}` : (bot?.default_adapter ?? ""));
  const main = make(
    "button",
    "bot-item-main",
    avatar(name),
    make("span", "bot-item-words", make("span", "bot-item-title", name), " ", make("span", "bot-item-line", status, " ", provider)),
  );
  main.type = "button";
  main.dataset.profile = profile.profile_id;
  if (isSelected) main.setAttribute("aria-current", "true");
  if (unread > 0) {
    const badge = make("span", "bot-item-unread", String(unread));
    badge.title = t("unread", { n: unread });
    main.append(badge);
  }

  const check = make("input", "bot-item-check");
  check.type = "checkbox";
  check.dataset.profile = profile.profile_id;
  check.setAttribute("aria-label", t("selectForParallel", { name }));
  check.title = t("selectForParallel", { name });

  item.append(
    check,
    main,
    make("span", "bot-item-tools", withProfile(iconButton("bot-item-edit-btn", "pencil", t("editTitle", { name })), profile), withProfile(iconButton("bot-item-delete-btn", "trash", t("deleteBot", { name })), profile)),
    make("div", "bot-item-metas", make("span", "bot-item-meta", `bot_id=${profile.bot_id}`), make("span", "bot-item-meta", `token=${bot?.token_masked ?? maskToken(profile.token)}`), make("span", "bot-item-meta", `chat=${profile.chat_id} user=${profile.user_id}`)),
  );
  return item;
}

function withProfile(button, profile) {
  button.dataset.profile = profile.profile_id;
  return button;
}
