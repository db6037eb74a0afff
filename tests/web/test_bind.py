"""Where a server listens, and what it calls itself."""

import socket
from contextlib import closing

import pytest

from llmscope.errors import ScopeError
from llmscope.web.bind import listen


@pytest.fixture
def listening():
    opened = []

    def start(host, port=0):
        opened.append(listen(host, port))
        return opened[-1]

    yield start
    for one in opened:
        for each in one.sockets:
            each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "127.8.7.6", "::1"])
def test_this_machine_alone(listening, host):
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")
    try:
        found = listening(host)
    except ScopeError as error:
        assert host in ("::1", "127.8.7.6")
        pytest.skip(str(error))
    assert found.private
    port = found.port
    assert {f"127.0.0.1:{port}", f"localhost:{port}"} <= found.names
    for one in found.sockets:
        name, its_port = one.getsockname()[:2]
        assert its_port == port
        assert (f"[{name}]:{port}" if ":" in name else f"{name}:{port}") in found.names
    spelt = "[::1]" if host == "::1" else host
    assert found.origin == f"http://{spelt}:{port}"
    assert found.origin.removeprefix("http://") in found.names


def test_every_address_is_more_than_this_machine(listening):
    found = listening("0.0.0.0")
    assert not found.private
    assert found.origin == f"http://127.0.0.1:{found.port}"
    assert all(name.endswith(f":{found.port}") for name in found.names)


def test_a_name_that_is_both_is_not_private(monkeypatch, listening):
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in ("127.0.0.1", "0.0.0.0")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both[:1])
    assert listening("my-name").private
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both[1:])
    assert not listening("my-name").private


def test_on_the_port_of_http_browsers_name_none(listening):
    found = listening("localhost")
    on_80 = type(found)("Box", 80, found.addresses, ())
    assert {"box", "box:80", "localhost"} <= on_80.names
    assert "localhost" not in found.names


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("", "there is no host"),
        ("a" * 300, "there is no host"),
        ("\x1b[31m", "there is no host"),
        ("192.0.2.1", "'192.0.2.1' is no address of this machine"),
    ],
)
def test_a_host_that_cannot_be(host, told):
    with pytest.raises(ScopeError, match=told) as failed:
        listen(host, 0)
    assert failed.value.hint == 'host="127.0.0.1"'
    assert "\x1b" not in str(failed.value)


def test_a_port_that_is_taken():
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(ScopeError, match=f"port {port} is taken") as failed:
            listen("127.0.0.1", port)
    assert failed.value.hint.startswith("port=")
