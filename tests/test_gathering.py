"""What test processes send to the one that gathers their results."""

import warnings

from tests.conftest import pytest_warning_recorded


class Odd(UserWarning):
    """Of a package that takes seconds to load."""


def test_warnings_of_packages_leave_a_process_as_pythons_own():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("mind the gap", Odd, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    for one in caught:
        pytest_warning_recorded(one)
    assert [(one.category, type(one.message), str(one.message)) for one in caught] == [
        (UserWarning, UserWarning, "mind the gap"), (DeprecationWarning, DeprecationWarning, "old"),
    ]  # fmt: skip
