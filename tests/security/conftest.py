"""The keys of a small federation."""

import pytest
from support.signing import Keys, keys


@pytest.fixture(scope="session")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys(tmp_path_factory.mktemp("keys"))
