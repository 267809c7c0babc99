"""Report stage: the paper's claims, judged from everything that the other stages wrote."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.params.schema import Params
from pipeline.project.paths import results_folder
from pipeline.results import provenance

PAGE, CLAIMS, RULES = "report.html", "claims.json", "rules.md"
PROVENANCE = f"report.{provenance.FILE}"
# What decides the report, beside what it is made from.
CODE = ("data", "figures", "params", "report", "results", "stages/report.py", "training")


def run(params: Params) -> list[Path]:
    """Writes results/<profile>/{report.html, claims.json, rules.md, report.provenance.json}.

    Raises:
        GaitError: a model or its evaluation is missing, or a file is damaged or outdated.
    """
    from pipeline.report import claims, evidence, page, rules_table

    found = evidence.gather(params)
    judged = claims.judge(found)
    document = claims.as_document(params, judged)
    contents = {
        PAGE: page.render(found, judged).encode(),
        CLAIMS: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(),
        RULES: rules_table.as_markdown(found).encode(),
    }
    made = provenance.describe("gait report", params, params.model_keys(), CODE, contents)
    made["inputs"] = found.inputs
    return provenance.write(results_folder(params.profile), contents, made, PROVENANCE)
