// A conversation that goes on without loading the page: questions are sent, answers are followed. Everything here is also
// done by the forms alone.

const turns = document.getElementById("turns");
const composer = document.querySelector("form.composer");
const box = composer.querySelector("textarea");
const words = document.getElementById("words").dataset;
const seal = turns.dataset.seal;

// The server's own HTML, in which nothing of what a model wrote is HTML, passes here and nowhere else.
const gate = window.trustedTypes
  ? window.trustedTypes.createPolicy("salon", { createHTML: (html) => html })
  : { createHTML: (html) => html };

// What only those need who have no script.
document.body.classList.add("live");

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = gate.createHTML(html.trim());
  return template.content.firstElementChild;
}

function atEnd() {
  return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 120;
}

function toEnd() {
  window.scrollTo({ top: document.documentElement.scrollHeight });
}

function adorn(scope) {
  for (const pre of scope.querySelectorAll(".answer pre")) {
    if (pre.querySelector(".copy")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = words.copy;
    button.addEventListener("click", async () => {
      const code = pre.querySelector("code") ?? pre;
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = words.copied;
      setTimeout(() => { button.textContent = words.copy; }, 1500);
    });
    pre.append(button);
  }
}

function working() {
  const halt = document.querySelector("button.halt");
  const open = turns.querySelector("[data-stream]");
  if (halt) halt.hidden = !open;
  const suggest = document.querySelector(".suggest");
  if (suggest) suggest.hidden = Boolean(open) || box.value !== "";
}

function follow(article) {
  const source = new EventSource(article.dataset.stream);
  let answer = article.querySelector(".answer");
  source.addEventListener("answer", (event) => {
    const { from, blocks } = JSON.parse(event.data);
    const stay = atEnd();
    while (answer.children.length > from) answer.lastElementChild.remove();
    for (const html of blocks) {
      const block = document.createElement("div");
      block.className = "block";
      block.innerHTML = gate.createHTML(html);
      answer.append(block);
    }
    if (stay) toEnd();
  });
  source.addEventListener("aside", (event) => {
    const stay = atEnd();
    article.querySelector(".aside").innerHTML = gate.createHTML(JSON.parse(event.data).html);
    if (stay) toEnd();
  });
  source.addEventListener("whole", (event) => {
    source.close();
    const stay = atEnd();
    const whole = element(JSON.parse(event.data).html);
    article.replaceWith(whole);
    adorn(whole);
    working();
    if (stay) toEnd();
  });
  // Whoever reads is logged in no more: the page says so by being asked for again.
  source.addEventListener("gone", () => {
    source.close();
    window.location.reload();
  });
  source.addEventListener("open", () => { lost(article, false); });
  source.addEventListener("error", () => {
    // The browser comes again by itself; a stream that was refused says so by being closed.
    lost(article, source.readyState === EventSource.CLOSED);
  });
}

function lost(article, is) {
  let line = article.querySelector(".lost");
  if (!is) { line?.remove(); return; }
  if (line) return;
  line = document.createElement("p");
  line.className = "wrong lost";
  line.textContent = words.lost;
  article.append(line);
}

async function send(url, fields, { quiet = false } = {}) {
  // Only a form with files goes as it is; the others are sent as forms usually are.
  const body = fields instanceof FormData && fields.has("file") ? fields : new URLSearchParams(fields);
  const response = await fetch(url, { method: "POST", body, headers: { "x-salon-part": "1" }, redirect: "manual" });
  if (response.type === "opaqueredirect" || response.status === 401) { window.location.reload(); return null; }
  if (quiet) return response;
  const type = response.headers.get("content-type") ?? "";
  if (!response.ok || !type.startsWith("text/html")) {
    const told = type.startsWith("application/json") ? (await response.json()).detail : null;
    throw new Error(told ?? words.broken);
  }
  return { html: await response.text(), at: response.headers.get("x-salon-at") };
}

function complain(error) {
  let line = composer.querySelector(".wrong");
  if (!line) {
    line = document.createElement("p");
    line.className = "wrong";
    line.setAttribute("role", "alert");
    composer.querySelector(".box").before(line);
  }
  line.textContent = error.message || words.broken;
}

// What can be suggested before anybody was asked for more.
const usual = composer.querySelector(".suggest")?.cloneNode(true);

function add(html) {
  turns.querySelector(".welcome")?.remove();
  if (usual) composer.querySelector(".suggest").replaceWith(usual.cloneNode(true));
  const article = element(html);
  turns.append(article);
  if (article.dataset.stream) follow(article);
  adorn(article);
  working();
  toEnd();
}

composer.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(composer);
  if (!fields.get("text").trim()) return;
  const button = composer.querySelector(".send");
  button.disabled = true;
  try {
    const sent = await send(composer.action, fields);
    if (!sent) return;
    composer.querySelector(".wrong")?.remove();
    if (sent.at && window.location.pathname !== sent.at) {
      // A conversation has begun: it has an address from now on, and all the controls of one.
      window.location.assign(sent.at);
      return;
    }
    box.value = "";
    files.value = "";
    picked();
    composer.elements.request.value = fresh();
    add(sent.html);
  } catch (error) {
    complain(error);
  } finally {
    button.disabled = false;
    box.focus();
  }
});

// A name for the next question, as the server makes them: so the same one is never asked twice.
function fresh() {
  const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const random = crypto.getRandomValues(new Uint8Array(26));
  return Array.from(random, (byte) => letters[byte % 32]).join("");
}

box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
// What was chosen, dropped or pasted is named above the box.
const files = composer.elements.file;
function picked() {
  const line = composer.querySelector(".picked");
  const names = Array.from(files.files, (file) => file.name);
  line.hidden = names.length === 0;
  line.textContent = names.join(", ");
}
function take(list) {
  if (list.length === 0) return false;
  const all = new DataTransfer();
  for (const file of [...files.files, ...list]) all.items.add(file);
  files.files = all.files;
  picked();
  return true;
}
files.addEventListener("change", picked);
box.addEventListener("paste", (event) => { if (take(event.clipboardData.files)) event.preventDefault(); });
document.addEventListener("dragover", (event) => { event.preventDefault(); });
document.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });

box.addEventListener("input", working);

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && !typing) { event.preventDefault(); box.focus(); }
  if (event.key === "Escape") {
    const halt = document.querySelector("button.halt");
    if (halt && !halt.hidden) halt.form.requestSubmit();
  }
});

turns.addEventListener("submit", async (event) => {
  const form = event.target;
  const quiet = form.matches("[data-quiet]");
  if (!quiet && !form.matches("[data-say]")) return;
  event.preventDefault();
  const fields = new FormData(form, event.submitter);
  try {
    const sent = await send(form.action, fields, { quiet });
    if (sent?.html) add(sent.html);
  } catch (error) {
    complain(error);
  }
});

document.getElementById("halt")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  await send(event.target.action, { seal }, { quiet: true });
});

// What could be asked next fills the box; whoever wants it sends it.
composer.addEventListener("click", (event) => {
  const button = event.target.closest(".suggest button[name=q]");
  if (!button) return;
  event.preventDefault();
  box.value = button.value;
  working();
  box.focus();
});

document.getElementById("suggest")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter;
  button.disabled = true;
  const response = await send(event.target.action, { seal }, { quiet: true }).catch(() => null);
  button.disabled = false;
  const type = response?.headers.get("content-type") ?? "";
  // Another question may have been asked meanwhile: then there is no such button any more.
  if (!response || !type.startsWith("text/html") || !button.isConnected) return;
  composer.querySelector(".suggest").replaceWith(element(await response.text()));
  working();
  composer.querySelector(".suggest:not([hidden]) button")?.focus();
});

for (const article of turns.querySelectorAll("[data-stream]")) follow(article);
adorn(document);
working();
if (turns.children.length > 1 && !window.location.hash) toEnd();
