// What the suites for Node share: a list of things to try, and trouble at the scripted upstream.

import assert from "node:assert/strict";

export const { SALON_URL, SALON_KEY, SALON_NARROW_KEY, UPSTREAM_URL } = process.env;
export const WRONG_KEY = `${SALON_KEY.slice(0, -3)}xyz`;
/** The wait that it asks for is longer than any pause an SDK would make by itself. */
export const BUSY = "429:2";
export const BUSY_MS = 2000;
export const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const WEATHER = "What the weather is like in a city.";
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
export const ONE_CALL = '[[call:weather {"city":"Oslo"}]]';
export const TWO_CALLS = '[[call:weather {"city":"Oslo"}]] [[call:weather {"city":"Seoul"}]]';
/** Dollars for a million tokens in and out. */
const RATES = { "mock-gpt": [1, 2], "mock-claude": [3, 15], "mock-gemini": [1, 4], "mock-vectors": [1, 0] };

const checks = [];

/** Has this tried, once for each of the models. */
export function check(name, models, work) {
  if (!models) checks.push([name, () => work()]);
  for (const model of models ?? []) checks.push([`${name}: ${model}`, () => work(model)]);
}

/** Tries everything in order and prints how each went. It ends well if it gets to the end. */
export async function run() {
  const only = process.argv.slice(2);
  for (const [name, work] of checks) {
    if (!only.every((word) => name.includes(word))) continue;
    const error = await Promise.resolve().then(work).then(() => null, (error) => `${error?.stack ?? error}`);
    console.log(JSON.stringify({ name, error }));
  }
}

async function control(method, what, body) {
  const init = { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body) };
  const answer = await (await fetch(`${UPSTREAM_URL}/_mock/upstream/${what}`, init)).json();
  assert.ok(answer.ok, JSON.stringify(answer));
  return answer.result;
}

/** As long as the work lasts the upstream makes this trouble. */
export async function trouble(mode, work, rule = {}) {
  await control("POST", "troubles", { mode, ...rule });
  try {
    return await work();
  } finally {
    await control("DELETE", "troubles");
  }
}

export const upstreamCalls = async () => (await control("GET", "calls")).calls;
export const lastCall = async () => (await upstreamCalls()).at(-1);

/** The work must lead to so many calls of the upstream. */
export async function calls(number, work) {
  const before = (await upstreamCalls()).length;
  await work();
  assert.equal((await upstreamCalls()).length - before, number, "calls of the upstream");
}

/** The work must fail with exactly this kind of error. */
export async function raises(kind, status, work) {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof kind, `${error?.constructor?.name} instead of ${kind.name}: ${error}`);
    if (status !== undefined) assert.equal(error.status, status, `${error}`);
    return true;
  });
}

export async function costsWhatTheUpstreamCounted(headers) {
  const { model, usage } = await lastCall();
  const [whole, part] = headers.get("x-salon-cost").split(".");
  const [input, output] = RATES[model];
  assert.equal(Number(whole) * 1e6 + Number(part.padEnd(6, "0")), usage.input * input + usage.output * output);
}

export async function waits(work) {
  const begun = performance.now();
  await work();
  assert.ok(performance.now() - begun >= BUSY_MS - 5, "it did not wait");
}

export async function all(stream) {
  const found = [];
  for await (const one of stream) found.push(one);
  return found;
}
