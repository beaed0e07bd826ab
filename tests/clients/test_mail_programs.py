"""Programs that know nothing of us: nodemailer and smtplib over SMTP, Django through its Resend backend."""

import smtplib
import ssl
import subprocess
import sys
from email.message import EmailMessage

import pytest

from tests.fixtures.node import send_by_nodemailer

DJANGO = """
import sys
import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

settings.configure(
    EMAIL_BACKEND="anymail.backends.resend.EmailBackend",
    ANYMAIL={"RESEND_API_KEY": sys.argv[1], "RESEND_API_URL": sys.argv[2] + "/"},
)
django.setup()
mail = EmailMultiAlternatives("From Django", "Hi", "Acme <on@acme.test>", ["ann@one.test"], cc=["bob@one.test"])
mail.attach_alternative("<p>Hi</p>", "text/html")
mail.attach("a.txt", "octets", "text/plain")
mail.tags = ["welcome"]
mail.send()
print(mail.anymail_status.message_id)
"""


@pytest.mark.parametrize("secure", [True, False])
def test_nodemailer(stack, secure):
    """It submits with STARTTLS and with implicit TLS, with an attachment and UTF-8."""
    details = stack.details
    transport = {
        "host": details.smtp_host,
        "port": details.smtps_port if secure else details.smtp_port,
        "secure": secure,
        "auth": {"user": "resend", "pass": details.api_key},
    }
    subject = f"Grüße {secure}"
    message = {
        "from": "Acme <on@acme.test>",
        "to": "ann@one.test",
        "subject": subject,
        "text": "Hi",
        "attachments": [{"filename": "a.txt", "content": "octets"}],
    }
    assert send_by_nodemailer(transport, message)["accepted"] == ["ann@one.test"]
    assert stack.await_mail(subject)["recipients"] == ["ann@one.test"]


def test_smtplib(stack):
    """The standard library's client submits with STARTTLS."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Acme <on@acme.test>", "ann@one.test", "From smtplib"
    mail.set_content("Hi")
    details = stack.details
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(details.smtp_host, details.smtp_port, timeout=20) as smtp:
        smtp.starttls(context=unverified)
        smtp.login("resend", details.api_key)
        assert smtp.send_message(mail) == {}
    assert stack.await_mail("From smtplib")["recipients"] == ["ann@one.test"]


def test_django(stack):
    """django-anymail's Resend backend sends by the API, with an alternative, an attachment, a copy and a tag."""
    command = [sys.executable, "-c", DJANGO, stack.details.api_key, stack.details.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    message = stack.await_mail("From Django")
    assert done.stdout.strip() in message["message_id"]
    assert set(message["recipients"]) == {"ann@one.test", "bob@one.test"}
