"""The description of the API: that it is one, that its examples fit it, and that what Salon really answers does too."""

import json
import urllib.error
import urllib.parse

from checks import *
from checks import _opener
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

ADMIN_KEY = os.environ["SALON_ADMIN_KEY"]
METHODS = ("get", "post", "put", "patch", "delete")


def call(method, path, body=None, key=KEY, headers={}):
    data = json.dumps(body).encode() if body is not None else None
    sent = {"content-type": "application/json", **headers}
    if key:
        sent["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(URL + path, data, sent, method=method.upper())
    try:
        response = _opener.open(request, timeout=30)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers.get_content_type(), response.read()


WHOLE = json.loads(call("get", "/openapi.json", key=None)[2])


def found(value):
    """What a reference leads to."""
    while "$ref" in value:
        at = WHOLE
        for name in value["$ref"].removeprefix("#/").split("/"):
            at = at[name.replace("~1", "/").replace("~0", "~")]
        value = at
    return value


def fits(value, schema, where):
    validator = Draft202012Validator({**schema, "components": WHOLE["components"]})
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not errors, f"{where}: {errors[:3]} in {json.dumps(value)[:500]}"


def operations():
    for path, item in WHOLE["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


@check()
def it_is_openapi():
    same(WHOLE["openapi"], "3.1.0")
    errors = list(OpenAPIV31SpecValidator(WHOLE).iter_errors())
    assert not errors, [error.message for error in errors[:5]]


@check()
def every_example_fits_its_schema():
    examples = 0
    for name, schema in WHOLE["components"]["schemas"].items():
        for example in schema.get("examples", []):
            fits(example, schema, name)
            examples += 1
    for method, path, operation in operations():
        places = [operation.get("requestBody", {}), *map(found, operation["responses"].values())]
        for media in (media for place in places for media in place.get("content", {}).values()):
            for name, example in media.get("examples", {}).items():
                fits(example["value"], media["schema"], f"{method} {path}: {name}")
                examples += 1
    assert examples > 40, examples


@check()
def every_body_that_is_asked_for_is_shown_once():
    bare = [f"{m} {p}" for m, p, o in operations() if any("examples" not in c for c in o.get("requestBody", {}).get("content", {}).values())]
    same(bare, [])


def answers(status, method, path, body=None, key=KEY, headers={}, at=None):
    """Asks, and holds the answer against the description of `at`, or of the very path."""
    got, kind, data = call(method, path, body, key, headers)
    same(got, status)
    operation = WHOLE["paths"][at or path.split("?")[0]][method]
    if body is not None and status < 300:
        fits(body, operation["requestBody"]["content"]["application/json"]["schema"], f"what is asked of {method} {path}")
    responses = operation["responses"]
    described = found(responses.get(str(got)) or responses[f"{got // 100}XX"])
    if not data:
        assert "content" not in described, f"{method} {path} is described with a body, and has none"
        return None
    media = described["content"].get(kind)
    assert media, f"{method} {path} answers {got} as {kind}, which is not described"
    if kind != "application/json":
        return data.decode()
    value = json.loads(data)
    fits(value, media["schema"], f"{method} {path}: {got}")
    return value


SAID = [{"role": "user", "content": "[[say:two storks]]"}]
PARTS = {"contents": [{"role": "user", "parts": [{"text": "[[say:two storks]]"}]}]}
GEMINI = "/v1beta/models/{model}"


@check("gpt", "claude", "gemini")
def models_answer_in_every_protocol(model):
    answers(200, "post", "/v1/chat/completions", {"model": model, "messages": SAID})
    answers(200, "post", "/v1/responses", {"model": model, "input": "[[say:two storks]]"})
    answers(200, "post", "/v1/messages", {"model": model, "max_tokens": 100, "messages": SAID})
    answers(200, "post", f"/v1beta/models/{model}:generateContent", PARTS, at=GEMINI + ":generateContent")


@check("gpt")
def streams_are_streams(model):
    for path, body in [
        ("/v1/chat/completions", {"model": model, "messages": SAID, "stream": True}),
        ("/v1/messages", {"model": model, "max_tokens": 100, "messages": SAID, "stream": True}),
    ]:
        assert "storks" in answers(200, "post", path, body)
    answers(200, "post", f"/v1beta/models/{model}:streamGenerateContent?alt=sse", PARTS, at=GEMINI + ":streamGenerateContent")
    answers(200, "post", f"/v1beta/models/{model}:streamGenerateContent", PARTS, at=GEMINI + ":streamGenerateContent")


@check()
def completions_embeddings_and_counts():
    answers(200, "post", "/v1/completions", {"model": "gpt", "prompt": "[[say:two storks]]"})
    answers(200, "post", "/v1/embeddings", {"model": "vectors", "input": ["storks", "swallows"]})
    answers(200, "post", "/v1/messages/count_tokens", {"model": "claude", "messages": SAID})
    answers(200, "post", "/v1beta/models/gemini:countTokens", PARTS, at=GEMINI + ":countTokens")


@check()
def models_are_listed_in_every_protocol():
    for headers in ({}, {"anthropic-version": "2023-06-01"}, {"x-goog-api-client": "x"}):
        answers(200, "get", "/v1/models", headers=headers)
        answers(200, "get", "/v1/models/gpt", headers=headers, at="/v1/models/{model}")
    answers(200, "get", "/v1beta/models")
    answers(200, "get", "/v1beta/models/gpt", at=GEMINI)


# What is asked of whom, and how it is refused.
REFUSED = [
    ("post", "/v1/chat/completions", {"model": "nobody", "messages": SAID}, KEY, 404),
    ("post", "/v1/chat/completions", {"model": "gpt", "messages": SAID}, NARROW_KEY, 403),
    ("post", "/v1/responses", {"model": "gpt", "input": "hi", "background": True}, KEY, 400),
    ("post", "/v1/messages", {"model": "nobody", "max_tokens": 1, "messages": SAID}, KEY, 404),
    ("post", "/v1/messages", {}, KEY, 400),
    ("get", "/api/admin/usage/limits", None, KEY, 403),
    ("get", "/api/usage?period=eon", None, KEY, 422),
    ("post", "/api/keys", {"name": "x", "role": "king"}, KEY, 422),
    ("put", "/api/provider-keys/openai", {"key": "k", "base_url": "https://127.0.0.1/"}, KEY, 422),
]


@check(*range(len(REFUSED)))
def refusals_are_as_described(number):
    method, path, body, key, status = REFUSED[number]
    bare = path.split("?")[0]
    at = bare if bare in WHOLE["paths"] else "/api/provider-keys/{provider}"
    answers(status, method, path, body, key, at=at)


def is_here(path):
    """The LLM server's paths have another listener, which this house does not open."""
    return "servers" not in WHOLE["paths"][path]


@check(*[f"{method} {path}" for method, path, operation in operations() if "security" not in operation and is_here(path)])
def nobody_without_a_key_is_let_in(door):
    method, path = door.split(" ")
    bare = path.replace("{", "").replace("}", "")
    answers(401, method, bare, {} if method in ("post", "put") else None, key=None, at=path)


SESSION = "/api/sessions/{session}"


@check()
def sessions_are_opened_asked_and_deleted():
    session = answers(201, "post", "/api/sessions", {"engine": "gpt", "metadata": {"title": "Storks"}})["session_id"]
    answers(200, "get", "/api/sessions?limit=5")
    answers(200, "get", f"/api/sessions/{session}", at=SESSION)
    question = {"session_id": session, "message": "[[say:two storks]]", "max_new_tokens": 50}
    same(answers(200, "post", "/api/chat", question)["content"], "two storks")
    assert '"type":"token"' in answers(200, "post", "/api/chat/stream", question)
    assert "storks" in answers(200, "get", f"/api/sessions/{session}/stream", at=SESSION + "/stream")
    same(answers(200, "get", f"/api/sessions/{session}/messages", at=SESSION + "/messages")["total_count"], 4)
    answers(404, "delete", f"/api/sessions/{session}/run", at=SESSION + "/run")
    answers(422, "post", "/api/chat", {"message": 7})
    answers(204, "delete", f"/api/sessions/{session}", at=SESSION)
    answers(404, "get", f"/api/sessions/{session}", at=SESSION)
    answers(404, "post", "/api/chat", question)


@check()
def chats_without_a_session():
    question = {"model": "gpt", "messages": SAID}
    same(answers(200, "post", "/api/chat/completions", question)["choices"][0]["message"]["content"], "two storks")
    assert "[DONE]" in answers(200, "post", "/api/chat/stream", question)
    answers(422, "post", "/api/chat/completions", {"messages": []})
    answers(200, "get", "/api/models")
    answers(200, "get", "/api/models/default")
    answers(200, "get", "/api/health", key=None)
    answers(200, "get", "/health", key=None)


@check()
def keys_come_and_go():
    wanted = {"name": "made", "models": ["gp*"], "expires": "30d", "limits": [{"measure": "micros", "period": "month", "amount": "5.00"}]}
    made = answers(201, "post", "/api/keys", wanted)
    answers(200, "post", "/v1/chat/completions", {"model": "gpt", "messages": SAID}, key=made["key"])
    listed = answers(200, "get", "/api/keys?all=true")
    assert any(key["id"] == made["id"] and key["limits"] for key in listed["keys"])
    answers(204, "delete", f"/api/keys/{made['id']}", at="/api/keys/{id}")
    answers(404, "delete", f"/api/keys/{made['id']}", at="/api/keys/{id}")


@check("/api/provider-keys", "/api/admin/provider-keys")
def provider_keys_come_and_go(door):
    one = {"key": ADMIN_KEY, "at": door + "/{provider}"}
    answers(200, "put", f"{door}/openai", {"key": "sk-provider-0123456789abcdef"}, **one)
    answers(200, "get", door, key=ADMIN_KEY)
    answers(200, "get", f"{door}/openai", **one)
    tried = answers(200, "post", f"{door}/openai/test", key=ADMIN_KEY, at=door + "/{provider}/test")
    same(tried["result"], "ok")
    answers(204, "delete", f"{door}/openai", **one)
    answers(404, "delete", f"{door}/openai", **one)


@check()
def reports_and_limits():
    own = answers(200, "get", "/api/usage?period=day")
    for path in ("/api/admin/usage/statistics", "/api/admin/usage/users", "/api/admin/usage/held"):
        answers(200, "get", path, key=ADMIN_KEY)
    answers(200, "get", f"/api/admin/usage/users/{own['user_id']}", key=ADMIN_KEY, at="/api/admin/usage/users/{id}")
    wanted = {"scope": "user", "measure": "micros", "period": "month", "amount": "12.50"}
    limit = answers(201, "post", "/api/admin/usage/limits", wanted, key=ADMIN_KEY)
    answers(200, "post", "/v1/chat/completions", {"model": "gpt", "messages": SAID})
    answers(200, "get", "/api/usage")
    one = {"key": ADMIN_KEY, "at": "/api/admin/usage/limits/{id}"}
    answers(200, "get", "/api/admin/usage/limits", key=ADMIN_KEY)
    answers(200, "put", f"/api/admin/usage/limits/{limit['id']}", {"amount": "25.00"}, **one)
    answers(204, "delete", f"/api/admin/usage/limits/{limit['id']}", **one)


@check()
def a_call_that_waits_for_a_yes():
    wanted = {"scope": "org", "measure": "requests", "period": "day", "amount": 0, "policy": "ask"}
    limit = answers(201, "post", "/api/admin/usage/limits", wanted, key=ADMIN_KEY)
    for word, status in (("deny", 403), ("approve", 200)):
        answers(429, "post", "/v1/chat/completions", {"model": "gpt", "messages": SAID})
        [call] = answers(200, "get", "/api/admin/usage/held", key=ADMIN_KEY)["held"]
        door = "/api/admin/usage/held/{call}/" + word
        answers(200, "post", door.replace("{call}", call["call_id"]), key=ADMIN_KEY, at=door)
        answers(status, "post", "/v1/chat/completions", {"model": "gpt", "messages": SAID}, headers={"x-salon-call": call["call_id"]})
    answers(204, "delete", f"/api/admin/usage/limits/{limit['id']}", key=ADMIN_KEY, at="/api/admin/usage/limits/{id}")


@check()
def the_house_tells_how_it_is():
    for path in ("/healthz", "/readyz", "/health/liveliness", "/metrics", "/docs", "/redoc"):
        answers(200, "get", path, key=None)
    answers(200, "get", "/", key=None, headers={"accept": "application/json"})
    answers(426, "get", "/v1/responses", key=None)
    secret = {"x-telegram-bot-api-secret-token": "wrong"}
    answers(404, "post", "/telegram/webhook/nobody/wrong", {"update_id": 1}, key=None, headers=secret, at="/telegram/webhook/{bot_id}/{path_secret}")


run()
