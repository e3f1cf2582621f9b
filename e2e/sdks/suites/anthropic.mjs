// The @anthropic-ai/sdk package: messages and the rest, to upstreams of three protocols.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { BUSY, CITY, PIXEL, SALON_KEY, SALON_NARROW_KEY, SALON_URL, TWO_CALLS, ONE_CALL, WEATHER, WRONG_KEY, all, calls, check, costsWhatTheUpstreamCounted, lastCall, raises, run, trouble, waits } from "./checks.mjs";

const client = new Anthropic({ baseURL: SALON_URL, apiKey: SALON_KEY, maxRetries: 0, timeout: 30_000 });
const patient = client.withOptions({ maxRetries: 2 });
const ALL = ["claude", "gpt", "gemini"];
const tools = [{ name: "weather", description: WEATHER, input_schema: CITY }];
const user = (content) => [{ role: "user", content }];
const ask = (more = {}, by = client) => by.messages.create({ model: "claude", max_tokens: 500, messages: user("hi"), ...more });
const used = ({ content }) => content.filter(({ type }) => type === "tool_use");

check("message", ALL, async (model) => {
  const { data, response, request_id } = await ask({ model, system: "Be kind.", messages: user("[[say:two storks]]") }).withResponse();
  assert.deepEqual(data.content.map(({ type, text }) => [type, text]), [["text", "two storks"]]);
  assert.equal(data.stop_reason, "end_turn");
  const { usage } = await lastCall();
  assert.deepEqual([data.usage.input_tokens, data.usage.output_tokens], [usage.input, usage.output]);
  assert.ok(request_id, "the request's number is where the SDK looks for it");
  await costsWhatTheUpstreamCounted(response.headers);
});

check("stream", ALL, async (model) => {
  const events = await all(await ask({ model, messages: user("[[say:two storks return]]"), stream: true }));
  assert.equal(events.map(({ delta }) => delta?.text ?? "").join(""), "two storks return");
  const kinds = events.map(({ type }) => type).filter((type) => type !== "content_block_delta" && type !== "ping");
  assert.deepEqual(kinds, ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]);
});

check("stream helper", ALL, async (model) => {
  const stream = client.messages.stream({ model, max_tokens: 100, messages: user("[[say:two storks return]]") });
  assert.equal(await stream.finalText(), "two storks return");
  assert.ok((await stream.finalMessage()).usage.output_tokens > 0);
});

check("a tool and its result", ALL, async (model) => {
  const answer = await ask({ model, messages: user(ONE_CALL), tools });
  const [{ id, name, input }] = used(answer);
  assert.deepEqual([answer.stop_reason, name, input], ["tool_use", "weather", { city: "Oslo" }]);
  const turns = [...user(ONE_CALL), { role: "assistant", content: answer.content }, ...user([{ type: "tool_result", tool_use_id: id, content: "rain" }])];
  assert.match((await ask({ model, messages: turns, tools })).content[0].text, /rain/);
});

check("parallel tools, streamed", ALL, async (model) => {
  const answer = await client.messages.stream({ model, max_tokens: 500, messages: user(TWO_CALLS), tools }).finalMessage();
  assert.deepEqual(used(answer).map(({ input }) => input.city), ["Oslo", "Seoul"]);
  const results = used(answer).map(({ id, input }) => ({ type: "tool_result", tool_use_id: id, content: `rain in ${input.city}` }));
  const turns = [...user(TWO_CALLS), { role: "assistant", content: answer.content }, ...user(results)];
  assert.match((await ask({ model, messages: turns, tools })).content[0].text, /Seoul/);
});

check("a schema", ALL, async (model) => {
  const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"], additionalProperties: false };
  const answer = await ask({ model, messages: user("a bird"), output_config: { format: { type: "json_schema", schema } } });
  assert.deepEqual(JSON.parse(answer.content[0].text), { name: "storks", age: 7 });
});

check("an image", ALL, async (model) => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
  assert.equal((await ask({ model, messages: user([image, { type: "text", text: "[[say:a dot]]" }]) })).content[0].text, "a dot");
  assert.ok((await lastCall()).body.includes(PIXEL));
});

check("thoughts keep their signature", null, async () => {
  const thinking = { type: "enabled", budget_tokens: 1024 };
  const messages = user(`[[think]] ${ONE_CALL}`);
  const answer = await client.messages.stream({ model: "claude", max_tokens: 3000, thinking, messages, tools }).finalMessage();
  const [thought] = answer.content;
  assert.equal(thought.type, "thinking");
  assert.ok(thought.thinking && thought.signature);
  const [{ id }] = used(answer);
  const turns = [...messages, { role: "assistant", content: answer.content }, ...user([{ type: "tool_result", tool_use_id: id, content: "rain" }])];
  await ask({ max_tokens: 3000, thinking, messages: turns, tools });
  const sent = JSON.parse((await lastCall()).body).messages[1].content[0];
  assert.deepEqual([sent.thinking, sent.signature], [thought.thinking, thought.signature]);
});

check("tokens are counted", ALL, async (model) => {
  const short = await client.messages.countTokens({ model, messages: user("hi") });
  const long = await client.messages.countTokens({ model, messages: user("stork ".repeat(200)) });
  assert.ok(short.input_tokens > 0 && long.input_tokens > short.input_tokens + 50);
});

check("models", null, async () => {
  const names = (await all(client.models.list())).map(({ id }) => id);
  for (const name of ALL) assert.ok(names.includes(name), names);
  assert.equal((await client.models.retrieve("claude")).id, "claude");
  await raises(Anthropic.NotFoundError, 404, () => client.models.retrieve("nobody"));
});

check("what is wrong here is refused here", null, () =>
  calls(0, async () => {
    await raises(Anthropic.BadRequestError, 400, () => ask({ model: "gpt", messages: "hi" }));
    await raises(Anthropic.AuthenticationError, 401, () => ask({}, client.withOptions({ apiKey: WRONG_KEY })));
    await raises(Anthropic.PermissionDeniedError, 403, () => ask({ model: "gpt" }, client.withOptions({ apiKey: SALON_NARROW_KEY })));
    await raises(Anthropic.NotFoundError, 404, () => ask({ model: "nobody" }));
  }),
);

check("an upstream's refusals keep their class", ALL, async (model) => {
  await trouble("status:400", () => raises(Anthropic.BadRequestError, 400, () => ask({ model })));
  await trouble("status:429", () => raises(Anthropic.RateLimitError, 429, () => ask({ model })));
  for (const status of [500, 503, 529]) await trouble(`status:${status}`, () => raises(Anthropic.InternalServerError, undefined, () => ask({ model })));
});

check("Retry-After is obeyed", ALL, (model) => trouble(BUSY, () => calls(2, () => waits(() => ask({ model }, patient))), { count: 1 }));

check("a stream that is cut raises", ALL, async (model) => {
  for (const mode of ["cut:4", "rst:4", "error:4"]) {
    const hear = () => client.messages.stream({ model, max_tokens: 500, messages: user("[[words=30]]") }).finalMessage();
    await trouble(mode, () => raises(Anthropic.AnthropicError, undefined, hear));
  }
});

await run();
