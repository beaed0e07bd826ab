"""What our own OpenAPI documents promise, tried with generated requests: good ones, and ones that break the schema.

No answer is a 5xx, every status and body is one that the document names, and what breaks the schema is refused.
"""

import asyncio
import contextlib
import os

import httpx
import pytest
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fixtures.api_stack import running
from tests.fixtures.generated import each_case

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2"))  # of each operation and mode; `make fuzz` asks for more
GOOD = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# The switch would break the database, and a key made here would have to be deleted again.
LEFT_OUT = {("POST", "/chaos/database"), ("POST", "/api-keys"), ("GET", "/metrics")}


def tried(document, base_url, token, mode):
    """Every operation of a document, with some requests of one mode. How many operations that were."""
    schema = schemathesis.openapi.from_dict(_without_security(document))
    checks = [*GOOD, negative_data_rejection] if mode is GenerationMode.NEGATIVE else GOOD
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) in LEFT_OUT:
            continue
        with contextlib.suppress(Unsatisfiable):  # there is nothing in it to break
            _try(operation, base_url, token, mode, checks)
            count += 1
    return count


def _without_security(document):
    """Otherwise most broken requests would be broken by having no key."""
    for path in document["paths"].values():
        for operation in path.values():
            operation.pop("security", None)
    document["components"].pop("securitySchemes")
    return document


def _try(operation, base_url, token, mode, checks):
    def ask(case):
        wanted = [check for check in checks if check is not negative_data_rejection or not _is_permissive(case)]
        case.call_and_validate(base_url=base_url, headers={"Authorization": f"Bearer {token}"}, checks=wanted)

    each_case(operation, mode, EXAMPLES, ask)


def _is_permissive(case):
    """Such a batch is never refused for what its mails lack: the answer is 200, and names them."""
    headers = {name.lower(): value for name, value in (case.headers or {}).items()}
    return headers.get("x-batch-validation") == "permissive"


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "broken"])
async def test_generated_requests(settings, mode):
    """Both documents, asked through the send API as clients do."""
    async with running(settings.model_copy(update={"rate_limit": 1_000_000})) as api:
        await api.record()
        async with httpx.AsyncClient(trust_env=False, verify=False) as nobody:
            documents = [(await nobody.get(f"{url}/openapi.json")).json() for url in (api.url, api.control_url)]
        for document in documents:
            assert await asyncio.to_thread(tried, document, api.url, api.token, mode) > 5
