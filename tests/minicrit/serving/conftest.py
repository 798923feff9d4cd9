"""One tiny critic and one service for the tests of a file."""

from collections.abc import Iterator

import pytest

from minicrit.base import Base
from minicrit.critic import Critic
from tests.minicrit.serving.running import Running, running


@pytest.fixture(scope="package")
def critic(tiny: Base) -> Critic:
    return Critic.load("tiny", base_folder=tiny.folder.parent)


@pytest.fixture(scope="module")
def live(critic: Critic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that all tests of a file share."""
    with running(critic, tmp_path_factory.mktemp("serving")) as found:
        yield found
