"""Calls to the API of a running stack, for commands. What goes wrong becomes a complaint with the API's own words."""

from typing import Any

import httpx

from nightmail.complaint import Complaint


def call(api: tuple[str, str], method: str, path: str, *, json: Any = None) -> dict[str, Any]:
    """The answer to one request. `api` is (URL, key)."""
    url, key = api
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "nightmail"}
    try:
        answer = httpx.request(method, url + path, json=json, headers=headers, timeout=10, trust_env=False)
    except httpx.HTTPError as error:
        raise Complaint(f"No answer from {url} ({error}).") from None
    if answer.is_success:
        body: dict[str, Any] = answer.json()
        return body
    raise Complaint(f"{url} answered {answer.status_code}: {_message(answer)}")


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
