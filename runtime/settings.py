"""Every setting of every process, read once from ``NIGHTMAIL_*`` and validated before anything starts.

Defaults are those of production. `nightmail up` overrides what an embedded stack needs (see nightmail/embedded.py).
Durations are seconds in the environment (``NIGHTMAIL_LEASE=20``) and timedeltas in code.
"""

import socket
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.networks import Network, parse_networks

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Share = Annotated[float, Field(ge=0, lt=1)]


def _seconds(value: object) -> object:
    """A number in a string is seconds; pydantic takes only numbers and ISO 8601."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


def _networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]  # NoDecode: a list, not JSON


class Settings(BaseSettings):
    """One value object for all processes; each process reads the part it needs."""

    model_config = SettingsConfigDict(env_prefix="NIGHTMAIL_", frozen=True, extra="ignore")

    # Where
    data_dir: Path = Field(Path("var"), description="Folder of everything this machine keeps: journals, stores, logs.")
    node: str = Field(default_factory=socket.gethostname, description="Name of this machine, unique among the nodes.")
    host: str = Field("127.0.0.1", description="Address that every listener binds.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    # Ports
    api_port: Port = Field(8420, description="HTTP: send API, and the front door of the control API.")
    control_port: Port = Field(8421, description="HTTP: control API; the send API forwards to it.")
    smtp_port: Port = Field(2587, description="SMTP submission with STARTTLS.")
    smtps_port: Port = Field(2465, description="SMTP submission with implicit TLS (RFC 8314).")
    mailbox_smtp_port: Port = Field(2525, description="SMTP of the development mailbox.")
    mailbox_port: Port = Field(8425, description="HTTP view of the development mailbox.")
    valkey_port: Port = Field(6420, description="Embedded Valkey (`nightmail up` only).")
    probe_port: Port = Field(0, description="/livez and /metrics of a process that serves no HTTP; 0 is off.")

    # Stores
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="The queue: Redis >= 6.2 or Valkey."
    )
    queue_prefix: str = Field("nm", pattern=r"^[a-z0-9_-]+$", description="Prefix of our keys, also their hash tag.")
    redis_timeout: Duration = Field(
        timedelta(milliseconds=250), description="Longest wait for one append to the queue."
    )
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; unset: SQLite in the data folder.")
    database_control_url: SecretStr | None = Field(
        None,
        description="The control API's own login; unset: NIGHTMAIL_DATABASE_URL, which then is the recorder's too.",
    )
    database_pool: Positive = Field(4, description="Most database connections of one process.")
    database_acquire_timeout: Duration = Field(timedelta(seconds=1), description="Longest wait for a connection.")
    secret: SecretStr | None = Field(
        None, description="Key of derived ids, the same on every node; unset: `secret` file."
    )
    policy_key: SecretStr | None = Field(
        None,
        description="Seals DKIM keys and webhook secrets in the queue, alike on every node; unset: `policy-key` file.",
    )

    # Accepting
    api_processes: Positive = Field(
        1, description="Processes of `nightmail api`, on one port; each counts rates and connections for itself."
    )
    smtp_processes: Positive = Field(1, description="The same for `nightmail smtp`.")
    public_url: str | None = Field(
        None, description="Where the world finds the send API, for addresses in answers; unset: host and port."
    )
    control_url: str | None = Field(None, description="Where the send API finds the control API; unset: host and port.")
    max_message_bytes: Positive = Field(
        40 * 1024 * 1024, le=200 * 1024 * 1024, description="Largest message, and largest HTTP body."
    )
    max_recipients: Positive = Field(50, description="Most recipients of one message.")
    max_batch: Positive = Field(100, description="Most messages of one POST /emails/batch.")
    rate_limit: Positive = Field(1000, description="Requests per second and API key, unless the key has its own.")
    verified_domains_only: bool = Field(True, description="Refuse senders whose domain is not verified.")
    refuse_reserved_recipients: bool = Field(
        True, description="Refuse recipients at example.com and other reserved names."
    )
    idempotency_retention: Duration = Field(
        timedelta(hours=24), description="How long an Idempotency-Key is remembered."
    )
    schedule_horizon: Duration = Field(timedelta(days=30), description="How far ahead scheduled_at may lie.")

    # Refusing in time
    accept_places: Positive = Field(64, description="Most accepts of one process that are worked on at once.")
    accept_waiting: Positive = Field(
        1024, description="Most accepts that wait for a place in a burst; a quarter of the places once it lasts."
    )
    accept_wait: Duration = Field(timedelta(seconds=1), description="Longest wait of an accept for a place.")
    accept_bytes: Positive = Field(
        256 * 1024 * 1024, description="Most octets of large requests in the memory of one process."
    )
    journal_way_every: int = Field(
        256, ge=0, description="One accept in so many goes by the journal alone, so that this way is never untried."
    )
    disk_floor_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Free bytes below which nothing is accepted: journals and queue."
    )
    disk_floor_share: Share = Field(0.05, description="The same as a share of the disk; the higher of both counts.")
    inode_floor: int = Field(1000, ge=0, description="Free inodes below which nothing is accepted.")
    inode_floor_share: Share = Field(0.01, description="The same as a share; the higher of both counts.")
    queue_memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="Share of the queue's maxmemory above which nothing is accepted; 1 is off."
    )

    # SMTP submission
    smtp_hostname: str = Field(
        default_factory=socket.gethostname, description="Name in our banner, EHLO and Message-IDs."
    )
    tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM) of SMTP; unset: self-signed, made at start."
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of tls_cert.")
    smtp_bare_newline: Literal["refuse", "normalise"] = Field("refuse", description="Bare CR or LF in content.")
    smtp_max_connections: Positive = Field(1000, description="Most SMTP connections of one process.")
    smtp_max_connections_per_host: Positive = Field(200, description="Most SMTP connections from one address.")
    smtp_trusted_networks: Networks = Field(
        (),
        description="Networks (`10.1.0.0/16, fd00::/8`) whose clients may send without AUTH and TLS; rates and checks "
        "of senders stay.",
    )
    smtp_auth_tries: Positive = Field(3, description="Failed AUTH commands before 421.")
    smtp_timeout: Duration = Field(timedelta(minutes=5), description="Idle time before 421 (RFC 5321 section 4.5.3.2).")

    # Delivery
    route: Literal["mx", "smarthost", "mailbox"] = Field("mx", description="Next hop of every message.")
    smarthost_host: str = Field("", description="Next hop when the route is `smarthost`.")
    smarthost_port: Port = Field(587, description="Its port.")
    smarthost_tls: Literal["none", "starttls", "implicit"] = Field(
        "starttls", description="TLS to the smarthost, verified."
    )
    smarthost_user: str = Field("", description="AUTH user at the smarthost; empty: no AUTH.")
    smarthost_password: SecretStr = Field(SecretStr(""), description="AUTH password at the smarthost.")
    retry_first: Duration = Field(timedelta(minutes=5), description="Delay before the first retry; doubles each time.")
    retry_max: Duration = Field(timedelta(hours=4), description="Longest delay between retries.")
    expire_after: Duration = Field(timedelta(days=3), description="Age at which a deferred recipient fails (4.4.7).")
    lease: Duration = Field(
        timedelta(seconds=20), description="How long a claim hides a delivery; renewed while sending."
    )
    claim_batch: Positive = Field(20, description="Most deliveries in one claim.")
    lane_connections: Positive = Field(10, description="Most connections to one lane, over all workers.")
    worker_connections: Positive = Field(
        50, description="Most outgoing connections of one worker; as many again beside those where nobody answers."
    )
    drain_slice: Duration = Field(timedelta(seconds=30), description="How long one drain job runs before it ends.")
    workers: Positive = Field(1, description="Drain workers that `nightmail up` starts.")
    mailbox_misbehaves: bool = Field(
        False, description="The mailbox answers 450 to recipients `defer...@` and 550 to `refuse...@`."
    )
    max_releases: Positive = Field(5, description="Expired leases after which a delivery is held for a person.")

    # Sending domains
    dns_resolvers: str = Field(
        "", description="Resolvers to ask, `address` or `address:port`, with commas between; unset: the system's."
    )
    spf_mechanisms: str = Field(
        "",
        description="SPF mechanisms of the hosts that send for us, such as `ip4:192.0.2.1 include:relay.example`; "
        "unset: `a:` and NIGHTMAIL_SMTP_HOSTNAME.",
    )
    bounce_host: str = Field(
        "",
        description="Mail host that takes bounces for `send.<domain>`, which then is the reverse-path of mail from a "
        "verified domain; unset: bounces go to the sender's address.",
    )

    tracking_host: str = Field(
        "",
        description="Name of this send API to which `tracking_subdomain` of a domain leads by CNAME, where a proxy of "
        "yours has the certificates; unset: the host of NIGHTMAIL_PUBLIC_URL.",
    )

    # Webhooks
    webhook_timeout: Duration = Field(timedelta(seconds=15), description="Longest wait for an endpoint's answer.")
    webhook_give_up: Duration = Field(
        timedelta(days=5), description="A webhook whose every attempt has failed for so long is disabled."
    )
    webhook_keep: Positive = Field(
        10_000,
        description="Messages kept of each webhook; at most half of them wait, what follows stays in the events.",
    )
    reachable_networks: Networks = Field(
        (), description="Private networks (`10.1.0.0/16`) that the URLs of webhooks and attachments may lead to."
    )

    # Recording and keeping
    recent_retention: Duration = Field(
        timedelta(minutes=10), description="How long an ended message stays readable in the queue."
    )
    journal_retention: Duration = Field(
        timedelta(days=7), description="Least age at which a journal segment is deleted, once all its mail has ended."
    )
    recorder_batch: Positive = Field(2000, description="Most events in one database transaction.")
    request_log_keep: Positive = Field(
        10_000, description="Requests to the API kept in the queue for GET /logs; sends that were taken are not."
    )
    stream_keep: Positive = Field(10_000, description="Archived events kept in the queue for a quick catch-up.")
    blob_url: str = Field(
        "",
        description="Where contents over 64 KB go: `s3://bucket/prefix`, or a folder that all machines of the queue "
        "see; unset: `blobs` in data_dir where the queue is on this machine, else the queue itself.",
    )
    blob_endpoint: str | None = Field(None, description="URL of the S3-compatible store; unset: Amazon's.")
    archive_url: str = Field(
        "", description="Where archived events go: `s3://bucket/prefix`, or a folder; unset: `archive` in data_dir."
    )
    archive_endpoint: str | None = Field(None, description="URL of the S3-compatible store; unset: Amazon's.")
    archive_retention: Duration = Field(
        timedelta(days=35), description="Age at which archived events are deleted; keep it above the oldest backup's."
    )
    chaos: bool = Field(False, description="Allow the database chaos switch.")

    # Guarding the database (PostgreSQL)
    recorder_processes: Positive = Field(1, description="Recorders that run, counted in the connection budget.")
    control_processes: Positive = Field(1, description="Control APIs that run, counted in the connection budget.")
    database_operator_url: SecretStr | None = Field(
        None, description="Login of `nightmail database` and `nightmail check database`; unset: NIGHTMAIL_DATABASE_URL."
    )
    database_password_migrate: SecretStr | None = Field(
        None,
        description="Password that `nightmail database protect` sets for nightmail_migrate; unset: made and shown.",
    )
    database_password_recorder: SecretStr | None = Field(None, description="The same for nightmail_recorder.")
    database_password_control: SecretStr | None = Field(None, description="The same for nightmail_control.")
    database_password_readonly: SecretStr | None = Field(
        None, description="The same for nightmail_readonly; `nightmail check database` logs in with it."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.route == "smarthost" and not self.smarthost_host:
            raise ValueError("NIGHTMAIL_ROUTE=smarthost needs NIGHTMAIL_SMARTHOST_HOST")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("NIGHTMAIL_TLS_CERT and NIGHTMAIL_TLS_KEY go together")
        return self

    @property
    def blobs(self) -> str:
        """Where large contents are kept; empty: in the queue. Another machine could not read a folder of this one."""
        server = urlsplit(self.redis_url.get_secret_value())
        is_here = server.scheme == "unix" or server.hostname in _LOOPBACK
        return self.blob_url or (str(self.data_dir / "blobs") if is_here else "")

    @cached_property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'history.sqlite'}"

    @property
    def public(self) -> str:
        """Base URL of the send API as clients use it, without a slash at the end."""
        return (self.public_url or f"http://{self.host}:{self.api_port}").rstrip("/")

    @property
    def tracking_url(self) -> str:
        """Base of tracked links of domains without a subdomain for them; empty: readers elsewhere could not follow."""
        return self.public if self.public_url or self.route == "mailbox" else ""

    @cached_property
    def control(self) -> str:
        """Base URL of the control API."""
        return self.control_url or f"http://{self.host}:{self.control_port}"
