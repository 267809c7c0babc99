"""Results as a Workflow Run RO-Crate: a folder that says what made what, from what, by which code.

The profile is Provenance Run Crate 0.5 (https://w3id.org/ro/wfrun/provenance/0.5): dvc.yaml is the
workflow, a command of gait a tool, and each stage that dvc.lock knows an action. What lies in the
crate is a file of it; what does not, data and models that only DVC's cache has, is named with its
checksum.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import shutil
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.audit import provenance_chain
from pipeline.params import params_file, profiles
from pipeline.project.errors import GaitError
from pipeline.project.files import (
    PASSING,
    as_json,
    check_writable,
    passing,
    text_of,
    whole_folder,
)
from pipeline.project.source import git, source
from pipeline.project.yaml_mapping import stages_of
from pipeline.results import provenance
from pipeline.tracking.model_runs import holds

METADATA = "ro-crate-metadata.json"
WORKFLOW, LOCK, PARAMS = "dvc.yaml", "dvc.lock", "params.yaml"
_RUN_PROFILES = {
    kind: f"https://w3id.org/ro/wfrun/{kind}/0.5" for kind in ("process", "workflow", "provenance")
}
_WORKFLOW_PROFILE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
_COMPLETED = "http://schema.org/CompletedActionStatus"
_LICENSE = "https://spdx.org/licenses/MIT"
# As dvc.yaml has them; a stage's name begins with one of these, or is one of the user's own.
_STAGES = ("download", "reference", "train", "evaluate", "plot", "evidence", "report")
_ENGINE, _RUN, _LANGUAGE = "#dvc", "#workflow-run", "#dvc-language"

Entity = dict[str, Any]


def write(results: Path, destination: Path) -> int:
    """Writes the crate of a results folder; returns how many files it has beside its description.

    Raises:
        GaitError: there are no such results, nothing records how they were made, they, models or
            the params are not as they were then, or the destination is there already or in them.
    """
    profile = results.name
    if destination.exists():
        raise GaitError(f"{destination} exists already; allowed: a folder that does not yet")
    if not (results / "summary.csv").is_file():
        raise GaitError(f"{results} has no summary.csv; allowed: a folder of results/, evaluated")
    for taken in (results, Path("models", profile)):
        if destination.resolve().is_relative_to(taken.resolve()):
            raise GaitError(
                f"{destination} is in {taken}, which is to be in the crate; allowed: a folder"
                " elsewhere"
            )
    stages = _stages(profile)
    chain = provenance_chain.of_file(results / "summary.csv")
    if changed := provenance_chain.changed_in(results):
        raise GaitError(
            f"{changed} has changed since it was made, and the crate would say that it was not:"
            " `gait repro` makes what DVC makes again, `gait sweep` a sweep's"
        )
    own = Path("results", profile)
    for each in [out for facts in stages.values() for out in facts.get("outs", ())]:
        if not (path := Path(each["path"])).is_relative_to(own):
            continue
        if checksum_of_dvc(results / path.relative_to(own)) != each.get("md5"):
            raise GaitError(
                f"{path} is not what {LOCK} records of it, and the crate would say that it is:"
                " `gait repro` makes it again"
            )
    models = {
        Path("models", profile, name): model["result"]
        for name, model in chain["made"]["models"].items()
    }
    # What dvc.lock and models/ have of a model that params.yaml no longer names is left out.
    stages = {name: facts for name, facts in stages.items() if not _is_of_another(facts, models)}
    for folder, result in models.items():
        if folder.is_dir() and not holds(folder, result):
            raise GaitError(
                f"{folder} is not the model that {results} are of: `dvc checkout`, or `gait repro`"
            )
    params = profiles.file_of(profile)
    now = provenance.params_checksum(params_file.load(params))
    if now != chain["made"]["params"]:
        raise GaitError(
            f"{params} is not what {results} were made with, and the crate would say that it is:"
            " `gait repro`, or undo the change"
        )
    check_writable(destination.absolute().parent)
    with whole_folder(destination) as folder:
        for name in (WORKFLOW, LOCK):
            shutil.copyfile(name, folder / name)
        shutil.copyfile(params, folder / PARAMS)
        unfinished = shutil.ignore_patterns(*PASSING)
        shutil.copytree(results, folder / "results" / profile, ignore=unfinished)
        for model in models:
            if model.is_dir():
                shutil.copytree(model, folder / model, ignore=unfinished)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        described = [_file(path.relative_to(folder).as_posix(), path) for path in files]
        document = _document(profile, stages, chain, described)
        (folder / METADATA).write_bytes(as_json(document))
    return len(files)


def checksum_of_dvc(path: Path) -> str:
    """What dvc.lock has as ``md5`` of a file, or of a folder: of its list of files as JSON."""

    def md5(content: bytes) -> str:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    if path.is_file():
        return md5(path.read_bytes())
    found = (each for each in path.rglob("*") if each.is_file() and not passing(each.name))
    # By the whole name, where paths would be sorted part by part.
    files = sorted(each.relative_to(path).as_posix() for each in found)
    listed = [{"md5": md5((path / name).read_bytes()), "relpath": name} for name in files]
    return f"{md5(json.dumps(listed).encode())}.dir"


def _is_of_another(facts: Mapping[str, Any], models: Collection[Path]) -> bool:
    """Whether a stage made a model that is none of these."""
    outs = [Path(each["path"]) for each in facts.get("outs", ())]
    return any(out.is_relative_to("models") and out not in models for out in outs)


def _document(
    profile: str, stages: Mapping[str, Any], chain: Mapping[str, Any], files: list[Entity]
) -> Entity:
    names = [each["@id"] for each in files]
    elsewhere: dict[str, Entity] = {}
    kinds = list(dict.fromkeys(stage.partition("@")[0] for stage in stages))
    runs = [_run_of(stage, facts, names, elsewhere, chain) for stage, facts in stages.items()]
    results = [name for name in names if name.startswith(f"results/{profile}/")]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": _ids([*_RUN_PROFILES.values(), _WORKFLOW_PROFILE]),
        "datePublished": _date(chain["commit"]),
        "description": f"Networks trained by backpropagation, GAIT-prop and its relatives: the"
        f" profile {profile}, with tables, figures and what each was made from.",
        "hasPart": _ids(names),
        "license": _id(_LICENSE),
        "mainEntity": _id(WORKFLOW),
        "mentions": _ids([_RUN, "#orchestration", *(run["@id"] for run in runs)]),
        "name": f"GAIT results, profile {profile}",
    }
    commit = chain["commit"] or source().commit
    software = [
        {
            "@id": f"#gait-{kind}",
            "@type": "SoftwareApplication",
            "description": f"The stage {kind} of {WORKFLOW}.",
            "name": f"gait {kind}",
            "softwareVersion": f"{version('gait')}, commit {commit}",
        }
        for kind in kinds
    ]
    graph = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": _id("./"),
            "conformsTo": _ids(["https://w3id.org/ro/crate/1.1", _WORKFLOW_PROFILE]),
        },
        root,
        *(
            {"@id": uri, "@type": "CreativeWork", "name": name, "version": uri.rpartition("/")[2]}
            for name, uri in (
                *((f"{kind.title()} Run Crate", uri) for kind, uri in _RUN_PROFILES.items()),
                ("Workflow RO-Crate", _WORKFLOW_PROFILE),
            )
        ),
        {"@id": _LICENSE, "@type": "CreativeWork", "name": "MIT License", "identifier": "MIT"},
        *(_as_workflow(each, kinds) if each["@id"] == WORKFLOW else each for each in files),
        {"@id": _LANGUAGE, "@type": "ComputerLanguage", "name": "DVC", "url": "https://dvc.org"},
        {
            "@id": _ENGINE,
            "@type": "SoftwareApplication",
            "name": "DVC",
            "softwareVersion": version("dvc"),
            "url": "https://dvc.org",
        },
        {
            "@id": "#params",
            "@type": "FormalParameter",
            "additionalType": "File",
            "conformsTo": _id("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
            "name": PARAMS,
            "workExample": _id(PARAMS),
        },
        *software,
        *(
            {
                "@id": f"#step-{kind}",
                "@type": "HowToStep",
                "name": kind,
                "position": str(place),
                "workExample": _id(f"#gait-{kind}"),
            }
            for place, kind in enumerate(kinds)
        ),
        {
            "@id": _RUN,
            "@type": "CreateAction",
            "actionStatus": _COMPLETED,
            "instrument": _id(WORKFLOW),
            "name": f"gait repro, profile {profile}",
            "object": _ids([PARAMS]),
            "result": _ids(results),
        },
        {
            "@id": "#orchestration",
            "@type": "OrganizeAction",
            "instrument": _id(_ENGINE),
            "name": "dvc repro",
            "object": _ids([f"#control-{stage}" for stage in stages]),
            "result": _id(_RUN),
        },
        *(
            {
                "@id": f"#control-{stage}",
                "@type": "ControlAction",
                "instrument": _id(f"#step-{stage.partition('@')[0]}"),
                "name": f"orchestrate {stage}",
                "object": _id(f"#run-{stage}"),
            }
            for stage in stages
        ),
        *runs,
        *elsewhere.values(),
    ]
    return {"@context": _CONTEXT, "@graph": graph}


def _as_workflow(file: Entity, kinds: Sequence[str]) -> Entity:
    return {
        **file,
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "hasPart": _ids([f"#gait-{kind}" for kind in kinds]),
        "input": _ids(["#params"]),
        "license": _id(_LICENSE),
        "name": "GAIT's pipeline",
        "programmingLanguage": _id(_LANGUAGE),
        "step": _ids([f"#step-{kind}" for kind in kinds]),
        "version": version("gait"),
    }


def _run_of(
    stage: str,
    facts: Mapping[str, Any],
    names: Sequence[str],
    elsewhere: dict[str, Entity],
    chain: Mapping[str, Any],
) -> Entity:
    kind, _, case = stage.partition("@")

    def entities(which: str) -> list[str]:
        found: list[str] = []
        for each in facts.get(which, ()):
            inside = [n for n in names if n == each["path"] or n.startswith(f"{each['path']}/")]
            found += inside or [_elsewhere(each, elsewhere)]
        return found

    # models.<model> of provenance.json is data set/architecture/model.
    _, *model = case.split("-")
    run = chain["runs"].get("/".join([*model, kind] if kind == "reference" else model))
    return {
        "@id": f"#run-{stage}",
        "@type": "CreateAction",
        "actionStatus": _COMPLETED,
        "description": facts["cmd"] if isinstance(facts["cmd"], str) else " && ".join(facts["cmd"]),
        "instrument": _id(f"#gait-{kind}"),
        "name": stage,
        "object": _ids([*entities("deps"), *([PARAMS] if facts.get("params") else [])]),
        "result": _ids(entities("outs")),
        **({"identifier": f"MLflow run {run['run_id']}"} if run else {}),
    }


def _elsewhere(each: Mapping[str, Any], known: dict[str, Entity]) -> str:
    """What is not in the crate: by its place in the project, its checksum and DVC's kind of it."""
    identity = f"#{each['path']}"
    known[identity] = {
        "@id": identity,
        "@type": "CreativeWork",
        "description": "Not in this crate; the identifier is DVC's checksum of it.",
        "identifier": f"md5:{each.get('md5', 'unknown')}",
        "name": each["path"],
    }
    return identity


def _file(name: str, path: Path) -> Entity:
    content = path.read_bytes()
    return {
        "@id": name,
        "@type": "File",
        "contentSize": str(len(content)),
        "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "name": name,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _stages(profile: str) -> dict[str, Any]:
    """What dvc.lock has recorded of the profile's stages, in the order of the pipeline."""
    if not Path(LOCK).is_file():
        raise GaitError(
            f"there is no {LOCK}, so nothing records how results were made: `gait repro`"
        )
    of_profile = {
        name: facts
        for name, facts in stages_of(text_of(Path(LOCK)), LOCK).items()
        if name.partition("@")[2].split("-")[0] == profile
    }
    if not of_profile:
        raise GaitError(
            f"{LOCK} knows no stage of the profile {profile}: `gait repro` records them"
        )
    order = {kind: place for place, kind in enumerate(_STAGES)}

    def place(name: str) -> int:
        return order.get(name.partition("@")[0], len(order))

    return {name: of_profile[name] for name in sorted(of_profile, key=place)}


def _date(commit: str | None) -> str:
    """When the results were committed; the day of the crate is in no record of ours."""
    done = git("log", "-1", "--format=%cI", commit or "HEAD")
    if done.returncode:
        raise GaitError("git knows no commit here, and a crate says when it was published")
    return done.stdout.strip()


def _id(identity: str) -> Entity:
    return {"@id": identity}


def _ids(identities: Sequence[str]) -> Entity | list[Entity]:
    """References to entities, each once; a single one stands for itself."""
    found = [_id(each) for each in dict.fromkeys(identities)]
    return found[0] if len(found) == 1 else found
