"""Resend's own OpenAPI document, as far as it is about sending, held against our answers to requests generated from it.

Three kinds of request: some that can be sent, any that the document allows, and some that break it. No answer is a 5xx;
a 200 has every field that the document names, in its type; a refusal has the shape of Resend's errors.
"""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.generated import each_case

DOCUMENT = Path(__file__).parent.parent / "fixtures" / "resend_emails.yaml"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))  # of each operation and kind; `make fuzz` asks for more
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

ERROR = {
    "type": "object",
    "properties": {"statusCode": {"type": "integer"}, "name": {"type": "string"}, "message": {"type": "string"}},
    "required": ["statusCode", "name", "message"],
}
TEXT = {"type": "string", "pattern": "^[ -~]{0,40}$"}
ADDRESS = {"enum": ["ann@one.test", "Bob <bob@two.test>", "Żółć <zolc@two.test>"]}
ADDRESSES = {"oneOf": [ADDRESS, {"type": "array", "items": ADDRESS, "minItems": 1, "maxItems": 3}]}
WORD = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,20}$"}
SENDABLE = {
    "from": {"enum": ["Acme <on@acme.test>", "on@acme.test"]},
    **dict.fromkeys(("to", "cc", "bcc", "reply_to"), ADDRESSES),
    "subject": {"type": "string", "pattern": "^[!-~][ -~]{0,40}$"},
    "html": {"type": "string", "minLength": 1},
    "text": {"type": "string", "minLength": 1},
    "headers": {"type": "object", "propertyNames": {"pattern": "^X-[A-Z]{1,9}$"}, "additionalProperties": TEXT},
    "scheduled_at": {"enum": ["in 1 hour", "tomorrow at 9am"]},
    "attachments": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"content": {"enum": ["b2N0ZXRz"]}, "filename": {"enum": ["a.txt", "ą.pdf"]}},
            "required": ["content", "filename"],
            "additionalProperties": False,
        },
    },
    "tags": {
        "type": "array",
        "maxItems": 3,
        "uniqueItems": True,
        "items": {"type": "object", "properties": {"name": WORD, "value": WORD}, "required": ["name", "value"]},
    },
}


@pytest.fixture
def document():
    """The document, less what it has wrong about answers: the SDKs, and recordings of the real API, show it."""
    document = yaml.safe_load(DOCUMENT.read_text())
    paths, schemas = document["paths"], document["components"]["schemas"]
    for path in paths.values():
        for operation in path.values():
            operation["responses"]["4XX"] = {"description": "", "content": {"application/json": {"schema": ERROR}}}
    email = schemas["Email"]
    # What a mail does not have is null; items of lists are without contents; changes answer `object` and `id` alone.
    email["properties"] = {name: {"anyOf": [kind, {"type": "null"}]} for name, kind in email["properties"].items()}
    reference = {"type": "object", "required": ["object", "id"]}
    _answer(paths["/emails/{email_id}"]["patch"])["schema"] = reference
    _answer(paths["/emails/{email_id}/cancel"]["post"])["schema"] = reference
    schemas["ListEmailsResponse"]["properties"]["data"]["items"] = email | {
        "required": [name for name in email["properties"] if name not in {"object", "html", "text"}]
    }
    for name in ("Email", "SendEmailResponse", "CreateBatchEmailsResponse", "ListEmailsResponse"):
        schemas[name]["required"] = list(schemas[name]["properties"])
    change = {"application/json": {"schema": schemas["UpdateEmailOptions"] | {"required": ["scheduled_at"]}}}
    paths["/emails/{email_id}"]["patch"]["requestBody"] = {"content": change, "required": True}
    for path in ("/emails", "/emails/batch"):
        paths[path]["post"]["requestBody"]["required"] = True
    return document


def _answer(operation):
    return operation["responses"]["200"]["content"]["application/json"]


def _request(operation):
    return operation["requestBody"]["content"]["application/json"]


def narrowed(document, email_id):
    """Requests that can be sent, about a mail that is there."""
    paths, schemas, parameters = document["paths"], *map(document["components"].get, ("schemas", "parameters"))
    schemas["SendEmailRequest"] |= {"properties": SENDABLE, "additionalProperties": False}
    schemas["SendEmailRequest"]["required"] += ["text"]
    _request(paths["/emails/batch"]["post"])["schema"] |= {"minItems": 1, "maxItems": 3}
    _request(paths["/emails/{email_id}"]["patch"])["schema"]["properties"] = {"scheduled_at": SENDABLE["scheduled_at"]}
    parameters["PaginationAfter"]["schema"] = {"enum": [email_id]}
    paths["/emails"]["get"]["parameters"].pop()  # `before`, which `after` excludes
    for operation in (operation for path in paths.values() for operation in path.values()):
        for named in operation["parameters"]:
            if named.get("name") == "email_id":
                named["schema"] = {"enum": [email_id]}
    for path in ("/emails", "/emails/batch"):
        paths[path]["post"]["parameters"].clear()  # the key: a second one is a conflict
    return document


def tried(document, api, mode):
    """Each operation with some requests: the statuses of its answers, by operation."""
    checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS
    answers = {}
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        statuses = answers[f"{operation.method} {operation.path}"] = set()
        with contextlib.suppress(Unsatisfiable):  # there is nothing in it to break
            _try(operation, api, mode, checks, statuses)
    return answers


def _try(operation, api, mode, checks, statuses):
    def ask(case):
        headers = {"Authorization": f"Bearer {api.token}"}
        answer = case.call_and_validate(base_url=api.url, headers=headers, checks=checks)
        statuses.add(answer.status_code)

    each_case(operation, mode, EXAMPLES, ask)


@pytest.fixture
async def api(settings):
    async with running(settings.model_copy(update={"rate_limit": 1_000_000})) as api:
        yield api


async def _scheduled(api):
    """The id of a mail that can be read, moved and cancelled."""
    sent = (await api.client.post("/emails", json=MAIL | {"scheduled_at": "in 1 hour"})).json()
    await api.record()
    return sent["id"]


async def test_what_can_be_sent_is_sent(api, document):
    """Mail with any of the fields that the document has for it is taken, and its answer is the document's."""
    document = narrowed(document, await _scheduled(api))
    answers = await asyncio.to_thread(tried, document, api, GenerationMode.POSITIVE)
    cancelled = answers.pop("post /emails/{email_id}/cancel")
    assert cancelled <= {200, 409}
    assert 200 in cancelled
    assert answers == {operation: {200} for operation in answers}
    assert len(answers) == 5


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "broken"])
async def test_whatever_comes_has_an_answer(api, document, mode):
    """What the document allows is taken, or refused in Resend's form; what breaks it is refused."""
    await _scheduled(api)
    answers = await asyncio.to_thread(tried, document, api, mode)
    assert {status for statuses in answers.values() for status in statuses} <= {200, 400, 403, 404, 405, 409, 422}
    assert len(answers) == 6
