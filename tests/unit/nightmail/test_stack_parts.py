import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from nightmail import embedded, ports, valkey
from nightmail.announcement import curl_line
from nightmail.client_details import ClientDetails
from nightmail.complaint import Complaint, load_settings
from nightmail.configuration_page import PAGE, page
from nightmail.operator_settings import operator_settings
from nightmail.private import kept_secret
from nightmail.roles.seal import demand_seal
from nightmail.stack_folder import StackFolder, read_environment, write_environment
from runtime.settings import Settings

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """No NIGHTMAIL_* but the data folder."""
    for name in [name for name in os.environ if name.startswith("NIGHTMAIL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NIGHTMAIL_DATA_DIR", str(tmp_path))
    return monkeypatch


def test_the_configuration_page_is_current():
    """docs/configuration.md is what `python -m nightmail.configuration_page` would write."""
    assert PAGE.read_text() == page()
    assert all(f"`NIGHTMAIL_{name.upper()}`" in page() for name in Settings.model_fields)


def test_the_embedded_stack_sets_what_nobody_set(bare_environment):
    """Mail goes to the mailbox and chaos is on, unless the environment says otherwise."""
    assert embedded.resolve(load_settings()).route == "mailbox"
    assert embedded.resolve(load_settings()).chaos
    bare_environment.setenv("NIGHTMAIL_CHAOS", "false")
    bare_environment.setenv("NIGHTMAIL_API_PORT", "0")
    resolved = embedded.resolve(load_settings())
    assert not resolved.chaos
    assert resolved.api_port > 0


def test_the_embedded_queue_has_a_password_that_stays(tmp_path):
    """Valkey's password is made once, is in no command line, and its configuration is the owner's alone."""
    first, again = (embedded.prepare(embedded.resolve(load_settings())) for _ in range(2))
    url = first.settings.redis_url.get_secret_value()
    assert again.settings.redis_url.get_secret_value() == url
    assert first.store is not None
    assert not any("requirepass" in word for word in first.store.command)
    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    for name in ("secret", "policy-key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_embedded_queue_keeps_memory_at_hand(bare_environment):
    """Its C library is told to, unless whoever starts the stack tells it something else."""
    store = embedded.prepare(embedded.resolve(load_settings())).store
    assert store is not None
    assert dict(store.environment) == valkey.ENVIRONMENT
    bare_environment.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=1")
    store = embedded.prepare(embedded.resolve(load_settings())).store
    assert store is not None
    assert not store.environment


def test_production_does_not_start_without_the_key_of_the_dkim_keys(bare_environment, tmp_path):
    """Where domains must be verified, the missing key is named; elsewhere it may be missing; a short one never."""
    with pytest.raises(Complaint, match="NIGHTMAIL_POLICY_KEY is not set"):
        demand_seal(load_settings())
    assert not demand_seal(Settings(data_dir=tmp_path, verified_domains_only=False)).has_key
    bare_environment.setenv("NIGHTMAIL_POLICY_KEY", "short")
    with pytest.raises(Complaint, match="at least 16 bytes"):
        demand_seal(load_settings())


def test_a_queue_of_ones_own_replaces_the_embedded_one(bare_environment):
    """With NIGHTMAIL_REDIS_URL set no Valkey is started and its port is not asked for."""
    bare_environment.setenv("NIGHTMAIL_REDIS_URL", "redis://queue.example/0")
    stack = embedded.prepare(embedded.resolve(load_settings()))
    assert stack.store is None
    assert "valkey_port" not in stack.ports


def test_a_taken_port_is_named_with_its_setting():
    """The complaint tells the port and the variable that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Complaint, match=rf"Port {port} .* is taken.*NIGHTMAIL_SMTP_PORT"):
            ports.demand_free(Settings(smtp_port=port, smtps_port=0), ["smtp_port", "smtps_port"])


def test_free_ports_differ():
    """Each port of 0 becomes another free one; the others stay."""
    chosen = ports.choose_free(Settings(**dict.fromkeys(ports.LISTENERS, 0) | {"api_port": 4711}))
    assert chosen.api_port == 4711
    assert len({getattr(chosen, name) for name in ports.LISTENERS}) == len(ports.LISTENERS)


@pytest.mark.skipif(not OUTGOING.exists(), reason="the system does not say which ports it gives to connections")
def test_a_chosen_port_is_never_given_to_a_connection():
    """A connection that had the port of a killed process would keep it from coming back."""
    chosen = ports.choose_free(Settings(**dict.fromkeys(ports.LISTENERS, 0)))
    first, last = map(int, OUTGOING.read_text().split())
    assert not [name for name in ports.LISTENERS if first <= getattr(chosen, name) <= last]


def test_a_folder_has_one_stack(tmp_path):
    """The second holder hears who has it; when the first lets go the folder is free."""
    first, second = StackFolder(tmp_path), StackFolder(tmp_path)
    with first.hold():
        assert second.holder() == os.getpid()
        with pytest.raises(Complaint, match=f"running already .process {os.getpid()}"), second.hold():
            pass
        first.publish({"state": "ready"})
        assert second.state() == {"state": "ready"}
    assert second.holder() is None
    assert second.state() is None


def test_commands_find_the_settings_of_the_running_stack(tmp_path, bare_environment):
    """What the stack was started with counts while it runs, even against a port of 0 that it was free to choose."""
    folder = StackFolder(tmp_path)
    bare_environment.setenv("NIGHTMAIL_API_PORT", "0")
    with folder.hold():
        write_environment(folder.stack_env, {"NIGHTMAIL_API_PORT": "4711"})
        assert operator_settings().api_port == 4711
    assert operator_settings().api_port == 0


def test_local_env_is_private_and_reads_back(tmp_path):
    """Connection details are the owner's alone, in a form that a shell and we can read."""
    details = ClientDetails("http://127.0.0.1:1", "re_key", "127.0.0.1", 2, 3)
    write_environment(tmp_path / "local.env", details.to_environment())
    assert (tmp_path / "local.env").stat().st_mode & 0o777 == 0o600
    assert ClientDetails.from_environment(read_environment(tmp_path / "local.env")) == details
    assert "\n" not in curl_line(details)


def test_a_kept_secret_stays(tmp_path):
    """Made once, then read."""
    assert kept_secret(tmp_path / "deep" / "secret") == kept_secret(tmp_path / "deep" / "secret")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("NIGHTMAIL_API_PORT", "x", "NIGHTMAIL_API_PORT: "),
        ("NIGHTMAIL_ROUTE", "smarthost", "needs NIGHTMAIL_SMARTHOST_HOST"),
        ("NIGHTMAIL_LEASE", "soon", "NIGHTMAIL_LEASE: "),
    ],
)
def test_a_wrong_setting_is_named(bare_environment, variable, value, words):
    """The complaint names the variable."""
    bare_environment.setenv(variable, value)
    with pytest.raises(Complaint, match=words):
        load_settings()


def test_durations_are_seconds(bare_environment):
    """A plain number in the environment is seconds; ISO 8601 works too."""
    bare_environment.setenv("NIGHTMAIL_LEASE", "0.5")
    bare_environment.setenv("NIGHTMAIL_RETRY_MAX", "PT2H")
    assert load_settings().lease == timedelta(milliseconds=500)
    assert load_settings().retry_max == timedelta(hours=2)


def test_retries_are_quick_only_towards_the_mailbox(bare_environment):
    """A killed mailbox is back in a second; a real next hop is not hammered."""
    assert embedded.resolve(load_settings()).retry_first == timedelta(seconds=1)
    assert embedded.prepare(embedded.resolve(load_settings())).settings.retry_first == timedelta(seconds=1)
    bare_environment.setenv("NIGHTMAIL_ROUTE", "mx")
    assert embedded.resolve(load_settings()).retry_first == Settings().retry_first
