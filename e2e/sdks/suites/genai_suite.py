"""The google-genai package for Python: generateContent and the rest, to upstreams of three protocols."""

from checks import *
from google import genai
from google.genai import errors, types
from pydantic import BaseModel


def client_of(key=KEY, attempts=1):
    retries = types.HttpRetryOptions(attempts=attempts, initial_delay=0.1, max_delay=0.2)
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=URL, timeout=30_000, retry_options=retries))


client = client_of()
ALL = ("gemini", "gpt", "claude")
DECLARED = types.FunctionDeclaration(name="weather", description=WEATHER, parameters_json_schema=CITY)
TOOLS = [types.Tool(function_declarations=[DECLARED])]
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)


class Bird(BaseModel):
    name: str
    age: int


def config(**more):
    return types.GenerateContentConfig(automatic_function_calling=BY_HAND, **more)


def ask(model="gemini", contents="hi", client=client, **more):
    return client.models.generate_content(model=model, contents=contents, config=config(**more))


@check(*ALL)
def generate(model):
    answer = ask(model, "[[say:two storks]]", system_instruction="Be kind.", temperature=0.5)
    same(answer.text, "two storks")
    same((answer.candidates[0].content.role, answer.candidates[0].finish_reason.value), ("model", "STOP"))
    used = answer.usage_metadata
    same((used.prompt_token_count, used.candidates_token_count), (last_call()["usage"]["input"], last_call()["usage"]["output"]))
    same(used.total_token_count, used.prompt_token_count + used.candidates_token_count)
    assert "Be kind." in last_call()["body"]
    costs_what_the_upstream_counted(answer.sdk_http_response.headers)


@check(*ALL)
def generate_stops_at_its_longest(model):
    same(ask(model, "[[words=50]]", max_output_tokens=8).candidates[0].finish_reason.value, "MAX_TOKENS")


@check(*ALL)
def stream(model):
    chunks = list(client.models.generate_content_stream(model=model, contents="[[say:two storks return]]", config=config()))
    same("".join(chunk.text or "" for chunk in chunks), "two storks return")
    same(chunks[-1].candidates[0].finish_reason.value, "STOP")
    same(chunks[-1].usage_metadata.prompt_token_count, last_call()["usage"]["input"])


@check(*ALL)
def a_conversation(model):
    chat = client.chats.create(model=model, config=config())
    same(chat.send_message("[[say:a stork]]").text, "a stork")
    same("".join(chunk.text or "" for chunk in chat.send_message_stream("[[say:a river]]")), "a river")
    assert "a stork" in last_call()["body"], "what was said before is told again"


@check(*ALL)
def a_tool_and_its_result(model):
    answer = ask(model, ONE_CALL, tools=TOOLS)
    [call] = answer.function_calls
    same((call.name, call.args), ("weather", {"city": "Oslo"}))
    part = types.Part.from_function_response(name="weather", response={"result": "rain"})
    part.function_response.id = call.id
    turns = [types.UserContent(ONE_CALL), answer.candidates[0].content, types.Content(role="user", parts=[part])]
    assert "rain" in ask(model, turns, tools=TOOLS).text


@check(*ALL)
def parallel_tools_and_their_results(model):
    answer = ask(model, TWO_CALLS, tools=TOOLS)
    same([call.args["city"] for call in answer.function_calls], ["Oslo", "Seoul"])
    parts = []
    for call in answer.function_calls:
        part = types.Part.from_function_response(name="weather", response={"result": f"rain {call.args['city']}"})
        part.function_response.id = call.id
        parts.append(part)
    turns = [types.UserContent(TWO_CALLS), answer.candidates[0].content, types.Content(role="user", parts=parts)]
    assert "Seoul" in ask(model, turns, tools=TOOLS).text


@check(*ALL)
def a_tool_that_must_be_called(model):
    choice = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["weather"]))
    [call] = ask(model, "hi", tools=TOOLS, tool_config=choice).function_calls
    same(call.name, "weather")


@check(*ALL)
def streamed_tools(model):
    chunks = client.models.generate_content_stream(model=model, contents=TWO_CALLS, config=config(tools=TOOLS))
    same([call.args["city"] for chunk in chunks for call in chunk.function_calls or []], ["Oslo", "Seoul"])


@check(*ALL)
def a_function_that_the_sdk_calls_itself(model):
    asked = []

    def weather(city: str) -> str:
        """What the weather is like in a city."""
        asked.append(city)
        return f"rain in {city}"

    answer = client.models.generate_content(model=model, contents=ONE_CALL, config=types.GenerateContentConfig(tools=[weather]))
    same(asked, ["Oslo"])
    assert "rain in Oslo" in answer.text, answer


@check(*ALL)
def parsed_by_a_schema(model):
    answer = ask(model, "a bird", response_mime_type="application/json", response_schema=Bird)
    same(answer.parsed, Bird(name="storks", age=7))


@check(*ALL)
def an_image(model):
    answer = ask(model, [types.Part.from_bytes(data=PIXEL_BYTES, mime_type="image/png"), "[[say:a dot]]"])
    same(answer.text, "a dot")
    # The SDK writes base64 for addresses, which Gemini takes and nobody else.
    sent = base64.urlsafe_b64encode(PIXEL_BYTES).decode() if model == "gemini" else PIXEL
    assert sent in last_call()["body"] and "image/png" in last_call()["body"], last_call()["body"]


@check()
def signatures_of_thoughts_come_back_as_they_went():
    answer = ask("gemini", ONE_CALL, tools=TOOLS)
    [signed] = [part.thought_signature for part in answer.candidates[0].content.parts if part.thought_signature]
    result = types.Part.from_function_response(name="weather", response={"result": "rain"})
    ask("gemini", [types.UserContent(ONE_CALL), answer.candidates[0].content, types.Content(role="user", parts=[result])], tools=TOOLS)
    assert base64.b64encode(signed).decode() in last_call()["body"], "the signature is what it was"


@check(*ALL)
def tokens_are_counted(model):
    short = client.models.count_tokens(model=model, contents="hi").total_tokens
    long = client.models.count_tokens(model=model, contents="stork " * 200).total_tokens
    assert 0 < short < 60 and long > short + 50, (short, long)


@check()
def models():
    names = {model.name for model in client.models.list()}
    assert {"models/gemini", "models/gpt", "models/claude"} <= names, names
    same(client.models.get(model="gemini").name, "models/gemini")
    with raises(errors.ClientError, 404, "code"):
        client.models.get(model="gemino")


@check()
def what_is_wrong_here_is_refused_here():
    with calls(0):
        with raises(errors.ClientError, 400, "code"):
            client.models.generate_content(model="gpt", contents="hi", config={"http_options": {"extra_body": {"contents": "hi"}}})
        with raises(errors.ClientError, 401, "code"):
            ask(client=client_of(KEY[:-3] + "xyz"))
        with raises(errors.ClientError, 403, "code"):
            ask(client=client_of(NARROW_KEY))
        with raises(errors.ClientError, 404, "code"):
            ask("gemino")


@check()
def an_error_says_what():
    try:
        ask("gemino")
    except errors.ClientError as error:
        same((error.code, error.status), (404, "NOT_FOUND"))
        assert "`gemini`" in error.message, f"the nearest name is told: {error}"
    else:
        raise AssertionError("there is no such model")


@check(*ALL)
def an_upstream_s_refusals_keep_their_class(model):
    for status in (400, 429):
        with trouble(f"status:{status}"), raises(errors.ClientError, status, "code"), calls(1):
            ask(model)
    for status in (500, 503, 529):
        with trouble(f"status:{status}"), raises(errors.ServerError), calls(1):
            ask(model)


@check(*ALL)
def too_many_is_asked_again(model):
    with trouble("429", count=1), calls(2):
        same(ask(model, "[[say:two storks]]", client=client_of(attempts=3)).text, "two storks")


@check(*ALL)
def a_stream_that_is_cut_raises(model):
    for mode in ("cut:3", "rst:3", "half:3", "error:3"):
        with trouble(mode):
            ends = []
            try:
                for chunk in client.models.generate_content_stream(model=model, contents="[[words=30]]", config=config()):
                    ends.append(chunk.candidates[0].finish_reason if chunk.candidates else None)
            except Exception:
                continue
            raise AssertionError(f"{mode}: nothing was raised, and the last chunk says {ends[-1:]}")


run()
