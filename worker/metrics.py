"""What delivery counts, for Prometheus."""

from prometheus_client import Counter, Gauge

from runtime.tally import Durations, Tally

OUTCOMES = Tally(
    "nightmail_delivery_outcomes", "Outcomes of attempts, one per recipient, by route and state", "route", "state"
)
STEPS = Durations(
    "nightmail_delivery_step_seconds",
    "Time of each step of an attempt; MAIL, RCPT and DATA only where they were waited for",
    label="step",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 30, 120, 600),
)
DELAY = Durations(
    "nightmail_delivery_delay_seconds",
    "From accept, or from the scheduled time, to the next hop's yes",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3600, 14400),
)
CHANNELS = Gauge("nightmail_delivery_channels", "Connections at work now")
LEASES_LOST = Counter("nightmail_leases_lost", "Claims whose lease was lost before they were settled")
UNSETTLED = Gauge("nightmail_unsettled_receipts", "Outcomes in the journal that the queue has not confirmed yet")
QUEUE_FAILURES = Counter("nightmail_worker_queue_failures", "Calls to the queue that failed, by call", ["call"])
