// The official SDKs, each in a program of its own that prints a line of JSON for each thing it tried.

import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { describe, test } from "node:test";
import { PROVIDER_KEY, Program, Stage, litellm, price, python } from "./stage.mjs";

const node = process.execPath;
const SUITES = [
  { name: "openai for Python", command: [python, "suites/openai_suite.py"], least: 50 },
  { name: "anthropic for Python", command: [python, "suites/anthropic_suite.py"], least: 35 },
  { name: "google-genai for Python", command: [python, "suites/genai_suite.py"], least: 30 },
  { name: "the description", command: [python, "suites/openapi_suite.py"], least: 45 },
  { name: "litellm", command: [litellm, "suites/litellm_suite.py"], least: 20 },
  { name: "openai for Node", command: [node, "suites/openai.mjs"], least: 45 },
  { name: "@anthropic-ai/sdk", command: [node, "suites/anthropic.mjs"], least: 30 },
  { name: "@google/genai", command: [node, "suites/genai.mjs"], least: 15 },
];

describe("official SDKs", { concurrency: availableParallelism() }, () => {
  for (const suite of SUITES) test(suite.name, (context) => play(context, suite));
});

async function play(context, { command: [program, ...args], least }) {
  const stage = new Stage();
  try {
    await stage.open();
    const suite = new Program(program, args, { env: stage.env });
    const how = await suite.gone;
    const tried = suite.printed.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    for (const { name, error } of tried) await context.test(name, () => assert.ok(!error, error));
    assert.equal(how, 0, suite.output);
    assert.ok(tried.length >= least, `only ${tried.length} things were tried`);
    await context.test("every call was asked with the provider's key, and is in the ledger to the token", () => audit(stage));
  } finally {
    await stage.close();
  }
}

/** Holds what the upstream counted against what Salon charged. */
async function audit(stage) {
  const calls = (await stage.calls()).filter(({ path }) => !path.includes("count"));
  const { calls: rows, attempts, entries } = await stage.ledger();
  assert.deepEqual([...new Set(calls.map(({ key }) => key))], [PROVIDER_KEY]);
  assert.equal(attempts.length, calls.length, "as many attempts as the upstream saw");
  assert.deepEqual(rows.filter(({ state }) => !["settled", "released", "denied", "unknown"].includes(state)), [], "calls without an end");
  assert.deepEqual(entries.filter(({ suspect }) => suspect), [], "claims that Salon does not believe");

  const answered = calls.filter(({ status, trouble, finished }) => status === 200 && !trouble && finished);
  const of = (list) => list.map(({ model, input, output }) => `${model} ${input}+${output}`).sort();
  const exact = entries.filter(({ estimated }) => !estimated);
  assert.deepEqual(of(exact), of(answered.map(({ model, usage }) => ({ model, ...usage }))));
  for (const entry of exact) assert.equal(entry.micros, price(entry.model, entry), JSON.stringify(entry));
  assert.ok(exact.length > 0);
}
