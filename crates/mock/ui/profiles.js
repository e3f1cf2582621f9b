// The conversations in the sidebar: one profile per bot, kept in the browser under the name older tests know.

const STORAGE_KEY = "mock_messenger_ui_state_v3";
const DEFAULTS = { token: "mock_token_1", chat_id: 1001, user_id: 9001 };

let profiles = [];
let selectedId = null;

export const list = () => profiles;
export const selected = () => profiles.find((profile) => profile.profile_id === selectedId) ?? null;
export const find = (id) => profiles.find((profile) => profile.profile_id === id) ?? null;
export const ticked = () => profiles.filter((profile) => profile.selected_for_parallel);

/** A whole number as people type it, or null. Chat ids of groups are negative. */
export function toId(text) {
  const number = /^-?\d{1,16}$/.test(String(text).trim()) ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? number : null;
}

/** Reads what was kept; anything odd in it is dropped rather than shown. */
export function load() {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? {};
  } catch {
    // A first visit, or somebody else's text under our name.
  }
  profiles = [];
  for (const entry of Array.isArray(stored.profiles) ? stored.profiles : []) {
    if (entry && typeof entry.token === "string" && entry.token) keep(entry);
  }
  selectedId = find(stored.selected_profile_id) ? stored.selected_profile_id : (profiles[0]?.profile_id ?? null);
}

export function save() {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify({ selected_profile_id: selectedId, profiles }));
  } catch {
    // Private windows may refuse; the page works on without a memory.
  }
}

export function select(id) {
  if (!find(id)) return;
  selectedId = id;
  save();
}

/** Adds a profile, or changes the one that already stands for this bot. */
export function add(entry) {
  const profile = keep(entry);
  selectedId ??= profile.profile_id;
  save();
  return profile;
}

export function update(id, changes) {
  const profile = find(id);
  if (profile) Object.assign(profile, changes);
  save();
}

/** Forgets a profile; a neighbour is selected in its place. */
export function remove(id) {
  const index = profiles.findIndex((profile) => profile.profile_id === id);
  if (index < 0) return;
  profiles.splice(index, 1);
  if (selectedId === id) selectedId = (profiles[index] ?? profiles[index - 1])?.profile_id ?? null;
  save();
}

/** Every bot of the catalog gets a profile; one that came from it goes with it. */
export function mergeCatalog(bots) {
  const known = new Set(bots.map((bot) => bot.bot_id));
  for (const profile of [...profiles]) {
    if (profile.from_catalog && !known.has(profile.bot_id)) remove(profile.profile_id);
  }
  for (const bot of bots) {
    const profile = profiles.find(({ bot_id, token }) => bot_id === bot.bot_id || (!bot_id && token === bot.token));
    if (profile) Object.assign(profile, { bot_id: bot.bot_id, token: bot.token, from_catalog: true });
    else keep({ bot_id: bot.bot_id, token: bot.token, label: bot.name || bot.bot_id, from_catalog: true });
  }
  selectedId = find(selectedId) ? selectedId : (profiles[0]?.profile_id ?? null);
  save();
}

/** What the address of the page asks for: `?token`, `?chat_id`, `?user_id`. */
export function applyQuery(query) {
  const token = query.get("token");
  const changes = {};
  for (const name of ["chat_id", "user_id"]) {
    const id = toId(query.get(name) ?? "");
    if (id !== null) changes[name] = id;
  }
  if (token) {
    const profile = profiles.find((candidate) => candidate.token === token) ?? keep({ token, label: token });
    selectedId = profile.profile_id;
  }
  if (selectedId) update(selectedId, changes);
}

/** Without any bot at all, the fields of the session section still lead somewhere. */
export const fallback = () => ({ profile_id: "", label: "", bot_id: "", ...DEFAULTS, selected_for_parallel: false });

function keep(entry) {
  const botId = typeof entry.bot_id === "string" ? entry.bot_id : "";
  const known = botId ? profiles.find((profile) => profile.bot_id === botId) : null;
  if (known) return known;
  const profile = {
    profile_id: typeof entry.profile_id === "string" && entry.profile_id ? entry.profile_id : newId(botId || entry.token),
    label: String(entry.label || botId || entry.token).slice(0, 80),
    bot_id: botId,
    token: entry.token,
    chat_id: toId(entry.chat_id ?? "") ?? DEFAULTS.chat_id,
    user_id: toId(entry.user_id ?? "") ?? DEFAULTS.user_id,
    selected_for_parallel: entry.selected_for_parallel === true,
    from_catalog: entry.from_catalog === true,
  };
  profiles.push(profile);
  return profile;
}

function newId(name) {
  let id = `profile-${name}`;
  for (let n = 2; find(id); n += 1) id = `profile-${name}-${n}`;
  return id;
}
