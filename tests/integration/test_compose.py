"""docker-compose.yml and Dockerfile say the same as the local stack: commands, settings, ports, durability."""

import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from nightmail import embedded, valkey
from nightmail.cli import main
from runtime.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "nightmail"}
SETTINGS = {f"NIGHTMAIL_{name.upper()}": name for name in Settings.model_fields}
BOTO3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
KNOW_THE_DATABASE = {"control", "recorder"}


def resolved(value: str) -> str:
    """A value as compose would see it when only the demanded variables are set."""
    value = re.sub(r"\$\{\w+:\?[^}]*\}", "given-at-start-0123456789", str(value))
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def locked(lock: str) -> dict[str, str]:
    """The versions in a lock file, by package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def settings_of(service: str) -> Settings:
    """What a container reads when only the demanded variables are set: those without a value stay out."""
    given = {name: value for name, value in OURS[service]["environment"].items() if value is not None}
    return Settings(**{SETTINGS[name]: resolved(value) for name, value in given.items()})


def test_every_local_process_has_its_container():
    """The containers run the same roles as `nightmail up`, less the mailbox, with the same words."""
    local = {program.command[len(embedded.NIGHTMAIL) :] for program in embedded._programs(Settings(route="mailbox"))}
    local = {tuple(word for word in words if word not in ("--number", "1")) for words in local}
    assert {tuple(service["command"]) for service in OURS.values()} == local - {("mailbox", "serve")}


@pytest.mark.parametrize("service", OURS)
def test_commands_exist(service):
    """Each container's command is one of the command line, with options that it takes."""
    name, *words = OURS[service]["command"]
    command = main.get_command(click.Context(main), name)
    assert command is not None
    command.make_parser(click.Context(command)).parse_args(list(words))


@pytest.mark.parametrize("service", OURS)
def test_every_variable_is_a_setting_and_valid(service):
    """No misspelt NIGHTMAIL_*, and together they make valid settings."""
    environment = OURS[service]["environment"]
    assert set(environment) <= set(SETTINGS) | BOTO3
    settings = settings_of(service)
    assert settings.host == "0.0.0.0"
    assert settings.data_dir == Path(OURS[service]["volumes"][0].partition(":")[2])
    assert settings.redis_url.get_secret_value().endswith("@valkey:6379/0")


@pytest.mark.parametrize("service", OURS)
def test_only_control_and_recorder_know_the_database(service):
    """Nothing that takes or delivers mail has the database's address or waits for it."""
    environment = OURS[service]["environment"]
    assert ("NIGHTMAIL_DATABASE_URL" in environment) == (service in KNOW_THE_DATABASE)
    assert "postgres" not in OURS[service]["depends_on"]


def test_the_queue_is_set_as_the_local_one():
    """Valkey's flags in the container are the embedded ones, word for word."""
    words = SERVICES["valkey"]["command"]
    flags = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    assert {name: flags.get(name) for name in valkey.SETTINGS} == valkey.SETTINGS


def test_published_ports_are_the_default_ones():
    """Clients find both stacks at the same ports, and only the ways in are published, on loopback."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    defaults = {Settings.model_fields[name].default for name in ("api_port", "smtp_port", "smtps_port")}
    assert {tuple(resolved(port).split(":")) for port in published} == {("127.0.0.1", f"{p}", f"{p}") for p in defaults}
    assert SERVICES["api"]["environment"]["NIGHTMAIL_CONTROL_URL"].endswith(
        f":{Settings.model_fields['control_port'].default}"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_checked_bounded_and_restarted(service):
    """Health check, restart policy, limits, and no way to gain privileges."""
    container = SERVICES[service]
    assert container["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert container["restart"] == "unless-stopped"
    assert {"mem_limit", "cpus", "pids_limit"} <= set(container)
    assert "no-new-privileges:true" in container["security_opt"]
    for dependency in container.get("depends_on", ()):
        assert "healthcheck" in SERVICES[dependency]


@pytest.mark.parametrize("service", OURS)
def test_our_containers_cannot_be_written_to(service):
    """Read-only root, no capability, and one volume for what must stay."""
    container = OURS[service]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("service", OURS)
def test_health_checks_ask_where_the_process_listens(service):
    """The checked port is that of the role's listener, or the probe port of a process without one."""
    (port, path) = re.search(r"127\.0\.0\.1:(\d+)(/\w+)", " ".join(OURS[service]["healthcheck"]["test"])).groups()
    settings = settings_of(service)
    expected = {"api": settings.api_port, "control": settings.control_port}.get(service, settings.probe_port)
    assert int(port) == expected
    assert path == ("/readyz" if service == "api" else "/livez")


def test_the_operators_certificate_reaches_smtp():
    """Both settings are passed on when they are set, and the folder that they point into is mounted, read-only."""
    smtp = SERVICES["smtp"]
    assert {"NIGHTMAIL_TLS_CERT": None, "NIGHTMAIL_TLS_KEY": None}.items() <= smtp["environment"].items()
    name, folder, mode = resolved(smtp["volumes"][1]).split(":")
    assert name in FILE["volumes"]
    assert mode == "ro"
    assert f"NIGHTMAIL_TLS_CERT={folder}/" in (ROOT / "docker-compose.yml").read_text()


def test_the_whole_smarthost_reaches_the_worker():
    """Each setting of it can be given, with the same default."""
    wanted = {name for name in SETTINGS if name.startswith("NIGHTMAIL_SMARTHOST_")}
    assert wanted <= set(SERVICES["worker"]["environment"])
    assert settings_of("worker").smarthost_tls == Settings.model_fields["smarthost_tls"].default


def test_a_protected_database_has_its_logins():
    """The recorder's and the control API's login can be given, in the place of the owner of everything."""
    for service in KNOW_THE_DATABASE:
        environment = SERVICES[service]["environment"]
        assert environment["NIGHTMAIL_DATABASE_URL"].startswith("${NIGHTMAIL_DATABASE_URL:-")
        assert environment["NIGHTMAIL_DATABASE_CONTROL_URL"] is None


def test_no_secret_is_written_down():
    """Passwords and keys come from the environment; compose refuses to start without them."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|URL$", name) and name != "NIGHTMAIL_CONTROL_URL":
                assert value is None or re.search(r"\$\{\w+:[?-][^}]*\}", value), name
    assert not re.search(r"re_\w{8}_\w{24}", (ROOT / "docker-compose.yml").read_text())


def test_the_image_runs_the_locked_packages_as_nobody():
    """Installed with hashes from the lock, run by a user that is not root, every package of ours inside."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in dockerfile
    assert re.search(r"^USER (?!0|root)", dockerfile, re.MULTILINE)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= let_in
    assert {"pyproject.toml", "requirements.lock", "requirements-s3.lock", "README.md"} <= let_in


def test_the_image_can_use_stores_at_s3():
    """What the extra `s3` needs is locked in the versions of the other locks, and installed."""
    locks = {name: locked(f"requirements{name}.lock") for name in ("", "-s3", "-dev")}
    assert {"boto3", "botocore", "s3transfer"} <= set(locks["-s3"])
    assert locks["-s3"].items() <= locks["-dev"].items()
    assert all(locks[""].get(name, version) == version for name, version in locks["-s3"].items())
    assert "-r requirements-s3.lock" in (ROOT / "Dockerfile").read_text()
