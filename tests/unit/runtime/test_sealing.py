"""Secrets at rest open with their key, in their place, and nowhere else."""

import pytest

from runtime.sealing import Seal, Unsealable
from runtime.settings import Settings


def test_what_was_sealed_opens_in_its_place():
    """The same key and place give the secret back; no two seals look alike."""
    seal = Seal(b"k" * 32)
    one, two = (seal.seal(b"secret", place="here") for _ in range(2))
    assert one != two
    assert {seal.open(sealed, place="here") for sealed in (one, two)} == {b"secret"}


def test_nothing_else_opens_it():
    """Another key, another place, a changed octet, no key at all, and what is no seal."""
    sealed = Seal(b"k" * 32).seal(b"secret", place="here")
    damaged = ("A" if sealed[20] != "A" else "B").join((sealed[:20], sealed[21:]))
    for key, place, text in (
        (b"w" * 32, "here", sealed),
        (b"k" * 32, "there", sealed),
        (b"k" * 32, "here", damaged),
        (b"k" * 32, "here", ""),
        (None, "here", sealed),
    ):
        with pytest.raises(Unsealable):
            Seal(key).open(text, place=place)


def test_the_key_comes_from_the_setting_or_the_file(tmp_path):
    """The setting stands above the file; a short key is refused, and no key is no error yet."""
    assert not Seal.from_settings(Settings(data_dir=tmp_path)).has_key
    (tmp_path / "policy-key").write_text("f" * 64 + "\n")
    by_file = Seal.from_settings(Settings(data_dir=tmp_path)).seal(b"x", place="p")
    assert Seal(b"f" * 64).open(by_file, place="p") == b"x"
    with pytest.raises(ValueError, match="NIGHTMAIL_POLICY_KEY"):
        Seal.from_settings(Settings(data_dir=tmp_path, policy_key="short"))
