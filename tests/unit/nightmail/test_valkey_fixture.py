import redis

from tests.fixtures.valkey import ValkeyServer


def test_an_acknowledged_write_survives_kill_9(tmp_path):
    """What Valkey acknowledged is there again after kill -9 and a restart on the same port."""
    with ValkeyServer(tmp_path) as server:
        with server.client() as client:
            client.set("promise", "kept")
        server.kill()
        server.start()
        with server.client() as client:
            assert client.get("promise") == b"kept"


def test_the_shared_server_is_durable(redis_url):
    """The server that tests share runs with the durability settings of production."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.config_get("append*")["appendfsync"] == "always"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("save")["save"] == ""


def test_settings_belong_to_one_test(settings, redis_url):
    """Each test's settings name its own database and folder."""
    assert settings.redis_url.get_secret_value() == redis_url
    assert settings.queue_prefix != "nm"
