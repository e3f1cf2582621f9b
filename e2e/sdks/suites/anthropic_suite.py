"""The anthropic package for Python: messages and the rest, to upstreams of three protocols."""

import time

import anthropic
from checks import *
from pydantic import BaseModel

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=30)
patient = client.with_options(max_retries=2)
ALL = ("claude", "gpt", "gemini")
TOOLS = [{"name": "weather", "description": WEATHER, "input_schema": CITY}]
OWN_TOOLS = {"tools": TOOLS, "max_tokens": 500}


class Bird(BaseModel):
    name: str
    age: int


def user(text):
    return [{"role": "user", "content": text}]


@check(*ALL)
def message(model):
    raw = client.messages.with_raw_response.create(model=model, max_tokens=100, system="Be kind.", messages=user("[[say:two storks]]"))
    answer = raw.parse()
    same([(block.type, block.text) for block in answer.content], [("text", "two storks")])
    same((answer.type, answer.role, answer.stop_reason), ("message", "assistant", "end_turn"))
    same((answer.usage.input_tokens, answer.usage.output_tokens), (last_call()["usage"]["input"], last_call()["usage"]["output"]))
    assert answer._request_id, "the request's number is where the SDK looks for it"
    assert "Be kind." in last_call()["body"]
    costs_what_the_upstream_counted(raw.headers)


@check(*ALL)
def message_stops_at_its_longest_and_at_a_word(model):
    answer = client.messages.create(model=model, max_tokens=8, messages=user("[[words=50]]"))
    same(answer.stop_reason, "max_tokens")
    answer = client.messages.create(model=model, max_tokens=50, messages=user("[[say:one two three]]"), stop_sequences=[" three"])
    same(answer.content[0].text, "one two")


@check(*ALL)
def stream(model):
    events = list(client.messages.create(model=model, max_tokens=100, messages=user("[[say:two storks return]]"), stream=True))
    kinds = [event.type for event in events if event.type not in ("content_block_delta", "ping")]
    same(kinds, ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"])
    same("".join(e.delta.text for e in events if e.type == "content_block_delta"), "two storks return")
    same(events[-2].usage.output_tokens, last_call()["usage"]["output"])
    same(events[-2].delta.stop_reason, "end_turn")


@check(*ALL)
def stream_helper(model):
    with client.messages.stream(model=model, max_tokens=100, messages=user("[[say:two storks return]]")) as stream:
        same("".join(stream.text_stream), "two storks return")
        final = stream.get_final_message()
    same((final.content[0].text, final.stop_reason), ("two storks return", "end_turn"))
    assert final.usage.output_tokens > 0


@check(*ALL)
def a_tool_and_its_result(model):
    answer = client.messages.create(model=model, messages=user(ONE_CALL), **OWN_TOOLS)
    same(answer.stop_reason, "tool_use")
    [call] = [block for block in answer.content if block.type == "tool_use"]
    same((call.name, call.input), ("weather", {"city": "Oslo"}))
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    turns = [*user(ONE_CALL), {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    after = client.messages.create(model=model, messages=turns, **OWN_TOOLS)
    assert "rain" in after.content[0].text and after.stop_reason == "end_turn", after


@check(*ALL)
def parallel_tools_and_their_results(model):
    answer = client.messages.create(model=model, messages=user(TWO_CALLS), tool_choice={"type": "auto"}, **OWN_TOOLS)
    found = [block for block in answer.content if block.type == "tool_use"]
    same([call.input["city"] for call in found], ["Oslo", "Seoul"])
    same(len({call.id for call in found}), 2)
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": [{"type": "text", "text": f"rain {c.input['city']}"}]} for c in found]
    turns = [*user(TWO_CALLS), {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    after = client.messages.create(model=model, messages=turns, **OWN_TOOLS)
    assert "Seoul" in after.content[0].text, after


@check(*ALL)
def a_tool_that_must_be_called(model):
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        answer = client.messages.create(model=model, messages=user("hi"), tool_choice=choice, **OWN_TOOLS)
        same([block.name for block in answer.content if block.type == "tool_use"], ["weather"])


@check(*ALL)
def streamed_tools(model):
    with client.messages.stream(model=model, messages=user(TWO_CALLS), **OWN_TOOLS) as stream:
        pieces = [event for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert pieces
    same([block.input for block in final.content if block.type == "tool_use"], [{"city": "Oslo"}, {"city": "Seoul"}])
    same(final.stop_reason, "tool_use")


@check(*ALL)
def parsed_by_a_schema(model):
    answer = client.messages.parse(model=model, max_tokens=200, messages=user("a bird"), output_format=Bird)
    same(answer.parsed_output, Bird(name="storks", age=7))


@check(*ALL)
def an_image(model):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    answer = client.messages.create(model=model, max_tokens=50, messages=user([image, {"type": "text", "text": "[[say:a dot]]"}]))
    same(answer.content[0].text, "a dot")
    assert PIXEL in last_call()["body"] and "image/png" in last_call()["body"]


THINK = {"max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 1024}}


@check()
def thoughts_keep_their_signature():
    ask = f"[[think]] {ONE_CALL}"
    answer = client.messages.create(model="claude", messages=user(ask), tools=TOOLS, **THINK)
    thought, call = answer.content[0], answer.content[-1]
    assert (thought.type, call.type) == ("thinking", "tool_use") and thought.thinking and thought.signature, answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    turns = [*user(ask), {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    client.messages.create(model="claude", messages=turns, tools=TOOLS, **THINK)
    sent = json.loads(last_call()["body"])["messages"][1]["content"][0]
    same((sent["type"], sent["thinking"], sent["signature"]), ("thinking", thought.thinking, thought.signature))


@check()
def streamed_thoughts_keep_their_signature():
    with client.messages.stream(model="claude", messages=user("[[think]] [[say:two storks]]"), **THINK) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"thinking", "signature", "text"} <= kinds, kinds
    same([block.type for block in final.content], ["thinking", "text"])
    assert final.content[0].thinking and final.content[0].signature


@check()
def beta_headers_and_what_is_not_known_pass_through():
    marks = {"anthropic-beta": "tomorrow-2099-01-01"}
    client.messages.create(model="claude", max_tokens=50, messages=user("hi"), extra_headers=marks, extra_body={"x_tomorrow": {"a": 1}})
    headers = dict(last_call()["headers"])
    same((headers["anthropic-beta"], headers["anthropic-version"]), ("tomorrow-2099-01-01", client.default_headers["anthropic-version"]))
    same(json.loads(last_call()["body"])["x_tomorrow"], {"a": 1})


@check(*ALL)
def tokens_are_counted(model):
    short = client.messages.count_tokens(model=model, messages=user("hi")).input_tokens
    long = client.messages.count_tokens(model=model, messages=user("stork " * 200), tools=TOOLS).input_tokens
    assert 0 < short < 60 and long > short + 50, (short, long)


@check()
def models():
    names = {model.id for model in client.models.list()}
    assert {"claude", "gpt", "gemini"} <= names, names
    model = client.models.retrieve("claude")
    same((model.id, model.type), ("claude", "model"))
    with raises(anthropic.NotFoundError):
        client.models.retrieve("clod")


def ask(client=client, model="claude", text="hi", **more):
    return client.messages.create(model=model, max_tokens=500, messages=user(text), **more)


@check()
def what_is_wrong_here_is_refused_here():
    with calls(0):
        with raises(anthropic.BadRequestError, 400):
            client.messages.create(model="gpt", max_tokens=10, messages="hi")
        with raises(anthropic.AuthenticationError, 401):
            ask(client.with_options(api_key=KEY[:-3] + "xyz"))
        with raises(anthropic.PermissionDeniedError, 403):
            ask(client.with_options(api_key=NARROW_KEY), model="gpt")
        with raises(anthropic.NotFoundError, 404):
            ask(model="clod")


@check()
def an_error_says_what_and_which_request():
    try:
        ask(model="clod")
    except anthropic.NotFoundError as error:
        same((error.body["type"], error.body["error"]["type"]), ("error", "not_found_error"))
        assert error.request_id, "the request's number is where the SDK looks for it"
        same(error.body["request_id"], error.request_id)
    else:
        raise AssertionError("there is no such model")


@check(*ALL)
def an_upstream_s_refusals_keep_their_class(model):
    for status, kind in [(400, anthropic.BadRequestError), (429, anthropic.RateLimitError)]:
        with trouble(f"status:{status}"), raises(kind, status), calls(1):
            ask(model=model)
    for status in (500, 503, 529):
        with trouble(f"status:{status}"), raises(anthropic.InternalServerError), calls(1):
            ask(model=model)


@check()
def overload_has_a_status_of_its_own():
    with trouble("status:529"), raises(anthropic.InternalServerError, 529):
        ask()


@check(*ALL)
def retry_after_is_obeyed(model):
    with trouble(BUSY, count=1), calls(2):
        begun = time.monotonic()
        ask(patient, model=model)
        assert time.monotonic() - begun >= 2, "it did not wait"


@check(*ALL)
def a_stream_that_is_cut_raises(model):
    for mode in ("cut:4", "rst:4", "half:4", "error:4"):
        # Half a frame that has gone out already is what the SDK then cannot read.
        with trouble(mode), raises((anthropic.APIError, json.JSONDecodeError) if mode == "half:4" else anthropic.APIError):
            with client.messages.stream(model=model, max_tokens=500, messages=user("[[words=30]]")) as stream:
                stream.until_done()


run()
