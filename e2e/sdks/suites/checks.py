"""What the suites share: a list of things to try, and trouble at the scripted upstream."""

import base64
import contextlib
import json
import os
import sys
import traceback
import urllib.request

URL = os.environ["SALON_URL"]
KEY = os.environ["SALON_KEY"]
# It may use `claude` alone.
NARROW_KEY = os.environ["SALON_NARROW_KEY"]
UPSTREAM = os.environ["UPSTREAM_URL"]
# Too many requests; the wait that it asks for is longer than any pause an SDK would make by itself.
BUSY = "429:2"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PIXEL_BYTES = base64.b64decode(PIXEL)
WEATHER = "What the weather is like in a city."
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
ONE_CALL = '[[call:weather {"city":"Oslo"}]]'
TWO_CALLS = '[[call:weather {"city":"Oslo"}]] [[call:weather {"city":"Seoul"}]]'

_checks = []
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def check(*models):
    """Has the function tried, once for each of these models."""

    def add(function):
        name = function.__name__.replace("_", " ")
        if models:
            _checks.extend((f"{name}: {model}", function, (model,)) for model in models)
        else:
            _checks.append((name, function, ()))
        return function

    return add


def run():
    """Tries everything in order and prints how each went. It ends well if it gets to the end."""
    only = sys.argv[1:]
    for name, function, args in _checks:
        if only and not all(word in name for word in only):
            continue
        error = None
        try:
            function(*args)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"name": name, "error": error}), flush=True)


def _control(method, what, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{UPSTREAM}/_mock/upstream/{what}", data, {"content-type": "application/json"}, method=method)
    with _opener.open(request) as response:
        return json.load(response)


@contextlib.contextmanager
def trouble(mode, **rule):
    """As long as this lasts the upstream makes this trouble."""
    _control("POST", "troubles", {"mode": mode, **rule})
    try:
        yield
    finally:
        _control("DELETE", "troubles")


def upstream_calls():
    return _control("GET", "calls")["result"]["calls"]


def last_call():
    return upstream_calls()[-1]


@contextlib.contextmanager
def raises(kind, status=None, field="status_code"):
    """The inner part must raise exactly this kind of error."""
    try:
        yield
    except kind as error:
        assert status is None or getattr(error, field) == status, f"{getattr(error, field)}: {error}"
        return
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} instead of {kind}: {error}") from error
    raise AssertionError(f"no {kind} was raised")


@contextlib.contextmanager
def calls(number):
    """The inner part must lead to so many calls of the upstream."""
    before = len(upstream_calls())
    yield
    made = len(upstream_calls()) - before
    assert made == number, f"{made} calls"


def same(left, right):
    assert left == right, f"{left!r} is not {right!r}"


def cost(headers):
    """What Salon charged, in millionths of a dollar. The call must be the last one."""
    text = headers["x-salon-cost"]
    whole, _, part = text.partition(".")
    return int(whole) * 1_000_000 + int(part.ljust(6, "0"))


RATES = {"mock-gpt": (1, 2), "mock-claude": (3, 15), "mock-gemini": (1, 4), "mock-vectors": (1, 0)}


def costs_what_the_upstream_counted(headers):
    call = last_call()
    rate_in, rate_out = RATES[call["model"]]
    same(cost(headers), call["usage"]["input"] * rate_in + call["usage"]["output"] * rate_out)
