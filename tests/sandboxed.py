"""What the tests of the sandbox run in it."""

import os
import sys


class PanicException(BaseException):
    """As pyo3 raises it."""


def echo(one, other):
    return [one, other]


def letters(count):
    return "a" * count


def number():
    return os.getpid()


def environment():
    return list(os.environ)


def forever():
    while True:
        pass


def locked():
    return 9 ** (9**9)  # holds Python's lock: no other thread of the process runs


def hungry():
    return len("a" * 10**10)


def aborts():
    os.abort()


def leaves():
    sys.exit("bye")


def panics():
    raise PanicException("called `Option::unwrap()` on a `None` value" + "x" * 10**6)


def recurses():
    return recurses()


def unserialisable():
    return object()


def writes(path):
    with open(path, "w") as file:
        file.write("x")


def prints():
    print("out", flush=True)
    os.write(1, b"one")
    os.write(2, b"two")
