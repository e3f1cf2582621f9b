// Runs every browser test, two files at a time: each starts its own Salon, of which one mostly waits while the other is at
// work, and a small machine should not have to carry more at once.

import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium, salon } from "./house.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(`${here}tests`)
  .filter((name) => name.endsWith(".test.js") && (wanted.length === 0 || wanted.some((word) => name.includes(word))))
  .map((name) => `tests/${name}`);

const missing = [
  [chromium, "Chromium; set CHROMIUM to its path"],
  [salon, "the salon program; build it with `cargo build`, or set SALON_BIN to its path"],
].filter(([path]) => !existsSync(path));
for (const [path, what] of missing) console.error(`${path} is missing: it should be ${what}.`);
if (files.length === 0) console.error(`No test file is named like ${wanted.join(", ")}.`);
if (missing.length > 0 || files.length === 0) process.exit(1);

const tests = spawn(process.execPath, ["--test", "--test-concurrency=2", "--test-timeout=180000", "--test-reporter=spec", ...files], { cwd: here, stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => tests.kill(signal));
tests.on("exit", (code) => process.exit(code ?? 1));
