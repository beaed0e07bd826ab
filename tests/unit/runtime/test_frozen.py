"""Values are values at run time too, whatever the type checker alone holds."""

from dataclasses import replace

import pytest

from runtime.frozen import frozen


@frozen
class Point:
    """A value."""

    x: int
    y: int = 0


def test_equal_values_are_one():
    """What is equal has one hash, and `replace` makes another value."""
    assert {Point(1), Point(1, 0)} == {Point(1)}
    assert replace(Point(1), y=2) == Point(1, 2)


def test_there_are_no_other_fields():
    """A field that was misspelt is refused at run time."""
    with pytest.raises(AttributeError):
        Point(1).z = 3
