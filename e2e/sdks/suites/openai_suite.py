"""The openai package for Python: chat completions, responses and the rest, to upstreams of three protocols."""

import json
import threading
import time

import openai
from checks import *
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=30)
patient = client.with_options(max_retries=2)
ALL = ("gpt", "claude", "gemini")
TOOLS = [{"type": "function", "function": {"name": "weather", "description": WEATHER, "parameters": CITY, "strict": True}}]
FLAT_TOOLS = [{"type": "function", "name": "weather", "description": WEATHER, "parameters": CITY, "strict": True}]


class Bird(BaseModel):
    name: str
    age: int


def user(text):
    return [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}]


@check(*ALL)
def chat(model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=user("[[say:two storks]]"), temperature=0.5)
    answer = raw.parse()
    same(answer.choices[0].message.content, "two storks")
    same((answer.object, answer.choices[0].message.role, answer.choices[0].finish_reason), ("chat.completion", "assistant", "stop"))
    same((answer.usage.prompt_tokens, answer.usage.completion_tokens), (last_call()["usage"]["input"], last_call()["usage"]["output"]))
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
    assert answer._request_id and answer.id
    assert "Be kind." in last_call()["body"]
    costs_what_the_upstream_counted(raw.headers)


@check(*ALL)
def chat_stops_at_its_longest(model):
    answer = client.chat.completions.create(model=model, messages=user("[[words=50]]"), max_completion_tokens=8)
    same(answer.choices[0].finish_reason, "length")


@check(*ALL)
def chat_stream(model):
    stream = client.chat.completions.create(
        model=model, messages=user("[[say:two storks return]]"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    same("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "two storks return")
    same([c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason], ["stop"])
    [usage] = [c.usage for c in chunks if c.usage]
    same((usage.prompt_tokens, usage.completion_tokens), (last_call()["usage"]["input"], last_call()["usage"]["output"]))
    same(chunks[0].choices[0].delta.role, "assistant")


@check(*ALL)
def chat_stream_says_nothing_of_usage_unasked(model):
    chunks = list(client.chat.completions.create(model=model, messages=user("hi"), stream=True))
    assert all(c.choices and c.usage is None for c in chunks), chunks


@check(*ALL)
def chat_stream_helper(model):
    with client.chat.completions.stream(model=model, messages=user("[[say:two storks return]]")) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    same("".join(deltas), "two storks return")
    same(final.choices[0].message.content, "two storks return")


@check(*ALL)
def a_tool_and_its_result(model):
    messages = user(ONE_CALL)
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    same(answer.choices[0].finish_reason, "tool_calls")
    [call] = answer.choices[0].message.tool_calls
    same((call.type, call.function.name, json.loads(call.function.arguments)), ("function", "weather", {"city": "Oslo"}))
    messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    after = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    assert "rain" in after.choices[0].message.content, after
    same(after.choices[0].finish_reason, "stop")


@check(*ALL)
def parallel_tools_and_their_results(model):
    messages = user(TWO_CALLS)
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, tool_choice="auto")
    first, second = answer.choices[0].message.tool_calls
    same([json.loads(c.function.arguments)["city"] for c in (first, second)], ["Oslo", "Seoul"])
    assert first.id and first.id != second.id
    messages.append(answer.choices[0].message)
    messages += [{"role": "tool", "tool_call_id": c.id, "content": f"rain {c.function.arguments}"} for c in (first, second)]
    after = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    assert "Seoul" in after.choices[0].message.content, after


@check(*ALL)
def a_tool_that_must_be_called(model):
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        answer = client.chat.completions.create(model=model, messages=user("hi"), tools=TOOLS, tool_choice=choice)
        same(answer.choices[0].message.tool_calls[0].function.name, "weather")


@check(*ALL)
def streamed_tools(model):
    with client.chat.completions.stream(model=model, messages=user(TWO_CALLS), tools=TOOLS) as stream:
        for _ in stream:
            pass
        [choice] = stream.get_final_completion().choices
    same(choice.finish_reason, "tool_calls")
    same([json.loads(c.function.arguments)["city"] for c in choice.message.tool_calls], ["Oslo", "Seoul"])
    same([c.function.name for c in choice.message.tool_calls], ["weather"] * 2)
    same(len({c.id for c in choice.message.tool_calls}), 2)


@check(*ALL)
def parsed_by_a_schema(model):
    answer = client.chat.completions.parse(model=model, messages=user("a bird"), response_format=Bird)
    same(answer.choices[0].message.parsed, Bird(name="storks", age=7))


@check(*ALL)
def an_image(model):
    content = [
        {"type": "text", "text": "[[say:a dot]]"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    same(answer.choices[0].message.content, "a dot")
    assert PIXEL in last_call()["body"] and "image/png" in last_call()["body"]


@check(*ALL)
def responses(model):
    raw = client.responses.with_raw_response.create(model=model, input="[[say:two storks]]", instructions="Be kind.")
    answer = raw.parse()
    same((answer.output_text, answer.status, answer.object), ("two storks", "completed", "response"))
    same(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
    same((answer.usage.input_tokens, answer.usage.output_tokens), (last_call()["usage"]["input"], last_call()["usage"]["output"]))
    costs_what_the_upstream_counted(raw.headers)


@check(*ALL)
def responses_stream(model):
    events = list(client.responses.create(model=model, input="[[say:two storks return]]", stream=True))
    kinds = [event.type for event in events]
    same((kinds[0], kinds[-1]), ("response.created", "response.completed"))
    for kind in ("output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done"):
        assert f"response.{kind}" in kinds, kinds
    same("".join(e.delta for e in events if e.type == "response.output_text.delta"), "two storks return")
    same([e.sequence_number for e in events], list(range(len(events))))
    same(events[-1].response.output_text, "two storks return")
    assert events[-1].response.usage.output_tokens > 0


@check(*ALL)
def responses_stream_helper(model):
    with client.responses.stream(model=model, input="[[say:two storks return]]") as stream:
        for _ in stream:
            pass
        same(stream.get_final_response().output_text, "two storks return")


@check(*ALL)
def responses_tools_and_their_results(model):
    answer = client.responses.create(model=model, input=TWO_CALLS, tools=FLAT_TOOLS)
    found = [item for item in answer.output if item.type == "function_call"]
    same([json.loads(c.arguments)["city"] for c in found], ["Oslo", "Seoul"])
    turn = [{"role": "user", "content": TWO_CALLS}, *(item.to_dict() for item in answer.output)]
    turn += [{"type": "function_call_output", "call_id": c.call_id, "output": f"rain {c.arguments}"} for c in found]
    after = client.responses.create(model=model, input=turn, tools=FLAT_TOOLS)
    assert "Seoul" in after.output_text, after


@check(*ALL)
def responses_streamed_tools(model):
    with client.responses.stream(model=model, input=TWO_CALLS, tools=FLAT_TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_response()
    found = [item for item in final.output if item.type == "function_call"]
    same([json.loads(c.arguments)["city"] for c in found], ["Oslo", "Seoul"])
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    same([json.loads(event.arguments)["city"] for event in done], ["Oslo", "Seoul"])


@check(*ALL)
def responses_parsed_by_a_schema(model):
    same(client.responses.parse(model=model, input="a bird", text_format=Bird).output_parsed, Bird(name="storks", age=7))


@check(*ALL)
def responses_with_an_image(model):
    content = [
        {"type": "input_text", "text": "[[say:a dot]]"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
    ]
    same(client.responses.create(model=model, input=[{"role": "user", "content": content}]).output_text, "a dot")
    assert PIXEL in last_call()["body"]


@check("gpt")
def completions(model):
    answer = client.completions.create(model=model, prompt="[[say:two storks]]")
    same(answer.choices[0].text, "two storks")
    chunks = list(client.completions.create(model=model, prompt="[[say:two storks]]", stream=True))
    same("".join(c.choices[0].text for c in chunks if c.choices), "two storks")


@check()
def embeddings_come_as_base64_unless_floats_are_wanted():
    raw = client.embeddings.with_raw_response.create(model="vectors", input=["a stork", "a river"], dimensions=16)
    assert '"encoding_format":"base64"' in last_call()["body"].replace(" ", ""), last_call()
    costs_what_the_upstream_counted(raw.headers)
    packed = raw.parse()
    same([len(vector.embedding) for vector in packed.data], [16, 16])
    plain = client.embeddings.create(model="vectors", input="a river", dimensions=16, encoding_format="float")
    for one, other in zip(packed.data[1].embedding, plain.data[0].embedding, strict=True):
        assert abs(one - other) < 1e-6
    assert packed.usage.total_tokens > 0


@check()
def models():
    names = {model.id for model in client.models.list()}
    assert {"gpt", "claude", "gemini", "vectors"} <= names, names
    model = client.models.retrieve("gpt")
    same((model.id, model.object), ("gpt", "model"))
    with raises(openai.NotFoundError):
        client.models.retrieve("gtp")


def ask(client=client, model="gpt", **more):
    return client.chat.completions.create(model=model, messages=user("hi"), **more)


@check()
def what_is_wrong_here_is_refused_here():
    with calls(0):
        with raises(openai.BadRequestError, 400):
            client.chat.completions.create(model="claude", messages="hi")
        with raises(openai.AuthenticationError, 401):
            ask(client.with_options(api_key=KEY[:-3] + "xyz"))
        with raises(openai.PermissionDeniedError, 403):
            ask(client.with_options(api_key=NARROW_KEY))
        with raises(openai.NotFoundError, 404):
            ask(model="gtp")


@check()
def an_error_says_what_and_which_request():
    try:
        ask(model="claud")
    except openai.NotFoundError as error:
        same((error.code, error.type, error.param), ("model_not_found", "invalid_request_error", "model"))
        assert "`claude`" in error.message, f"the nearest name is told: {error}"
        assert error.request_id
    else:
        raise AssertionError("there is no such model")


@check(*ALL)
def an_upstream_s_refusals_keep_their_class(model):
    for status, kind in [(400, openai.BadRequestError), (422, openai.APIStatusError), (429, openai.RateLimitError)]:
        with trouble(f"status:{status}"), raises(kind), calls(1):
            ask(model=model)
    for status in (500, 503, 529):
        with trouble(f"status:{status}"), raises(openai.InternalServerError), calls(1):
            ask(model=model)
        with trouble(f"status:{status}"), raises(openai.InternalServerError), calls(1):
            list(ask(model=model, stream=True))


@check()
def a_model_that_the_upstream_does_not_know():
    with raises(openai.NotFoundError, 404), calls(1):
        ask(model="unknown-there")


@check(*ALL)
def retry_after_is_obeyed(model):
    with trouble(BUSY, count=1), calls(2):
        begun = time.monotonic()
        ask(patient, model=model)
        assert time.monotonic() - begun >= 2, "it did not wait"


@check()
def an_error_of_the_server_is_asked_again():
    with trouble("status:500", count=1), calls(2):
        ask(patient)


@check(*ALL)
def a_stream_that_is_cut_raises(model):
    for mode in ("cut:3", "rst:3", "half:3", "error:3"):
        with trouble(mode), raises(openai.APIError):
            list(client.chat.completions.create(model=model, messages=user("[[words=30]]"), stream=True))


@check(*ALL)
def a_response_that_is_cut_does_not_complete(model):
    with trouble("cut:6"):
        kinds = []
        try:
            for event in client.responses.create(model=model, input="[[words=30]]", stream=True):
                kinds.append(event.type)
        except openai.APIError:
            kinds.append("error")
        assert "response.completed" not in kinds and kinds[-1] in ("error", "response.failed"), kinds


@check()
def many_at_once():
    said = {}

    def one(number):
        model = ALL[number % 3]
        said[number] = client.chat.completions.create(model=model, messages=user(f"[[say:stork {number}]]")).choices[0].message.content

    threads = [threading.Thread(target=one, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(said, {number: f"stork {number}" for number in range(9)})


run()
