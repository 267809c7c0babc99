"""The page: evidence and verdicts, put into the templates beside this file."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.data.image_sets import image_set
from pipeline.report import rules_table
from pipeline.report.charts.chart_look import Chart
from pipeline.report.charts.claim_charts import MOST_POINTS, differences, error_against_depth
from pipeline.report.claims import EQUIVALENT, IDENTICAL, INFERIOR, OTHERS, Claim
from pipeline.report.content import case_content, depth_rows, lost, model_look, sweep_content
from pipeline.report.evidence import Evidence
from pipeline.results.equivalence import MARGIN, MOST_SEEDS, POWER
from pipeline.results.summary_tables import reference_text

TEMPLATES = Path(__file__).parent / "templates"

SHORT = {
    IDENTICAL: "Are the updates BP’s, for orthogonal weights?",
    EQUIVALENT: "Does GAIT-prop train as BP does?",
    INFERIOR: "And does plain target propagation not?",
    OTHERS: "Do other rules train as BP does?",
}


def render(evidence: Evidence, claims: list[Claim]) -> str:
    """The whole page; the same for the same evidence."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    params, verification = evidence.params, evidence.verification
    by_name = {claim.name: claim for claim in claims}
    content = {
        "cases": [
            case_content(evidence, *case)
            for case in itertools.product(params.run.datasets, params.run.architectures)
        ],
        "checksums": {str(key): checksums for key, checksums in evidence.models.items()},
        "claims": [{**vars(claim), "short": SHORT[claim.name]} for claim in claims],
        "depth_chart": verification and error_against_depth(verification),
        "depth_rows": verification and depth_rows(verification),
        "equivalence_chart": _differences(
            by_name[EQUIVALENT], "equivalence", ("low", "high"), MOST_POINTS
        ),
        "inferiority_chart": _differences(
            by_name[INFERIOR], "inferiority", ("difference_low", "difference_high")
        ),
        "inputs": evidence.inputs,
        "lost": verification and lost(verification),
        "models": [model_look(params, model) for model in params.models()],
        "sweeps": [sweep_content(params, sweep) for sweep in evidence.sweeps],
        "verification": verification,
    }
    return environment.get_template("page.html").render(
        **content,
        chance=lambda p: "> 0.99" if p > 0.99 else f"{p:.2f}",
        margin=MARGIN,
        most_points=MOST_POINTS,
        most_seeds=MOST_SEEDS,
        params=params,
        points=lambda share: f"{100 * share:g}",
        power=POWER,
        reference=reference_text(params),
        rules_notes=rules_table.notes(),
        scientific=_scientific,
        script=_inline("charts.js"),
        settings=json.dumps(params.model_dump(exclude={"archives", "sweep"}), indent=2),
        signed=lambda share: f"{100 * share:+.2f}".replace("-", "−"),
        specifications=_json({chart.name: chart.spec for chart in _charts_in(content)}),
        style=_inline("style.css"),
        titles=[image_set(dataset).title for dataset in params.run.datasets],
        training=params.training,
        vega=_vega(),
    )


def _differences(
    claim: Claim, name: str, interval: tuple[str, str], most: float = math.inf
) -> Chart | None:
    shown = [finding for finding in claim.findings if finding.differences]
    return differences(name, shown, interval, most) if shown else None


def _charts_in(content: Any) -> list[Chart]:
    if isinstance(content, Chart):
        return [content]
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list):
        return [chart for item in content for chart in _charts_in(item)]
    return []


def _scientific(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "not finite"
    if 0.01 <= abs(value) < 1000:
        return f"{value:.2g}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _inline(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _json(content: Any) -> Markup:
    """For a script element, which nothing in it can end."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c"))


def _vega() -> Markup:
    """Vega, Vega-Lite and their embedding: all the page's charts need."""
    # Its stub wants a snippet, which the function does not, and which would be bundled each time.
    code = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    if "</script" in code.lower() or "<!--" in code:
        raise ValueError("vl_convert's bundle cannot stand in a script element as it is")
    return Markup(code)
