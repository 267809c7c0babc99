"""MLflow's pages in a browser, as `gait ui` opens them: from the list of runs to their charts.

`make screenshots` takes the pictures of docs/mlflow.md on the way, of this folder's own runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.project_copy import REPOSITORY
from tests.pipeline.tracking.test_store import free_port, serving

pytestmark = pytest.mark.long

PICTURES = os.environ.get("GAIT_SCREENSHOTS")
RUN = re.compile(r"^GAIT-prop, digits square, λ 0\.1(, .*)?$")


@pytest.fixture(scope="module")
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """What `gait ui` says is the page of the profile's runs."""
    project = REPOSITORY if PICTURES else request.getfixturevalue("reported")
    port, log = free_port(), tmp_path_factory.mktemp("ui") / "log"
    with serving(project, port, "pipeline", "ui", "--port", str(port), log=log):
        said = re.search(r"^  digits: (http\S+)$", log.read_text(), re.MULTILINE)
        assert said
        yield said[1]


@pytest.fixture
def runs(open_page: Callable[..., Any], address: str) -> Any:
    """The list of runs, with nothing fetched from elsewhere."""
    page, problems = open_page(address, width=1440)
    elsewhere: list[str] = []
    page.on("request", lambda sent: "//127.0.0.1:" in sent.url or elsewhere.append(sent.url))
    page.get_by_role("link", name=RUN).first.wait_for()
    if page.get_by_role("button", name="Close").count():
        page.get_by_role("button", name="Close").first.click()  # the assistant
    yield page
    assert elsewhere == []
    # Its own questions, such as for users that it does not have, are no fault of these pages.
    assert [each for each in problems if not re.search("404|ResizeObserver|ajax-api", each)] == []


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.mouse.move(0, 0)
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def test_the_runs(runs: Any) -> None:
    assert runs.get_by_text("Models of the profile digits").count()
    assert runs.get_by_role("link", name=re.compile("^BP reference, digits square, λ 0")).count()
    shown = runs.locator(".ag-header-cell")
    columns = [each.get_attribute("col-id") for each in shown.all()]
    for column in ("metrics.`test_accuracy`", "params.`rule.orthogonality`"):
        assert column in columns
    picture(runs, "mlflow-runs")


def test_a_filter_of_the_documents(runs: Any) -> None:
    filters = re.findall(
        r"^tags\.\S+ = '\w+' and .*$", (REPOSITORY / "docs/mlflow.md").read_text(), re.M
    )
    chosen = next(each for each in filters if "gait.model" in each)
    search = runs.get_by_placeholder("metrics.rmse")
    search.fill(chosen)
    search.press("Enter")
    runs.get_by_role("link", name="BP reference").first.wait_for(state="detached")
    assert runs.get_by_role("link", name=RUN).count() == 1


def test_charts_compare_the_rules(runs: Any) -> None:
    runs.locator("label:has(input[value=CHART])").click()
    second = runs.locator(".js-plotly-plot").first.locator(".scatterlayer .trace").nth(1)
    second.wait_for(state="attached")
    area = runs.get_by_test_id("experiment-view-compare-runs-chart-area").inner_text()
    # Diagnostics have sections of their own, below.
    assert area.index("validation_accuracy") < area.index("train_loss")
    assert "bp_cosine/layer_1" not in area.partition("train_loss")[0]
    picture(runs, "mlflow-charts")
    runs.get_by_placeholder("Search metric charts").fill("bp_cosine")
    runs.get_by_text("validation_accuracy").first.wait_for(state="detached")
    runs.get_by_text("bp_cosine/layer_1").first.wait_for()
    second.wait_for(state="attached")


def test_one_run(runs: Any) -> None:
    runs.get_by_role("link", name=RUN).first.click()
    runs.get_by_role("heading", name=RUN).wait_for()
    runs.get_by_text("gait.training").first.wait_for()
    runs.get_by_role("tab", name="Model metrics").click()
    runs.locator(".js-plotly-plot").first.wait_for()
    runs.get_by_role("tab", name="Artifacts").click()
    for name in ("config.json", "history.csv", "network.safetensors"):
        runs.get_by_text(name).first.wait_for()
    runs.get_by_text("curves.svg").first.click()
    figure = runs.get_by_role("img", name="curves.svg")
    figure.wait_for()
    assert figure.evaluate("image => image.complete && image.naturalWidth > 100")
    # Where this machine keeps it concerns no reader.
    runs.get_by_text("file:///").first.evaluate("line => line.style.visibility = 'hidden'")
    picture(runs, "mlflow-artifacts")
