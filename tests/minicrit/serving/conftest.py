"""One tiny critic and one service for the tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from minicrit.base import Base
from minicrit.critic import Critic
from tests.minicrit.browser import Browser, found_browser
from tests.minicrit.serving.console_case import Console
from tests.minicrit.serving.running import Running, running


@pytest.fixture(scope="package")
def critic(tiny: Base) -> Critic:
    return Critic.load("tiny", base_folder=tiny.folder.parent)


@pytest.fixture(scope="module")
def live(critic: Critic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that all tests of a file share."""
    with running(critic, tmp_path_factory.mktemp("serving")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = found_browser()
    assert path is not None
    with Browser(path, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def console(critic: Critic, tmp_path: Path, browser: Browser) -> Iterator[Console]:
    """The page of a service that one test has for itself."""
    with running(critic, tmp_path) as service:
        yield Console(service, browser)
