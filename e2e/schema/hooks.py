"""What schemathesis cannot be told in its configuration."""

import itertools
import json
import os
import re
import urllib.request

import jsonschema_rs
import schemathesis
import urllib3.util.connection

# A check shows wrong keys to every route, and an address that shows many of them is held up, as it should be. So every
# connection comes from an address of its own: all of 127/8 is this machine.
_addresses = itertools.count(1)
_connect = urllib3.util.connection.create_connection


def _from_elsewhere(address, timeout=None, source_address=None, socket_options=None):
    number = next(_addresses)
    source = f"127.{1 + number // 65025 % 200}.{1 + number // 255 % 255}.{number % 255}"
    return _connect(address, timeout, (source, 0), socket_options)


urllib3.util.connection.create_connection = _from_elsewhere


def _call(method, path):
    request = urllib.request.Request(os.environ["SALON_URL"] + path, method=method, headers={"Authorization": f"Bearer {os.environ['SALON_KEY']}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read() or "null")


# The key that asks, and its person. The run begins with no other key.
[_own] = _call("GET", "/api/keys")["keys"]


# What goes on to an upstream.
RELAYED = {"createChatCompletion", "createResponse", "createCompletion", "createEmbeddings", "createMessage", "generateContent", "streamGenerateContent"}

# What is counted here, as it stands there.
COUNTED = {"countMessageTokens", "countContentTokens"}
# The same in the older shapes.
CHATS = {"chatOnce", "chatStream", "chatAsLlmServer", "chatStreamAsLlmServer"}


def _reads(**fields):
    return jsonschema_rs.validator_for({"type": "object", "properties": fields})


_OPTIONAL = {kind: {"type": [kind, "null"]} for kind in ("string", "boolean", "integer", "number", "object")}
# Somebody says something, or calls a tool.
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"type": "string"}, "content": {"type": ["string", "array", "null"]}},
    "anyOf": [
        {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}},
        {"required": ["tool_calls"]},
        {"required": ["function_call"]},
    ],
}
# What we read of such bodies.
_OURS = {
    False: _reads(model=_OPTIONAL["string"], stream=_OPTIONAL["boolean"], stream_options=_OPTIONAL["object"]),
    True: _reads(
        model=_OPTIONAL["string"],
        session_id={"type": "null"},
        messages={"type": "array", "minItems": 1, "items": _MESSAGE},
        max_tokens=_OPTIONAL["integer"],
        max_new_tokens=_OPTIONAL["integer"],
        temperature=_OPTIONAL["number"],
        do_sample=_OPTIONAL["boolean"],
    ),
}


def _id(case):
    return case.operation.definition.raw.get("operationId")


@schemathesis.hook
def filter_case(context, case):
    match _id(case):
        # Without its own key nothing that follows would be heard.
        case "revokeKey":
            return (case.path_parameters or {}).get("id") != _own["id"]
        # It would look for a host in the world.
        case "testProviderKey" | "testSharedProviderKey":
            return "base_url" not in (case.query or {})
    return True


_number = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    # The desk is for pages of its own origin.
    if case.path.startswith("/admin/api/"):
        case.headers["Sec-Fetch-Site"] = "same-origin"
    # The same key with another body is refused, as it should be; so a key that has room for a number gets one.
    for name, value in list((case.headers or {}).items()):
        if name.lower() == "idempotency-key" and re.fullmatch(r"[!-~]{16,255}", str(value)):
            case.headers[name] = f"{value[:-8]}{next(_number):08}"


_taken = set()


@schemathesis.hook
def after_call(context, case, response):
    # A limit that is about everybody would keep all that follows from being answered.
    if _id(case) == "addLimit" and response.status_code == 201:
        limit = response.json()
        if limit["subject"] in (None, _own["id"], _own["user_id"]):
            _taken.add(limit["id"])
            _call("DELETE", f"/api/admin/usage/limits/{limit['id']}")


# Requests that fit the description and are refused all the same: whether they are right depends on something that a
# schema cannot say. Each refusal is known by its words, so that another one is still a failure.
USAGE = {"findOwnUsage", "findUsageStatistics", "listUsageOfUsers", "findUsageOfUser"}
PLACES = {"putProviderKey", "testProviderKey", "removeProviderKey", "putSharedProviderKey", "testSharedProviderKey", "removeSharedProviderKey"}
EXCUSED = {
    # `from` and `to` stand in for `period`, and are in order.
    "say a period, or from and to": USAGE,
    "from lies behind to": USAGE,
    # What the limit measures was said when it was set.
    "amount is in dollars, as text": {"changeLimit"},
    "amount is a whole number": {"changeLimit"},
    "the pool of an organisation has no subject": {"addLimit"},
    "a chat is named by its bot and its number": {"addLimit"},
    # Which organisations there are, and whom they can choose.
    'there is no setting "default_engine.': {"changeSettings"},
    "the setting default_engine": {"changeSettings"},
    # Who answers, and where providers are, is for the house to say; and what may be asked from here.
    "there is no engine or model": {"makeSession", "chat", "chatStream"},
    "Where this provider is is not known here.": PLACES,
    "This address cannot be used: it has to be https": PLACES,
    "is no base address, such as": PLACES,
    "a webhook needs an https address": {"startWebhook"},
    "there is no such bot": {"startPolling", "startWebhook", "stopBot", "togglePause"},
    # A schema takes 1.0 for a whole number; Telegram writes 1.
    "update_id is required": {"receiveUpdate", "receiveUpdateOfFirst"},
    # What was asked before with the same key.
    "This Idempotency-Key was used for another request.": RELAYED | CHATS | {"makeKey", "addLimit", "approveCall", "denyCall", "makeSession", "chat", "embedAsLlmServer"},
    # What is a day, and when it is over; what is a network.
    "expires is a day such as": {"makeKey"},
    "A key cannot expire in the past.": {"makeKey"},
    "is no network": {"makeKey"},
    # What one protocol can say and another cannot, what has to be whole to be translated, and what the upstream wants.
    "cannot be carried to this model": RELAYED | {"chat"},
    " must be one of ": RELAYED,
    " is missing.": RELAYED,
    "is not served over this protocol": RELAYED,
    "there is no message": RELAYED | CHATS,
}


def _is_excused(case, response):
    """Whether a request that fits was refused for a reason that no schema has."""
    return any(json.dumps(words)[1:-1] in response.text and _id(case) in ids for words, ids in EXCUSED.items())


def _is_for_the_model(case):
    """Whether what is wrong with a body is none of our business: what we read of it is right, and the rest goes on."""
    if _id(case) not in RELAYED | COUNTED | CHATS or not case.meta:
        return False
    parts = case.meta.components.items()
    if any(part.mode.is_negative for place, part in parts if place.value != "body"):
        return False
    return _OURS[_id(case) in CHATS].is_valid(case.body)


def _is_right_without_blanks(case):
    """Whether a key is wrong for nothing but blanks around it: they are no part of a header's value."""
    key = next((str(value) for name, value in (case.headers or {}).items() if name.lower() == "idempotency-key"), "")
    return key != key.strip(" \t") and re.fullmatch(r"[ -~]{1,255}", key.strip(" \t")) is not None


@schemathesis.hook
def filter_failure(context, failure, case, response):
    match type(failure).__name__:
        case "RejectedPositiveData":
            return not _is_excused(case, response)
        case "AcceptedNegativeData":
            return not (_is_for_the_model(case) or _is_right_without_blanks(case))
        # It was there, until it was taken away above.
        case "EnsureResourceAvailability":
            return (case.path_parameters or {}).get("id") not in _taken
    return True
