"""What goes into the holes of a template, and what may not."""

from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.template import BadVariable, Template, Variable, Version, fill

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hi {{{NAME}}}!", "Hi Ann!"),
        ("{{{ NAME }}}", "Ann"),
        ("{{{WHO|there}}}", "there"),
        ("{{{WHO|}}}", ""),
        ("{{{NAME|there}}}", "Ann"),
        ("{{NAME}} {NAME} {{{}}} {{{a b}}}", "{{NAME}} {NAME} {{{}}} {{{a b}}}"),  # these are no holes
        ("{{{RAW}}}", "<b>{{{NAME}}}</b>"),  # neither escaped nor looked at again
    ],
)
def test_holes(text, said):
    """Each form of a hole, and what only looks like one."""
    assert fill(text, {"NAME": "Ann", "RAW": "<b>{{{NAME}}}</b>"}) == said


def test_a_hole_without_a_value():
    """Nothing is sent with a hole in it."""
    with pytest.raises(BadVariable, match='Missing value for variable "NAME"'):
        fill("Hi {{{NAME}}}", {})


VARIABLES = (Variable("NAME", "string"), Variable("PRICE", "number", 25))


@pytest.mark.parametrize(
    ("values", "html"),
    [
        ({"NAME": "Ann"}, "Ann 25"),
        ({"NAME": "Ann", "PRICE": 1.5}, "Ann 1.5"),
        ({"NAME": "", "PRICE": 0}, " 0"),
        ({"NAME": "Ann", "OTHER": "is not used"}, "Ann 25"),
    ],
)
def test_values(values, html):
    """A fallback stands where no value is given."""
    version = Version("v", "{{{NAME}}} {{{PRICE}}}", subject="For {{{NAME}}}", variables=VARIABLES)
    filled = version.filled(values)
    assert filled == {"html": html, "subject": f"For {values['NAME']}"}


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"NAME": 7}, 'Variable "NAME" must be a `string`.'),
        ({"NAME": "Ann", "PRICE": "7"}, 'Variable "PRICE" must be a `number`.'),
        ({"NAME": "Ann", "PRICE": True}, 'Variable "PRICE" must be a `number`.'),
        ({"NAME": None}, 'Variable "NAME" must be a `string`.'),
        ({"NAME": "Ann", "OTHER": {"a": 1}}, 'Variable "OTHER" must be a `number`.'),
        ({}, 'Missing value for variable "NAME".'),
    ],
)
def test_refused_values(values, refusal):
    """Values of the wrong type, and values that are not there."""
    with pytest.raises(BadVariable) as caught:
        Version("v", "{{{NAME}}} {{{PRICE}}}", variables=VARIABLES).filled(values)
    assert str(caught.value) == refusal


@given(st.text())
def test_any_text_is_a_template(text):
    """Filling ends in a text or a refusal, whatever the template says."""
    try:
        assert isinstance(fill(text, {}), str)
    except BadVariable:
        assert "{{{" in text


def test_stored_and_read():
    """A template is the same when it comes back."""
    draft = Version("v2", "<p>{{{NAME}}}</p>", reply_to=("a@b.test",), variables=VARIABLES)
    template = Template("t", "name", "alias", AT, AT, draft, published=Version("v1", "old"), published_at=AT)
    assert Template.from_dict(template.to_dict()) == template
    assert Version.from_dict(asdict(draft)) == draft
