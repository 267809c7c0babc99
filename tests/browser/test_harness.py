"""The browser that the other tests look through does see errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_page_without_errors_has_none(open_page: Callable[..., Any]) -> None:
    page, problems = open_page("data:text/html,<title>well</title>")
    assert page.title() == "well"
    assert problems == []


def test_script_errors_and_missing_files_are_seen(open_page: Callable[..., Any]) -> None:
    html = "<script>throw Error('thrown')</script><img src='http://127.0.0.1:9/missing'>"
    page, problems = open_page(f"data:text/html,{html}")
    page.wait_for_load_state("load")
    assert any("thrown" in problem for problem in problems)
    assert any("missing" in problem for problem in problems)
