import assert from "node:assert/strict";
import { test } from "node:test";
import { becomes, choose, DESKTOP, lastAnswer, openAgents, PHONE, say, shoot } from "../house.mjs";

const house = openAgents();
/** The tool by which each agent runs a command, and what it calls the command. */
const TOOLS = { codex: ["exec_command", "cmd"], claude: ["Bash", "command"], gemini: ["run_shell_command", "command"] };
const answers = (page) => page.locator("#timeline-list .bubble.bot");
const key = (page, name) => answers(page).last().locator(".keyboard-btn", { hasText: name });

/** What makes an agent's model want to run a command. */
function command(agent, words) {
  const [tool, field] = TOOLS[agent];
  return `[[call:${tool} ${JSON.stringify({ [field]: words, description: "What was asked for" })}]]`;
}

/** By day and by night. */
async function shootBoth(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await shoot(page, `agents-${name}-${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

for (const [name, size, button, happens] of [["desktop", DESKTOP, "Allow once", true], ["phone", PHONE, "Deny", false]]) {
  test(`an agent asks before it runs a command, and hears "${button}" (${name})`, () =>
    house.visit({ size, chat: size.width }, async (page) => {
      await choose(page, "claude");
      await say(page, command("claude", "echo eggs > nest.txt && cat nest.txt nest.txt | tr e E"));
      const asked = answers(page).filter({ hasText: "🔐" }).last();
      await asked.waitFor();
      assert.match(await asked.innerText(), /echo eggs > nest\.txt && cat nest\.txt/);
      await becomes(() => asked.locator(".keyboard-btn").allInnerTexts(), (keys) => ["Allow once", "Allow for this run", "Deny"].every((key) => keys.includes(key)));
      await page.locator("#timeline-session-status", { hasText: "running" }).waitFor();
      await shootBoth(page, `asks-${name}`);
      await asked.locator(".keyboard-btn", { hasText: button }).click();
      await key(page, "What next?").waitFor();
      await answers(page).filter({ hasText: "The tool said" }).last().waitFor();
      // What the command printed was nowhere before.
      assert.equal((await answers(page).allInnerTexts()).some((text) => text.includes("Eggs")), happens);
      await shootBoth(page, `asked-${name}`);
    }));
}

for (const [name, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  test(`a tool that is at work is seen, and stopped with the agent (${name})`, () =>
    house.visit({ size, chat: size.width }, async (page) => {
      await choose(page, "codex");
      await say(page, command("codex", "sleep 63.5; true"));
      await answers(page).filter({ hasText: /⏳.*sleep 63\.5/ }).waitFor();
      await shootBoth(page, `works-${name}`);
      await key(page, "Stop").click();
      await answers(page).filter({ hasText: "⏹" }).waitFor({ timeout: 5000 });
      await page.locator("#timeline-session-status", { hasText: "idle" }).waitFor();
      await shoot(page, `agents-stopped-${name}`);
    }));
}

test("a page that an agent leaves is shown without its scripts, and a picture as a picture", () =>
  house.visit({ chat: 61, excused: [/Blocked script execution/] }, async (page) => {
    const picture = await page.evaluate(() => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 240, height: 150 });
      const pen = canvas.getContext("2d");
      for (const [colour, ...box] of [["#bcd8e6", 0, 0, 240, 150], ["#8a6a43", 50, 105, 140, 30], ["#f4efe2", 80, 70, 36, 45], ["#e9dfc8", 124, 70, 36, 45]]) {
        pen.fillStyle = colour;
        pen.fillRect(...box);
      }
      return canvas.toDataURL("image/png").split(",")[1];
    });
    const html = "<title>Nest</title><h1>Nest</h1><p>As it was written.</p><script>document.querySelector(`p`).textContent = `A script ran.`; top.ran = true</script>";
    await choose(page, "gemini");
    await say(page, command("gemini", `mkdir -p out; echo ${picture} | base64 -d > out/nest.png; echo '${html}' > out/nest.html`));
    const image = page.locator("#timeline-list .bubble-image");
    await image.waitFor();
    await becomes(() => image.evaluate((image) => image.naturalWidth), 240);
    const preview = page.locator("#timeline-list iframe.bubble-html-preview");
    await preview.waitFor();
    assert.equal(await preview.getAttribute("sandbox"), "");
    const written = preview.contentFrame().locator("p");
    await becomes(() => written.textContent(), "As it was written.");
    await answers(page).locator(".keyboard-btn", { hasText: "What next?" }).waitFor();
    await becomes(() => key(page, "What next?").or(answers(page).locator(".keyboard-btn", { hasText: "What next?" })).count(), (count) => count > 0);
    await shootBoth(page, "files-desktop");
    assert.equal(await written.textContent(), "As it was written.");
    assert.equal(await page.evaluate(() => window.ran), undefined);
    await page.setViewportSize(PHONE);
    // Whoever read the newest line still does.
    await becomes(() => page.locator("#timeline-list").evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight), (gap) => gap < 4);
    await shootBoth(page, "files-phone");
  }));

const ASKED = [
  ["desktop", DESKTOP, "three agents are asked at once, and all answer", "[[say:Here I am.]]"],
  ["phone", PHONE, "a text that begins with dashes is only a text, whoever gets it", "--version -h --dangerously-skip-permissions [[say:Here I am.]]"],
];
for (const [name, size, what, text] of ASKED) {
  test(`${what} (${name})`, () =>
    house.visit({ size, chat: 70 + size.width }, async (page) => {
      if (size === PHONE) await page.locator("#open-bots-btn").click();
      for (const bot of Object.keys(TOOLS)) await page.locator(".bot-item", { hasText: `bot_id=${bot}` }).locator(".bot-item-check").check();
      await page.locator("#parallel-message-input").fill(text);
      await page.locator("#parallel-send-btn").click();
      await page.locator("#parallel-results .parallel-status-pass").nth(2).waitFor({ state: "attached", timeout: 60_000 });
      for (const bot of Object.keys(TOOLS)) await page.locator(".compare-column", { hasText: bot }).locator(".bubble-text", { hasText: /^Here I am\.$/ }).waitFor();
      await shootBoth(page, `parallel-${name}`);
      await page.locator(".compare-column", { hasText: "claude" }).locator(".open-chat-btn").click();
      await page.locator("#timeline-list .bubble.user", { hasText: text }).waitFor();
      await lastAnswer(page).filter({ hasText: "Here I am." }).waitFor();
    }));
}

test("side by side, an agent that asks has not answered yet, and is allowed to in its column", () =>
  house.visit({ chat: 80 }, async (page) => {
    for (const bot of ["claude", "codex"]) await page.locator(".bot-item", { hasText: `bot_id=${bot}` }).locator(".bot-item-check").check();
    await page.locator("#parallel-message-input").fill(command("claude", "echo eggs > nest.txt; tr e E < nest.txt"));
    await page.locator("#parallel-send-btn").click();
    const column = page.locator(".compare-column", { hasText: "claude" });
    await column.locator(".keyboard-btn", { hasText: "Allow once" }).waitFor();
    await page.locator('.parallel-result-row[data-profile="profile-codex"] :is(.parallel-status-pass, .parallel-status-fail)').waitFor();
    assert.equal(await column.locator(".parallel-status-wait").count(), 1);
    await shootBoth(page, "asks-in-column");
    await column.locator(".keyboard-btn", { hasText: "Allow once" }).click();
    await column.locator(".bubble-text", { hasText: "Eggs" }).waitFor();
    await column.locator(".parallel-status-pass").waitFor();
  }));
