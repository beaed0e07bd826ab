"""One stack for all tests of this file: what a newcomer does with `make up`."""

import base64
import email
import os
import random
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import time

import httpx
import orjson
import pytest

from tests.fixtures.stack import UpStack, nightmail
from tests.fixtures.waiting import until_sync


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with UpStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_curl_line_sends_a_mail_when_pasted(stack):
    """The line works in a shell, and the mail is in the mailbox with the id it printed."""
    (line,) = [line for line in stack.said().splitlines() if line.startswith("curl ")]
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=20)
    message = stack.await_mail("Hello")
    assert orjson.loads(done.stdout)["id"] in message["message_id"]
    assert message["recipients"] == ["you@example.org"]


@pytest.mark.parametrize("port", ["smtp_port", "smtps_port"])
def test_mail_by_smtp(stack, port):
    """Smtplib sends over STARTTLS and over implicit TLS, with the printed user and the key as password."""
    details = stack.details
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if port == "smtps_port":
        client = smtplib.SMTP_SSL(details.smtp_host, details.smtps_port, context=tls, timeout=20)
    else:
        client = smtplib.SMTP(details.smtp_host, details.smtp_port, timeout=20)
    with client:
        if port == "smtp_port":
            client.starttls(context=tls)
        client.login("resend", details.api_key)
        client.sendmail(
            "a@example.com", ["b@example.org"], f"From: a@example.com\r\nSubject: by {port}\r\n\r\nhello\r\n"
        )
    assert stack.await_mail(f"by {port}")["reverse_path"] == "a@example.com"


def test_a_domain_is_added_signed_for_and_rotated(stack):
    """The domain commands: records to publish, signed mail, new keys, and an end."""

    def domain(*words):
        done = nightmail(stack.folder, "domain", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    added = domain("add", "signed.example")
    assert added.startswith("signed.example is not_started. Publish:")
    selectors = re.findall(r"(\S+)\._domainkey\.signed\.example\. TXT \"v=DKIM1", added)
    assert len(selectors) == 2
    assert "not_started" in domain("list")
    until_sync(lambda: _signs(stack, selectors))
    assert len(re.findall(r"not_started|pending", domain("rotate", "signed.example"))) >= 2
    domain("remove", "signed.example")
    assert "signed.example" not in domain("list")
    assert "There is no domain" in nightmail(stack.folder, "domain", "show", "signed.example").stderr


def _signs(stack, selectors):
    """Whether a mail sent now arrives with these signatures; workers learn of keys within a second."""
    subject = f"signed {time.monotonic()}"
    stack.send(subject, **{"from": "a@signed.example"})
    mail = stack.await_mail(subject)
    url = f"http://127.0.0.1:{stack.state['ports']['mailbox_port']}/messages/{mail['n']}/raw"
    raw = httpx.get(url, trust_env=False).raise_for_status().text
    return all(f"s={selector};" in raw for selector in selectors)


def test_25_megabytes_arrive_as_they_were_sent(stack):
    """By SMTP the content is the same to the octet; by HTTP the file is, after MIME is taken away."""
    details = stack.details
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    octets = random.Random(1).randbytes(18_500_000)  # 25 MB in base64
    head = b"From: a@example.com\r\nSubject: large by smtp\r\nMessage-ID: <large@x>\r\n"
    head += b"Date: Sun, 1 Mar 2026 12:00:00 +0000\r\n"
    content = head + b"\r\n" + b".dot\r\n" + base64.encodebytes(octets).replace(b"\n", b"\r\n")
    with smtplib.SMTP_SSL(details.smtp_host, details.smtps_port, context=tls, timeout=60) as client:
        client.login("resend", details.api_key)
        client.sendmail("a@example.com", ["b@example.org"], content)
    file = {"filename": "a.bin", "content": base64.b64encode(octets).decode()}
    stack.send("large by http", attachments=[file])
    assert stack.raw(stack.await_mail("large by smtp")) == content
    mail = email.message_from_bytes(stack.raw(stack.await_mail("large by http")))
    assert [part.get_payload(decode=True) for part in mail.walk() if part.get_filename()] == [octets]


def test_sending_goes_on_while_the_database_is_away(stack):
    """The chaos command takes the database away, mail is still taken and delivered, and the backlog tells it."""
    assert "is down" in nightmail(stack.folder, "chaos", "database", "down", "--for", "60").stdout
    try:
        mail = ("--from", "a@b.example", "--to", "c@d.example", "--subject", "in the dark", "--text", "x")
        sent = nightmail(stack.folder, "send", *mail)
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.strip() in stack.await_mail("in the dark")["message_id"]
        until_sync(lambda: stack.api("GET", "/backlog").json()["recorder"]["state"] == "waiting")
        assert "recorder: waiting" in nightmail(stack.folder, "backlog").stdout
    finally:
        assert "is up" in nightmail(stack.folder, "chaos", "database", "up").stdout
    until_sync(lambda: stack.api("GET", "/backlog").json()["recorder"]["behind"] == 0)


@pytest.mark.parametrize("name", ["worker-1", "api", "valkey"])
def test_what_is_killed_comes_back_and_mail_flows(stack, name):
    """After kill -9 of one process it is started again, and mail sent meanwhile arrives."""
    before = stack.pids[name]
    os.kill(before, signal.SIGKILL)
    until_sync(lambda: stack.pids[name] not in (before, None))
    until_sync(lambda: _can_send(stack, f"after {name}"))
    stack.await_mail(f"after {name}")


def _can_send(stack: UpStack, subject: str) -> bool:
    try:
        stack.send(subject)
    except httpx.TransportError:  # nobody listens yet
        return False
    return True


def test_commands_find_the_running_stack(stack):
    """Status, check, keys and the mailbox need no setting but the data folder."""
    status = nightmail(stack.folder, "status", "--json")
    assert orjson.loads(status.stdout)["state"] == "ready"
    check = nightmail(stack.folder, "check")
    assert check.returncode == 0, check.stdout + check.stderr
    assert stack.details.api_key not in check.stdout
    assert "nightmail up" in nightmail(stack.folder, "key", "list").stdout
    stack.send("listed")
    stack.await_mail("listed")
    assert "listed" in nightmail(stack.folder, "mailbox").stdout


def test_a_second_stack_in_the_folder_is_refused(stack):
    """It hears which process has the folder, and the first one goes on."""
    second = nightmail(stack.folder, "up")
    assert second.returncode == 1
    assert f"running already (process {stack.process.pid})" in second.stderr
    assert stack.process.poll() is None


def test_a_taken_port_is_named(stack, tmp_path):
    """Starting elsewhere on a taken port fails at once and says which setting to change."""
    port = stack.state["ports"]["api_port"]
    other = nightmail(tmp_path, "up", api_port=str(port))
    assert other.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken. Choose another with NIGHTMAIL_API_PORT." in other.stderr


def test_the_key_is_in_no_log(stack):
    """What was printed at the terminal is in no log file."""
    logs = "".join(path.read_text() for path in (stack.folder / "log").iterdir())
    assert stack.details.api_key not in logs
    assert stack.details.api_key.split("_")[2] not in logs


def test_the_demo_tells_its_story(stack):
    """A short demo against the running stack accounts for every mail and ends well."""
    told = nightmail(stack.folder, "demo", "--running", "--mails", "60", "--seconds", "3")
    assert told.returncode == 0, told.stdout + told.stderr
    for line in ("accepted         60 (30 by API, 30 by SMTP)", "lost             0", "in history       60"):
        assert line in told.stdout
    assert "The promise held" in told.stdout
