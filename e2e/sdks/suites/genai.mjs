// The @google/genai package: generateContent and the rest, to upstreams of three protocols.

import assert from "node:assert/strict";
import { ApiError, GoogleGenAI } from "@google/genai";
import { CITY, PIXEL, SALON_KEY, SALON_NARROW_KEY, SALON_URL, TWO_CALLS, ONE_CALL, WEATHER, WRONG_KEY, all, calls, check, lastCall, raises, run, trouble } from "./checks.mjs";

const clientOf = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: SALON_URL, timeout: 30_000 } });
const client = clientOf(SALON_KEY);
const ALL = ["gemini", "gpt", "claude"];
const tools = [{ functionDeclarations: [{ name: "weather", description: WEATHER, parametersJsonSchema: CITY }] }];
const ask = (more = {}, by = client) => by.models.generateContent({ model: "gemini", contents: "hi", ...more });

check("generate", ALL, async (model) => {
  const answer = await ask({ model, contents: "[[say:two storks]]", config: { systemInstruction: "Be kind." } });
  assert.equal(answer.text, "two storks");
  assert.equal(answer.candidates[0].finishReason, "STOP");
  const { usage } = await lastCall();
  assert.deepEqual([answer.usageMetadata.promptTokenCount, answer.usageMetadata.candidatesTokenCount], [usage.input, usage.output]);
});

check("stream", ALL, async (model) => {
  const chunks = await all(await client.models.generateContentStream({ model, contents: "[[say:two storks return]]" }));
  assert.equal(chunks.map(({ text }) => text ?? "").join(""), "two storks return");
  assert.equal(chunks.at(-1).candidates[0].finishReason, "STOP");
});

check("parallel tools and their results", ALL, async (model) => {
  const answer = await ask({ model, contents: TWO_CALLS, config: { tools } });
  assert.deepEqual(answer.functionCalls.map(({ args }) => args.city), ["Oslo", "Seoul"]);
  const parts = answer.functionCalls.map(({ id, name, args }) => ({ functionResponse: { id, name, response: { result: `rain in ${args.city}` } } }));
  const contents = [{ role: "user", parts: [{ text: TWO_CALLS }] }, answer.candidates[0].content, { role: "user", parts }];
  assert.match((await ask({ model, contents, config: { tools } })).text, /Seoul/);
});

check("streamed tools", ALL, async (model) => {
  const chunks = await all(await client.models.generateContentStream({ model, contents: ONE_CALL, config: { tools } }));
  assert.deepEqual(chunks.flatMap(({ functionCalls }) => functionCalls ?? []).map(({ args }) => args), [{ city: "Oslo" }]);
});

check("a schema", ALL, async (model) => {
  const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"] };
  const answer = await ask({ model, contents: "a bird", config: { responseMimeType: "application/json", responseJsonSchema: schema } });
  assert.deepEqual(JSON.parse(answer.text), { name: "storks", age: 7 });
});

check("an image", ALL, async (model) => {
  const contents = [{ role: "user", parts: [{ inlineData: { mimeType: "image/png", data: PIXEL } }, { text: "[[say:a dot]]" }] }];
  assert.equal((await ask({ model, contents })).text, "a dot");
  assert.ok((await lastCall()).body.includes(PIXEL));
});

check("tokens are counted", ALL, async (model) => {
  assert.ok((await client.models.countTokens({ model, contents: "stork ".repeat(200) })).totalTokens > 50);
});

check("models", null, async () => {
  const names = (await all(await client.models.list())).map(({ name }) => name);
  for (const name of ALL) assert.ok(names.includes(`models/${name}`), names);
  assert.equal((await client.models.get({ model: "gemini" })).name, "models/gemini");
});

check("errors have their status", null, async () => {
  await calls(0, async () => {
    await raises(ApiError, 401, () => ask({}, clientOf(WRONG_KEY)));
    await raises(ApiError, 403, () => ask({}, clientOf(SALON_NARROW_KEY)));
    await raises(ApiError, 404, () => ask({ model: "nobody" }));
  });
  for (const status of [400, 429, 503]) await trouble(`status:${status}`, () => raises(ApiError, status, ask));
});

check("a stream that is cut raises", ALL, async (model) => {
  for (const mode of ["cut:3", "rst:3", "error:3"]) {
    const hear = async () => all(await client.models.generateContentStream({ model, contents: "[[words=30]]" }));
    await trouble(mode, () => assert.rejects(hear));
  }
});

await run();
