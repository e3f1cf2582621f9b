// The openai package for Node: chat completions, responses and the rest, to upstreams of three protocols.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { BUSY, CITY, PIXEL, SALON_KEY, SALON_NARROW_KEY, SALON_URL, TWO_CALLS, ONE_CALL, WEATHER, WRONG_KEY, all, calls, check, costsWhatTheUpstreamCounted, lastCall, raises, run, trouble, waits } from "./checks.mjs";

const client = new OpenAI({ baseURL: `${SALON_URL}/v1`, apiKey: SALON_KEY, maxRetries: 0, timeout: 30_000 });
const patient = client.withOptions({ maxRetries: 2 });
const ALL = ["gpt", "claude", "gemini"];
const Bird = z.object({ name: z.string(), age: z.number().int().min(7) });
const STORK = { name: "storks", age: 7 };
const tools = [{ type: "function", function: { name: "weather", description: WEATHER, parameters: CITY, strict: true } }];
const flatTools = [{ type: "function", name: "weather", description: WEATHER, parameters: CITY, strict: true }];
const user = (content) => [{ role: "system", content: "Be kind." }, { role: "user", content }];
const ask = (more = {}, by = client) => by.chat.completions.create({ model: "gpt", messages: user("hi"), ...more });
const city = ({ arguments: text }) => JSON.parse(text).city;

check("chat", ALL, async (model) => {
  const { data, response, request_id } = await ask({ model, messages: user("[[say:two storks]]") }).withResponse();
  assert.equal(data.choices[0].message.content, "two storks");
  assert.equal(data.choices[0].finish_reason, "stop");
  const { usage } = await lastCall();
  assert.deepEqual([data.usage.prompt_tokens, data.usage.completion_tokens], [usage.input, usage.output]);
  assert.ok(request_id);
  await costsWhatTheUpstreamCounted(response.headers);
});

check("chat stream", ALL, async (model) => {
  const chunks = await all(await ask({ model, messages: user("[[say:two storks return]]"), stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), "two storks return");
  assert.equal(chunks.filter(({ usage }) => usage).length, 1);
});

check("chat stream helper", ALL, async (model) => {
  const stream = client.chat.completions.stream({ model, messages: user("[[say:two storks return]]") });
  assert.equal(await stream.finalContent(), "two storks return");
});

check("a tool and its result", ALL, async (model) => {
  const messages = user(ONE_CALL);
  const { choices: [choice] } = await ask({ model, messages, tools });
  assert.equal(choice.finish_reason, "tool_calls");
  const [call] = choice.message.tool_calls;
  assert.deepEqual([call.function.name, city(call.function)], ["weather", "Oslo"]);
  const after = await ask({ model, messages: [...messages, choice.message, { role: "tool", tool_call_id: call.id, content: "rain" }], tools });
  assert.match(after.choices[0].message.content, /rain/);
});

check("parallel tools, streamed", ALL, async (model) => {
  const stream = client.chat.completions.stream({ model, messages: user(TWO_CALLS), tools });
  const { choices: [choice] } = await stream.finalChatCompletion();
  assert.deepEqual(choice.message.tool_calls.map((call) => city(call.function)), ["Oslo", "Seoul"]);
  assert.equal(new Set(choice.message.tool_calls.map(({ id }) => id)).size, 2);
});

check("a function that the SDK calls itself", ALL, async (model) => {
  const asked = [];
  const weather = ({ city }) => (asked.push(city), `rain in ${city}`);
  const own = [{ type: "function", function: { name: "weather", description: WEATHER, parameters: CITY, parse: JSON.parse, function: weather } }];
  const runner = client.chat.completions.runTools({ model, messages: user(ONE_CALL), tools: own });
  assert.match(await runner.finalContent(), /rain in Oslo/);
  assert.deepEqual(asked, ["Oslo"]);
});

check("parsed by a schema", ALL, async (model) => {
  const answer = await client.chat.completions.parse({ model, messages: user("a bird"), response_format: zodResponseFormat(Bird, "bird") });
  assert.deepEqual(answer.choices[0].message.parsed, STORK);
});

check("an image", ALL, async (model) => {
  const content = [{ type: "text", text: "[[say:a dot]]" }, { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } }];
  assert.equal((await ask({ model, messages: [{ role: "user", content }] })).choices[0].message.content, "a dot");
  assert.ok((await lastCall()).body.includes(PIXEL));
});

check("responses", ALL, async (model) => {
  const { data, response } = await client.responses.create({ model, input: "[[say:two storks]]", instructions: "Be kind." }).withResponse();
  assert.deepEqual([data.output_text, data.status], ["two storks", "completed"]);
  await costsWhatTheUpstreamCounted(response.headers);
});

check("responses stream", ALL, async (model) => {
  const events = await all(await client.responses.create({ model, input: "[[say:two storks return]]", stream: true }));
  assert.equal(events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta).join(""), "two storks return");
  assert.deepEqual([events[0].type, events.at(-1).type], ["response.created", "response.completed"]);
});

check("responses stream helper with tools", ALL, async (model) => {
  const stream = client.responses.stream({ model, input: TWO_CALLS, tools: flatTools });
  const { output } = await stream.finalResponse();
  const found = output.filter(({ type }) => type === "function_call");
  assert.deepEqual(found.map(city), ["Oslo", "Seoul"]);
  const results = found.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: `rain in ${city(call)}` }));
  const after = await client.responses.create({ model, input: [...user(TWO_CALLS), ...found, ...results], tools: flatTools });
  assert.match(after.output_text, /Seoul/);
});

check("responses parsed by a schema", ALL, async (model) => {
  const answer = await client.responses.parse({ model, input: "a bird", text: { format: zodTextFormat(Bird, "bird") } });
  assert.deepEqual(answer.output_parsed, STORK);
});

check("embeddings come as base64 unless floats are wanted", null, async () => {
  const packed = await client.embeddings.create({ model: "vectors", input: ["a stork", "a river"], dimensions: 16 });
  assert.match((await lastCall()).body, /"encoding_format":\s*"base64"/);
  const plain = await client.embeddings.create({ model: "vectors", input: "a river", dimensions: 16, encoding_format: "float" });
  assert.equal(packed.data.length, 2);
  packed.data[1].embedding.forEach((value, at) => assert.ok(Math.abs(value - plain.data[0].embedding[at]) < 1e-6));
});

check("models", null, async () => {
  const names = (await all(client.models.list())).map(({ id }) => id);
  for (const name of [...ALL, "vectors"]) assert.ok(names.includes(name), names);
  assert.equal((await client.models.retrieve("gpt")).id, "gpt");
  await raises(OpenAI.NotFoundError, 404, () => client.models.retrieve("nobody"));
});

check("what is wrong here is refused here", null, () =>
  calls(0, async () => {
    await raises(OpenAI.BadRequestError, 400, () => ask({ model: "claude", messages: "hi" }));
    await raises(OpenAI.AuthenticationError, 401, () => ask({}, client.withOptions({ apiKey: WRONG_KEY })));
    await raises(OpenAI.PermissionDeniedError, 403, () => ask({}, client.withOptions({ apiKey: SALON_NARROW_KEY })));
    await raises(OpenAI.NotFoundError, 404, () => ask({ model: "nobody" }));
  }),
);

check("an upstream's refusals keep their class", ALL, async (model) => {
  await trouble("status:400", () => raises(OpenAI.BadRequestError, 400, () => ask({ model })));
  await trouble("status:429", () => raises(OpenAI.RateLimitError, 429, () => ask({ model })));
  for (const status of [500, 503, 529]) await trouble(`status:${status}`, () => raises(OpenAI.InternalServerError, undefined, () => ask({ model })));
});

check("Retry-After is obeyed", ALL, (model) => trouble(BUSY, () => calls(2, () => waits(() => ask({ model }, patient))), { count: 1 }));

check("an error of the server is asked again", null, () => trouble("status:500", () => calls(2, () => ask({}, patient)), { count: 1 }));

check("a stream that is cut raises", ALL, async (model) => {
  for (const mode of ["cut:3", "rst:3", "half:3", "error:3"]) {
    const hear = async () => all(await ask({ model, messages: user("[[words=30]]"), stream: true }));
    await trouble(mode, () => raises(OpenAI.APIError, undefined, hear));
  }
});

await run();
