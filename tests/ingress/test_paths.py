import pytest

from meshkube.ingress.paths import BadPath, normal


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a?b=c", "/a"),
        ("/a?b=/../c", "/a"),
        ("/?x", "/"),
        ("/a%20b", "/a b"),
        ("/%61", "/a"),
        ("/caf%C3%A9", "/café"),
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2Fb"),
        ("/a/..%2fb", "/a/..%2Fb"),
        ("/a%252Fb", "/a%2Fb"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
    ],
)
def test_matching_sees_the_decoded_normal_path(target: str, path: str) -> None:
    assert normal(target) == path


@pytest.mark.parametrize(
    "target", ["/..", "/a/../..", "/%2e%2e/etc", "/a%00b", "/a%", "/a%2", "/%zz"]
)
def test_a_path_that_makes_no_sense_is_refused(target: str) -> None:
    with pytest.raises(BadPath):
        normal(target)


def test_normalising_long_paths_is_linear() -> None:
    assert normal("/" + "a/../" * 5000 + "b") == "/b"
