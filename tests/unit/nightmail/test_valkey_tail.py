"""What a power cut leaves at the end of the queue's file."""

from nightmail.valkey import cut_unwritten_tail
from tests.fixtures.valkey import ValkeyServer


def test_a_queue_starts_behind_a_tail_that_was_not_written(tmp_path):
    """NULs, and half a command in front of them: what was confirmed is there."""
    with ValkeyServer(tmp_path) as server:
        with server.client() as client:
            client.set("confirmed", "yes")
        server.kill()
        (file,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
        whole = file.read_bytes()
        file.write_bytes(whole + b"*3\r\n$3\r\nSET\r\n$1" + bytes(3000))
        assert cut_unwritten_tail(tmp_path) == 3000
        assert cut_unwritten_tail(tmp_path) == 0
        server.start()
        with server.client() as client:
            assert client.get("confirmed") == b"yes"
            client.set("more", "yes")


def test_a_folder_without_a_queue(tmp_path):
    """There is nothing to cut."""
    assert cut_unwritten_tail(tmp_path) == 0
