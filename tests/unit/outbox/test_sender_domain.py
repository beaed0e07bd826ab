"""The life of a sending domain, by what the DNS says of its records."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from outbox.dkim_key import Algorithm, DkimKey
from outbox.sender_domain import OVERLAP, PATIENCE, Check, Found, Hosts, SenderDomain, Status

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTS = Hosts("ip4:192.0.2.1", "")
HOUR = timedelta(hours=1)
SPF, RSA, ED = "TXT @", "TXT a-rsa._domainkey", "TXT a-ed25519._domainkey"
ALL = (SPF, RSA, ED)


def keys(word="a", at=NOON):
    return tuple(DkimKey(f"{word}-{algorithm}", algorithm, f"{word}public", "sealed", at) for algorithm in Algorithm)


def domain(**fields):
    return SenderDomain("id", "ours.test", NOON, keys=keys(), **fields)


def found(*present, unknown=(), every=ALL):
    return {key: Found.YES if key in present else Found.UNKNOWN if key in unknown else Found.NO for key in every}


def judged(there, *present, at=NOON, **more):
    return there.judged(found(*present, **more), HOSTS, now=at)


def status(there):
    return there.status(HOSTS)


@pytest.mark.parametrize(
    ("present", "expected", "sends"),
    [
        ((), Status.PENDING, False),
        ((SPF, ED), Status.PENDING, False),  # anyone could point an SPF record at us; only the RSA key decides
        ((RSA,), Status.PARTIALLY_VERIFIED, True),
        ((RSA, SPF), Status.PARTIALLY_VERIFIED, True),
        (ALL, Status.VERIFIED, True),
    ],
)
def test_what_is_found_decides(present, expected, sends):
    """The status after the first look, and whether mail is taken."""
    there = judged(domain().asked(HOSTS, now=NOON), *present)
    assert (status(there), there.may_send(HOSTS)) == (expected, sends)


def test_nothing_happens_before_it_is_asked_for():
    """A new domain has not started, and a look changes only what is there."""
    assert status(domain()) is Status.NOT_STARTED
    assert status(judged(domain())) is Status.NOT_STARTED


def test_patience_ends():
    """What is not published within three days has failed, until somebody asks again."""
    there = domain().asked(HOSTS, now=NOON)
    assert status(judged(there, at=NOON + PATIENCE)) is Status.PENDING
    failed = judged(there, at=NOON + PATIENCE + HOUR)
    assert status(failed) is Status.FAILED
    assert status(failed.asked(HOSTS, now=NOON + 2 * PATIENCE)) is Status.PENDING
    assert status(judged(there, RSA, at=NOON + PATIENCE + HOUR)) is Status.PARTIALLY_FAILED


def test_a_silent_dns_changes_nothing():
    """However long no resolver answers: a verified domain stays so, a pending one stays pending."""
    late = NOON + 10 * PATIENCE
    verified = judged(domain().asked(HOSTS, now=NOON), *ALL)
    assert judged(verified, unknown=ALL, at=late) == verified
    assert status(judged(domain().asked(HOSTS, now=NOON), unknown=ALL, at=late)) is Status.PENDING


def test_a_lost_record_has_three_days():
    """A verified record that is gone is a temporary failure, under which mail flows; then the domain has failed."""
    there = judged(domain().asked(HOSTS, now=NOON), *ALL)
    lost = judged(there, SPF, ED, at=NOON + HOUR)
    assert (status(lost), lost.may_send(HOSTS)) == (Status.TEMPORARY_FAILURE, True)
    assert status(judged(lost, *ALL, at=NOON + 2 * HOUR)) is Status.VERIFIED
    gone = judged(lost, SPF, ED, at=NOON + 2 * HOUR + PATIENCE)
    assert (status(gone), gone.may_send(HOSTS)) == (Status.FAILED, False)


def test_asking_stops_no_mail():
    """To verify a verified domain again leaves it verified, and one that lost a record its three days."""
    there = judged(domain().asked(HOSTS, now=NOON), *ALL)
    assert status(there.asked(HOSTS, now=NOON + HOUR)) is Status.VERIFIED
    lost = judged(there, at=NOON + HOUR).asked(HOSTS, now=NOON + 2 * HOUR)
    assert (status(lost), lost.may_send(HOSTS)) == (Status.TEMPORARY_FAILURE, True)


def test_the_operators_word_stands_above_the_dns():
    """Allowed without any record, denied with all of them."""
    assert replace(domain(), allowed=True).may_send(HOSTS)
    assert not replace(judged(domain().asked(HOSTS, now=NOON), *ALL), allowed=False).may_send(HOSTS)


def test_rotation_overlaps():
    """The old keys sign until the new are seen, lose their private halves then, and stay published for a week."""
    there = judged(domain().asked(HOSTS, now=NOON), *ALL).rotated(keys("b", NOON + HOUR), now=NOON + HOUR)
    every = (*ALL, "TXT b-rsa._domainkey", "TXT b-ed25519._domainkey")
    assert status(there) is Status.VERIFIED
    assert {key.selector for key in there.signing_keys()} == {"a-rsa", "a-ed25519"}

    half = judged(there, *ALL, "TXT b-rsa._domainkey", every=every, at=NOON + 2 * HOUR)
    assert {key.selector for key in half.signing_keys()} == {"b-rsa", "a-ed25519"}
    assert {key.selector: bool(key.sealed) for key in half.keys} == {
        "a-rsa": False, "a-ed25519": True, "b-rsa": True, "b-ed25519": True,
    }  # fmt: skip

    whole = judged(half, *every, every=every, at=NOON + 3 * HOUR)
    assert len(whole.records(HOSTS)) == 5
    after = judged(whole, *every, every=every, at=NOON + 4 * HOUR + OVERLAP)
    assert [key.selector for key in after.keys] == ["b-rsa", "b-ed25519"]
    assert status(after) is Status.VERIFIED


def test_an_unpublished_algorithm_does_not_sign():
    """Who publishes only the RSA key is signed for with that one; before anything is seen, with both."""
    assert len(domain().signing_keys()) == 2
    there = judged(domain().asked(HOSTS, now=NOON), RSA)
    assert [key.algorithm for key in there.signing_keys()] == [Algorithm.RSA]


def test_records_of_a_return_path():
    """With a host that takes bounces, MX and SPF belong to the return path, and the reverse-path waits for both."""
    hosts = Hosts("a:out.test", "mx.out.test")
    there = domain(return_path="bounce").asked(hosts, now=NOON)
    records = {record.key: (record.value, record.priority) for record in there.records(hosts)}
    assert records["MX bounce"] == ("mx.out.test", 10)
    assert records["TXT bounce"] == ("v=spf1 a:out.test ~all", None)
    assert there.bounce_domain(hosts) == ""
    seen = there.judged({"MX bounce": Found.YES, "TXT bounce": Found.YES}, hosts, now=NOON)
    assert seen.bounce_domain(hosts) == "bounce.ours.test"
    assert seen.bounce_domain(HOSTS) == ""


def test_it_comes_back_from_json_as_it_was():
    """`from_dict` is the inverse of `to_dict`."""
    there = judged(judged(domain().asked(HOSTS, now=NOON), *ALL), SPF, at=NOON + HOUR)
    assert SenderDomain.from_dict(there.to_dict(HOSTS)) == there
    assert there.check(RSA) == Check(Status.TEMPORARY_FAILURE, NOON + HOUR)
