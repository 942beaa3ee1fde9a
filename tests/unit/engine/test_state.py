"""The state directory: its lock, what it says of the daemon, its tokens."""

import pytest

from dslmodel.engine import presence
from dslmodel.engine.state import StateDirectory, read_token
from dslmodel.errors import ConfigurationError, DslModelError


@pytest.fixture
def state(tmp_path):
    state = StateDirectory(tmp_path / "coordination")
    state.create()
    return state


def test_only_its_owner_can_look_into_it(state):
    assert state.path.stat().st_mode & 0o777 == 0o700


def test_the_second_one_does_not_get_the_lock_until_the_first_one_gives_it_back(state):
    second = StateDirectory(state.coord_dir)
    assert state.try_lock()
    assert state.try_lock()
    assert not second.try_lock()
    with pytest.raises(DslModelError, match="locked by another process"), second:
        pass
    state.unlock()
    with second:
        assert not state.try_lock()
    assert state.try_lock()
    state.unlock()


def test_a_file_in_the_way_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--coord-dir"):
        StateDirectory(tmp_path / "file").create()
    with pytest.raises(ConfigurationError, match="--coord-dir"):
        StateDirectory(tmp_path / "file" / "below").create()


def test_a_run_is_announced_with_its_addresses_and_departs_cleanly(state):
    identity = state.begin()
    assert state.read_daemon() is None
    state.announce(api="http://127.0.0.1:1", otlp_grpc=None)
    daemon = state.read_daemon()
    assert daemon == identity
    assert daemon["api"] == "http://127.0.0.1:1"
    assert presence.is_running(daemon)
    state.depart()
    assert state.read_daemon()["stopped_at"].endswith("Z")
    assert not presence.is_running(state.read_daemon())


def test_the_own_token_is_made_once_and_is_secret(state):
    token = state.own_token()
    assert len(token) >= 32
    assert state.own_token() == token
    assert (state.path / presence.TOKEN_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        (None, 0o600, "No such file"),
        ("secret\n", 0o644, "chmod 600"),
        ("secret\n", 0o640, "others can read it"),
        ("  \n", 0o600, "is empty"),
        ("two words", 0o600, "one line of printable ASCII"),
        ("geheimnis-ü", 0o600, "one line of printable ASCII"),
    ],
)
def test_a_token_file_that_is_unsafe_or_unusable_is_refused_with_the_fix(tmp_path, content, mode, complaint):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
    with pytest.raises(ConfigurationError, match=complaint):
        read_token(path)


def test_a_good_token_is_read_without_its_line_end(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o600)
    assert read_token(path) == "secret"
