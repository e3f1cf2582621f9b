// Signs on at a real OpenID provider, if everything that is needed is there.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { salon } from "../sdks/stage.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const missing = [
  [salon, "the salon program; build it with `cargo build`, or set SALON_BIN to its path"],
  [`${here}node_modules`, "the packages of package-lock.json; fetch them with `npm ci --ignore-scripts`"],
].filter(([path]) => !existsSync(path));
for (const [path, what] of missing) console.error(`${path} is missing: it should be ${what}.`);
if (missing.length > 0) process.exit(1);

const tests = spawn(process.execPath, ["--test", "--test-timeout=120000", "--test-reporter=spec", ...process.argv.slice(2), "oidc.test.js"], { cwd: here, stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => tests.kill(signal));
tests.on("exit", (code) => process.exit(code ?? 1));
