"""One stack for all clients of a file, as `make up` starts it."""

import pytest

from tests.fixtures.node import NodeSdk
from tests.fixtures.stack import UpStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with UpStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def sdk(stack):
    with NodeSdk(stack) as sdk:
        yield sdk
