"""The end of a program in a pseudo-terminal that a test leaves behind."""

import signal


def ended(child):
    """Kill it, however busy the machine is; pexpect gives up after .1 seconds."""
    if child.isalive():
        child.kill(signal.SIGKILL)
        child.wait()
    child.close()
