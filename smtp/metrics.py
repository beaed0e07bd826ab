"""What SMTP submission counts, for Prometheus."""

from prometheus_client import Counter, Gauge

from runtime.tally import Tally

MESSAGES = Tally(
    "nightmail_smtp_messages_total", "Messages that came to their final dot, by reply code", "code", known=["250"]
)
AUTHS = Counter("nightmail_smtp_auths_total", "AUTH commands that came to their end, by reply code", ["code"])
CONNECTIONS = Gauge("nightmail_smtp_connections", "Open SMTP connections")
CUT_OFF = Counter("nightmail_smtp_cut_off_total", "Connections that we closed with a last reply, by reply", ["reply"])
