"""Who may come in, whatever they say."""

from hypothesis import given
from hypothesis import strategies as st

from llmscope.support.text import display_text
from llmscope.web.auth import Auth

NAMES = ("127.0.0.1:8000", "localhost:8000")
ORIGINS = ["http://127.0.0.1:8000"]
NEAR = [
    *("127.0.0.1", "127.0.0.1:80", "127.0.0.1:80000", "localhost:8000.", "localhost.:8000"),
    *("evil.example:8000", "localhost:8000@evil.example", "127.0.0.1:8000, evil.example"),
    *(
        "127.0.0.1:8000 ",
        "",
        "[::1]:8000",
        "0.0.0.0:8000",
        "127.0.0.1:8000\x1b[31m",
        "ｌocalhost:8000",
    ),
]
said = st.one_of(st.sampled_from(NEAR), st.text(max_size=30), st.sampled_from(NAMES))


def gate():
    return Auth(NAMES)


def test_our_own_page_is_no_stranger():
    for host in (*NAMES, "LOCALHOST:8000"):
        assert gate().stranger([host], [], socket=False) == ""
        for socket in (True, False):
            assert gate().stranger([host], [f"http://{host}"], socket=socket) == ""


@given(st.lists(said, max_size=3))
def test_any_other_host_is_refused_in_words_that_are_safe_to_show(hosts):
    refused = gate().stranger(hosts, [], socket=False)
    assert bool(refused) != (len(hosts) == 1 and hosts[0].lower() in NAMES)
    assert refused == display_text(refused)


@given(st.lists(st.one_of(said, said.map("http://{}".format)), max_size=3), st.booleans())
def test_any_other_origin_is_refused(origins, socket):
    refused = gate().stranger(["127.0.0.1:8000"], origins, socket=socket)
    absent = not origins and not socket
    assert bool(refused) != (absent or origins == ORIGINS)
    assert refused == display_text(refused)


def test_names_of_the_same_server_are_two_origins():
    assert gate().stranger([NAMES[0]], [f"http://{NAMES[1]}"], socket=True)
    for origin in ("null", "https://127.0.0.1:8000", "http://127.0.0.1:8000/", ""):
        assert gate().stranger([NAMES[0]], [origin], socket=True), origin


def test_the_token_opens_once_and_gives_a_session():
    ours = gate()
    assert not ours.knows(None)
    assert ours.open("x" * 43) is None
    session = ours.open(ours.token)
    assert session
    assert session != ours.token
    assert ours.knows(session)
    assert not ours.knows(ours.token)
    assert ours.open(ours.token) is None
    assert "already" in ours.closed(ours.token)
    assert ours.closed(None) != ours.closed("another") != ours.closed(ours.token)


@given(st.one_of(st.none(), st.text(max_size=60)))
def test_nothing_else_opens(guess):
    ours = gate()
    assert ours.open(guess) is None
    assert not ours.knows(guess)
    ours.open(ours.token)
    assert not ours.knows(guess)


def test_each_server_has_its_own_secrets():
    one, two = gate(), gate()
    assert len({one.token, two.token, one.open(one.token), two.open(two.token)}) == 4
    assert len(one.token) >= 43, "256 bits"
