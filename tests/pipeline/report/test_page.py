"""The report's stage: what it writes, from what is there, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline import figures
from pipeline.params.schema import Params
from pipeline.report import claims, page
from pipeline.report.charts.chart_look import layer_colours
from pipeline.report.charts.claim_charts import MOST_POINTS, differences
from tests.pipeline.figures.test_figures import make_history, make_params
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import REPOSITORY
from tests.pipeline.report.test_claims import BP, make_evidence, shifted
from tests.pipeline.report_project import CLAIMS, PAGE, SWEEP, VERIFICATION, add_evidence

FILES = (PAGE, CLAIMS, PAGE.with_name("rules.md"), PAGE.with_name("report.provenance.json"))


@pytest.fixture(scope="module")
def whole(reported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything, reported."""
    return Path(shutil.copytree(reported, tmp_path_factory.mktemp("whole") / "project"))


@pytest.fixture
def bare(whole: Path, tmp_path: Path) -> Path:
    """Trained and evaluated, and nothing else."""
    folder = Path(shutil.copytree(whole, tmp_path / "project"))
    for path in FILES:
        (folder / path).unlink()
    shutil.rmtree(folder / VERIFICATION.parent)
    shutil.rmtree(folder / SWEEP)
    return folder


def verdicts(project: Path) -> dict[str, list[str]]:
    document = json.loads((project / CLAIMS).read_text())
    return {
        claim["name"]: [finding["verdict"] for finding in claim["findings"]]
        for claim in document["claims"]
    }


def test_without_verification_and_sweep(bare: Path, helper: Preloaded) -> None:
    said = helper.run(bare, "report")
    assert said.split() == [str(path) for path in FILES]
    assert verdicts(bare)["updates_are_identical"] == ["not tested here"]
    text = (bare / PAGE).read_text()
    assert "there is no results/verify/verify.json" in text
    assert "gait verify --json &gt; results/verify/verify.json\ngait report" in text
    assert "There is no sweep below <code>results/digits/sweep</code>" in text


def test_made_twice_it_is_the_same(whole: Path, helper: Preloaded) -> None:
    first = [(whole / path).read_bytes() for path in FILES]
    helper.run(whole, "report")
    assert [(whole / path).read_bytes() for path in FILES] == first


def test_with_everything(whole: Path) -> None:
    found = verdicts(whole)
    assert found["updates_are_identical"] == ["supported"]
    assert len(found["training_is_near_identical"]) == 2
    text = (whole / PAGE).read_text()
    runs = re.findall(r"<code>([0-9a-f]{32})</code>", text)
    assert len(runs) == 4
    # Whoever reads the page elsewhere has no server to follow a link to.
    assert "127.0.0.1" not in text
    assert all(run in (whole / SWEEP / "runs.csv").read_text() for run in runs)
    # The verdicts of the page are those of claims.json.
    shown = re.findall(r'<span class="verdict [a-z-]+">\S+ ([a-z ]+)</span>', text)
    judged = [verdict for each in found.values() for verdict in each]
    assert shown[: len(judged)] == judged


def test_depths_stand_in_their_columns(whole: Path) -> None:
    rows = json.loads((whole / VERIFICATION).read_text())["comparisons"]
    cells = re.search(
        r'<th scope="row">4 × 784</th>((?:<td class="number">[^<]*</td>){4})',
        (whole / PAGE).read_text(),
    )
    assert cells
    shown = [float(cell) for cell in re.findall(r">([^<]+)</td>", cells[1])]
    wide = {
        row["precision"]: row
        for row in rows
        if (row["network"], row["rule"], row["activation"]) == ("4 × 784", "gait", "leaky_relu")
    }
    expected = [
        wide[precision][form]
        for form in ("stable", "literal")
        for precision in ("float64", "float32")
    ]
    assert shown == pytest.approx(expected, rel=0.05)


def test_claims_stand_in_their_columns(whole: Path) -> None:
    """In percentage points: those of claims.json, with the sign of each."""

    def points(value: float) -> str:
        return f"{100 * value:+.2f}".replace("-", "−")

    text = (whole / PAGE).read_text()
    _, equivalence, inferiority = json.loads((whole / CLAIMS).read_text())["claims"]
    finding = equivalence["findings"][0]
    numbers = finding["numbers"]
    row = text.split(f'<tr><th scope="row">{finding["about"]}</th>')[1].split("</tr>")[0]
    assert numbers["low"] < numbers["mean"] < numbers["high"]
    assert re.findall(r'class="number">([^<]*)</td>', row) == [
        "2",
        points(numbers["mean"]),
        points(numbers["deviation"])[1:],
        f"{points(numbers['low'])} to {points(numbers['high'])}",
        f"{numbers['p_value']:.2g}",
        f"{points(numbers['difference_low'])} to {points(numbers['difference_high'])}",
    ]
    assert inferiority["findings"][0]["reason"] in text


def test_provenance(whole: Path, helper: Preloaded) -> None:
    # Its copy's store follows it, once, and says so.
    helper.run(whole, "provenance", str(PAGE))
    for path in (PAGE, CLAIMS):
        chain = json.loads(helper.run(whole, "provenance", str(path), "--json"))
        assert chain["as_made"]
        assert chain["made"]["command"] == "gait report"
        assert str(VERIFICATION) in chain["made"]["inputs"]
        assert set(chain["runs"]) == {"digits/square/reference", "digits/square/gait"}
        assert all(chain["runs"].values())
    # The other files' own is found all the same.
    chain = json.loads(helper.run(whole, "provenance", "results/digits/seeds.csv", "--json"))
    assert chain["made"]["command"] == "gait evaluate"


def test_a_page_that_was_changed(whole: Path, helper: Preloaded) -> None:
    text = (whole / PAGE).read_text()
    try:
        (whole / PAGE).write_text(text + " ")
        assert "CHANGED" in helper.run(whole, "provenance", str(PAGE), code=1)
    finally:
        (whole / PAGE).write_text(text)


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (VERIFICATION, "{", "results/verify/verify.json is not what"),
        (VERIFICATION, "[]", "results/verify/verify.json is not what"),
        (SWEEP / "trials.csv", "a,b\n1,2\n", "trials.csv is not a sweep's table"),
    ],
)
def test_damaged_files_are_refused(
    bare: Path, helper: Preloaded, path: Path, content: str, message: str
) -> None:
    add_evidence(bare)
    (bare / path).write_text(content)
    said = helper.run(bare, "report", code=2)
    assert message in said and said.count("\n") == 1
    assert not (bare / PAGE).exists()


def test_tables_of_other_models_are_refused(bare: Path, helper: Preloaded) -> None:
    table = bare / "results" / "digits" / "seeds.csv"
    text = table.read_text()
    result = text.splitlines()[1].rpartition(",")[2]
    try:
        table.write_text(text.replace(result, "0" * 64))
        said = helper.run(bare, "report", code=2)
        table.unlink()
        assert "seeds.csv is missing: run `gait evaluate`" in helper.run(bare, "report", code=2)
    finally:
        table.write_text(text)
    assert "seeds.csv is not of the model in models/digits/digits/square/reference" in said


def test_without_models(tmp_path: Path, helper: Preloaded) -> None:
    shutil.copy(REPOSITORY / "profiles" / "digits.yaml", tmp_path / "params.yaml")
    said = helper.run(tmp_path, "report", code=2)
    assert "there is no trained model in models/digits/digits/square/reference" in said


def test_several_cases_and_one_seed() -> None:
    """No table or chart takes one data set, or a spread, for granted."""
    params = make_params(("mnist", "fashion"), ("square", "wide"), seeds=(3,))
    judged = make_evidence(params, {})
    text = page.render(judged, claims.judge(judged))
    specifications = re.search(r'id="specifications">(.*?)</script>', text, re.DOTALL)
    assert specifications
    names = set(json.loads(specifications[1]))
    assert {"final-fashion-wide", "cosine-mnist-square-gait", "equivalence"} < names
    for name in names:
        assert f'id="{name}" role="img" aria-label="' in text
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL).split()


def test_every_colour_of_the_page_is_defined() -> None:
    """Whatever models there are: a chart's mark without one is not seen."""
    params = make_params(rules=("bp", "tp"))
    judged = make_evidence(params, {})
    text = page.render(judged, claims.judge(judged))
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used - set(re.findall(r"(--[\w-]+):", text)) == set()


def test_differences_beyond_the_margin_by_far_are_drawn_at_the_edge() -> None:
    params = make_params(rules=("bp", "gait"))
    judged = make_evidence(params, {"reference": BP, "gait": [BP[0], BP[1], BP[2] - 0.7]})
    found = [each for each in claims.judge(judged)[1].findings if each.differences]
    chart = differences("equivalence", found, ("low", "high"), MOST_POINTS)
    domain = chart.spec["layer"][2]["encoding"]["x"]["scale"]["domain"]
    assert domain == [-1.1 * MOST_POINTS, 1.1 * MOST_POINTS]
    # Whoever points at it reads the number itself.
    assert any("-70" in rows for rows in chart.spec["datasets"].values())


def test_what_the_page_says_of_the_epochs_and_the_reference() -> None:
    def read(params: Params) -> str:
        judged = make_evidence(params, {})
        return page.render(judged, claims.judge(judged))

    params = make_params()
    text = read(params)
    assert "6 epochs,\n" in text and "in percent, after 6 epochs." in text
    assert text.count("BP without regularizer") == 3
    assert "the only difference." not in text
    training = params.training.model_copy(update={"patience": 2})
    reference = params.reference.model_copy(update={"orthogonality": 0.5})
    text = read(params.model_copy(update={"training": training, "reference": reference}))
    assert "6 epochs at most,\n" in text and "after 6 epochs" not in text
    assert "best epoch on the validation set, of at most 6 epochs." in text
    assert text.count("BP with λ = 0.5") > 3 and "BP without" not in text


def test_nothing_of_the_results_is_markup() -> None:
    """A name that was never checked, of a file that somebody edited, stays text."""
    params = make_params(rules=("gait",))
    evil = "</script><script>alert(1)</script>"
    judged = make_evidence(params, {"reference": BP, "gait": shifted(0.0, 0.001)})
    seeds = judged.seeds.assign(result=evil)
    models = {key: {"data": evil, "result": evil} for key in judged.models}
    judged = type(judged)(params, seeds, judged.histories, models, None, [], {evil: evil})
    text = page.render(judged, claims.judge(judged))
    assert evil not in text and "alert(1)" in text
    # The charts' data hold the beginning of it: no script element ends before its own end.
    assert text.count("</script") == text.count("<script") == 3


def test_layers_have_the_figures_colours() -> None:
    params, rendered = make_params(), io.BytesIO()
    figure = figures.orthogonality(params, {"gait": make_history("gait")}, "Digits, square")
    figure.savefig(rendered, format="svg")
    drawn = rendered.getvalue().decode()
    for colour in layer_colours(3):
        shade = re.search(r"#[0-9a-f]{6}", colour)
        assert shade and f"stroke: {shade[0]}" in drawn
    assert len(set(layer_colours(12))) == 12


def test_wide_tables_say_so_and_nobody_is_told_to_hover() -> None:
    evidence = make_evidence(make_params(), {})
    text = page.render(evidence, claims.judge(evidence))
    assert "no-repeat local" in text
    assert "hover" not in re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
