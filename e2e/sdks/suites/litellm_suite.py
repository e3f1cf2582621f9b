"""litellm as a client, by the providers' names that people use it with: each sends another protocol."""

import os
import time

# Its list of prices ships with it; it must not be fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from checks import *
from pydantic import BaseModel

litellm.telemetry = False
litellm.suppress_debug_info = True
TOOLS = [{"type": "function", "function": {"name": "weather", "description": WEATHER, "parameters": CITY}}]
# What it calls the protocol, and where that is.
PLACES = {
    "openai": {"api_base": f"{URL}/v1"},
    "litellm_proxy": {"api_base": URL},
    "anthropic": {"api_base": URL},
    "gemini": {"api_base": f"{URL}/v1beta"},
}
OWN = ("openai/gpt", "anthropic/claude", "gemini/gemini")
OTHER = ("openai/claude", "openai/gemini", "litellm_proxy/claude", "anthropic/gpt", "gemini/gpt")


class Bird(BaseModel):
    name: str
    age: int


def ask(model, words, key=KEY, turns=None, **more):
    place = PLACES[model.partition("/")[0]]
    return litellm.completion(model=model, messages=turns or [{"role": "user", "content": words}], api_key=key, **{"max_retries": 0, "num_retries": 0, "timeout": 30, **place, **more})


@check(*OWN, *OTHER)
def chat(model):
    answer = ask(model, "[[say:two storks]]", temperature=0.5)
    same((answer.choices[0].message.content, answer.choices[0].finish_reason), ("two storks", "stop"))
    same((answer.usage.prompt_tokens, answer.usage.completion_tokens), (last_call()["usage"]["input"], last_call()["usage"]["output"]))


@check(*OWN, *OTHER)
def stream(model):
    chunks = list(ask(model, "[[say:two storks return]]", stream=True, stream_options={"include_usage": True}))
    same("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "two storks return")
    same([c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason], ["stop"])
    whole = litellm.stream_chunk_builder(chunks)
    same(whole.usage.completion_tokens, last_call()["usage"]["output"])


@check(*OWN, *OTHER)
def parallel_tools_and_their_results(model):
    answer = ask(model, TWO_CALLS, tools=TOOLS)
    message = answer.choices[0].message
    same([json.loads(call.function.arguments)["city"] for call in message.tool_calls], ["Oslo", "Seoul"])
    same(answer.choices[0].finish_reason, "tool_calls")
    turns = [{"role": "user", "content": TWO_CALLS}, message.model_dump()]
    turns += [{"role": "tool", "tool_call_id": c.id, "name": "weather", "content": f"rain {c.function.arguments}"} for c in message.tool_calls]
    assert "Seoul" in ask(model, "", turns=turns, tools=TOOLS).choices[0].message.content


@check(*OWN, *OTHER)
def streamed_tools(model):
    whole = litellm.stream_chunk_builder(list(ask(model, TWO_CALLS, tools=TOOLS, stream=True)))
    same([json.loads(c.function.arguments)["city"] for c in whole.choices[0].message.tool_calls], ["Oslo", "Seoul"])


@check("openai/gpt", "openai/claude", "openai/gemini")
def fits_a_schema(model):
    answer = ask(model, "a bird", response_format=Bird)
    same(Bird.model_validate_json(answer.choices[0].message.content), Bird(name="storks", age=7))


@check(*OWN, "openai/claude", "anthropic/gpt", "gemini/gpt")
def an_image(model):
    parts = [{"type": "text", "text": "[[say:a dot]]"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    same(ask(model, parts).choices[0].message.content, "a dot")
    assert PIXEL in last_call()["body"]


@check()
def embeddings():
    answer = litellm.embedding(model="openai/vectors", input=["a stork", "a river"], api_base=f"{URL}/v1", api_key=KEY)
    same(len(answer.data), 2)
    assert len(answer.data[0]["embedding"]) > 1


@check(*OWN)
def errors_have_their_class(model):
    # It reads `invalid_request_error`, which OpenAI says of a wrong key too, before it looks at the status.
    wrong = litellm.BadRequestError if model.startswith("openai/") else litellm.AuthenticationError
    with raises(wrong), calls(0):
        ask(model, "hi", key=KEY[:-3] + "xyz")
    with raises(litellm.NotFoundError), calls(0):
        ask(f"{model}-of-nobody", "hi")
    with trouble("status:400"), raises(litellm.BadRequestError):
        ask(model, "hi")
    with trouble("429"), raises(litellm.RateLimitError):
        ask(model, "hi")
    with trouble("status:503"), raises((litellm.ServiceUnavailableError, litellm.InternalServerError)):
        ask(model, "hi")


@check()
def retry_after_is_obeyed():
    with trouble(BUSY, count=1), calls(2):
        begun = time.monotonic()
        ask("openai/gpt", "hi", num_retries=2, max_retries=2)
        assert time.monotonic() - begun >= 2, "it did not wait"


@check("openai/gpt", "anthropic/claude", "openai/claude")
def a_stream_that_is_cut_raises(model):
    with trouble("cut:4"), raises(Exception):
        list(ask(model, "[[words=30]]", stream=True))


run()
