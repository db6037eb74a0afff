import pytest

from tests.tui.modes.replay.replaying import taken

FIVE = ("tokens", "logit-lens", "next-token", "attention", "residual")


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """Five lenses of one prompt, at layer 1 and head 2, in each format."""
    folder = tmp_path_factory.mktemp("five")
    names = ("a.safetensors", "b.json", "c.npz")
    options = ("--layer", 1, "--head", 2)
    return {
        path.suffix: taken(path, *FIVE, options=options) for path in map(folder.joinpath, names)
    }
