"""Which path a request is for, whatever form the server hands it over in."""

from __future__ import annotations

import pytest

from tideover.asgi.paths import Paths, route_path


@pytest.mark.parametrize(
    ("path", "root", "found"),
    [
        ("/pay", "", "/pay"),
        ("/api/pay", "/api", "/pay"),
        ("/pay", "/api", "/pay"),
        ("/apis", "/api", "/apis"),
        ("http://shop.example/pay", "", "/pay"),
        ("HTTPS://shop.example:443/pay/1", "", "/pay/1"),
        ("http://shop.example/api/pay", "/api", "/pay"),
        ("http://shop.example", "", "/"),
        ("http://[::1", "", "http://[::1"),
        ("*", "", "*"),
        ("", "", "/"),
    ],
)
def test_route_path(path: str, root: str, found: str) -> None:
    """The root path is not part of it, and neither is what stands before the path in a target's absolute form."""
    assert route_path({"path": path, "root_path": root}) == found


@pytest.mark.parametrize(
    "path", ["/pay", "/pay/1", "//pay", "http://shop.example/pay", "http://shop.example//pay/1"]
)
def test_a_path_is_contained_in_every_form(path: str) -> None:
    """What an application would serve as the path, or as one below, is the path: no form passes by."""
    assert Paths("requirements", ["/pay"]).contain({"path": path})
    assert not Paths("requirements", ["/pa"]).contain({"path": path})
