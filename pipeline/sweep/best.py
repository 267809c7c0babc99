"""`gait sweep best`: the winners of a sweep as a table, and into params.yaml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from ruamel.yaml.comments import CommentedSeq

from pipeline.params import params_file, search_space
from pipeline.params.labels import model_name, setting_name, value_text
from pipeline.params.params_file import PARAMS_FILE
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.files import write_whole
from pipeline.project.nearest_name import did_you_mean
from pipeline.project.paths import sweep_results_folder
from pipeline.sweep import winners, yaml_text
from pipeline.sweep.winners import MeanAndSpread, Winner, Winners

Place = tuple[str, ...]
"""Keys from the top of params.yaml to a value."""


def run(
    params: Params, write: bool = False, rule: str | None = None, as_json: bool = False
) -> None:
    """Shows the winners, or writes them into params.yaml and says what has changed.

    Raises:
        GaitError: as ``apply``; or a rule is named, or JSON asked for, where that makes no sense.
    """
    if write and as_json:
        raise GaitError("received --apply and --json; allowed: one of them")
    folder = sweep_results_folder(params.profile, params.sweep.name)
    found = winners.read(folder)
    if not write:
        if rule is not None:
            raise GaitError(f"--rule {rule} says whose winner to write; allowed: with --apply")
        if as_json:
            print(found.model_dump_json(indent=2))
            return
        # Only a terminal has an edge.
        Console(width=None if sys.stdout.isatty() else 1000).print(table(found, params))
        if found.missing:
            print(_missing(found))
        print("`gait sweep best --apply` writes them into params.yaml")
        return
    # Before anything is written: a setting that params.yaml lacks is refused.
    said = notes(found, params, rule)
    changes = apply(folder, rule)
    print("\n".join(changes) if changes else "params.yaml has the winners' values already")
    for note in said:
        print(f"note: {note}")
    if changes:
        print("`gait repro` trains and tests what has changed")


def table(found: Winners, params: Params) -> Table:
    """The winners for a terminal: a row a rule, accuracies in percent on the validation set."""
    names = list(dict.fromkeys(name for each in _taken(found).values() for name in each.values))
    title = f"{found.sweep}: each rule's best trial, on the validation set"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("rule", *map(setting_name, names), "accuracy (%)", "loss", "trial"):
        justify: JustifyMethod = "left" if column in ("rule", "trial") else "right"
        shown.add_column(column, justify=justify, overflow="fold")
    for rule, winner in found.rules.items():
        name = model_name(params, rule) + (" (best)" if rule == found.best_rule else "")
        if winner is None:
            shown.add_row(name, *["–" for _ in names], "no trial finished", "–", "–")
            continue
        shown.add_row(
            name,
            *(value_text(winner.values[name]) for name in names),
            _percent(winner.validation_accuracy),
            f"{winner.validation_loss.mean:.4f}",
            winner.trial,
        )
    return shown


def apply(folder: Path, rule: str | None = None) -> list[str]:
    """Writes winners into params.yaml, which keeps its comments and all else that it says.

    A rule's own settings go to its section of ``rules``. Architecture, training and data are
    shared by all rules, so that winners that differ in them can't all be written.

    Args:
        folder: the sweep's results.
        rule: take this rule's winner alone; None: every rule's.

    Returns:
        A line for each value that changed, as it was and as it is.

    Raises:
        GaitError: there is no winner to take, winners contradict one another, or params.yaml would
            not be valid with them; it is then as it was.
    """
    values = _values(winners.read(folder), rule)
    expected = params_file.load().model_dump()
    document = yaml_text.round_trip().load(PARAMS_FILE.read_text(encoding="utf-8"))
    changes = []
    for place, value in values.items():
        old = _get(expected, place)
        if old != value:
            changes.append(f"{'.'.join(place)}: {_text(old)} -> {_text(value)}")
            _set(document, place, _yaml_value(value, old))
            _set(expected, place, value)
    if not changes:
        return []
    text = yaml_text.dumps(document)
    try:
        written = params_file.read(text, "params.yaml with the winners")
    except GaitError as error:
        raise GaitError(f"nothing was applied: {error}") from None
    if written.model_dump() != expected:
        raise GaitError(
            "nothing was applied: params.yaml uses one value in several places (a YAML alias), so"
            " that more would change than the winners; write these values out"
        )
    write_whole(PARAMS_FILE, text.encode())
    return changes


def _missing(found: Winners) -> str:
    return f"trials that have not ended: {found.missing}; `gait sweep --resume` tries them again"


def notes(found: Winners, params: Params, rule: str | None = None) -> list[str]:
    """What a user should know about training the winners with these params: a sentence each."""
    said = []
    taken = _taken(found, rule)
    if found.missing:
        said.append(_missing(found))
    without = [name for name, winner in found.rules.items() if winner is None]
    if without and rule is None:
        said.append(f"no trial of {', '.join(without)} finished: params.yaml keeps its settings")
    whole = params.model_dump()
    for name, value in found.fixed.items():
        places = (search_space.place(name, each, found.architecture) for each in taken)
        for place in dict.fromkeys(places):
            kept = _get(whole, place)
            if kept != value:
                said.append(
                    f"{'.'.join(place)} stays {_text(kept)}; the sweep's trials had {_text(value)}"
                )
    for kind, needed, chosen in (
        ("datasets", [found.dataset], params.run.datasets),
        ("architectures", [found.architecture], params.run.architectures),
        ("rules", taken, params.run.rules),
    ):
        if missing := [name for name in needed if name not in chosen]:
            said.append(
                f"run.{kind} lacks {', '.join(missing)}, so `gait repro` trains no such model"
            )
    return said


def _values(found: Winners, rule: str | None) -> dict[Place, Any]:
    """What params.yaml is to say, by its place."""
    if rule is not None and rule not in found.rules:
        hint = did_you_mean(rule, found.rules)
        raise GaitError(f"unknown rule {rule!r}{hint}; swept were {', '.join(found.rules)}")
    taken = _taken(found, rule)
    if not taken:
        which = "no trial" if rule is None else f"no trial of {rule}"
        raise GaitError(
            f"{which} of the sweep {found.sweep} finished, so there is no best to apply"
        )
    values: dict[Place, Any] = {}
    origin: dict[Place, str] = {}
    for name, winner in taken.items():
        for setting, value in winner.values.items():
            place = search_space.place(setting, name, found.architecture)
            if values.setdefault(place, value) != value:
                raise GaitError(
                    f"the winners of {origin[place]} and {name} differ in {setting}"
                    f" ({_text(values[place])} and {_text(value)}), which params.yaml has once for"
                    f" all rules; name the rule whose winner to take: --rule {found.best_rule}"
                )
            origin.setdefault(place, name)
    return values


def _get(whole: Mapping[str, Any], place: Place) -> Any:
    node: Any = whole
    for depth, key in enumerate(place, start=1):
        if not isinstance(node, Mapping) or key not in node:
            raise GaitError(
                f"params.yaml has no {'.'.join(place[:depth])}, of which the sweep's best.yaml"
                " knows; run `gait sweep` with this params.yaml"
            )
        node = node[key]
    return node


def _set(document: Any, place: Place, value: Any) -> None:
    """Sets a value of plain mappings or of ruamel's; a new key comes before a section's last one.

    Behind the last one belongs the empty line that ends the section.
    """
    node = document
    for key in place[:-1]:
        if key not in node:
            node[key] = {}
        node = node[key]
    if isinstance(value, CommentedSeq) and isinstance(node.get(place[-1]), CommentedSeq):
        node[place[-1]].copy_attributes(value)  # its comment is one of them
    if place[-1] in node or not hasattr(node, "insert"):
        node[place[-1]] = value
    else:
        node.insert(max(len(node) - 1, 0), place[-1], value)


def _yaml_value(value: Any, old: Any) -> Any:
    """The value as the file writes such values: 10.0 for a float, lists on one line."""
    if isinstance(value, list):
        written = CommentedSeq(value)
        written.fa.set_flow_style()
        return written
    return float(value) if isinstance(old, float) else value


def _taken(found: Winners, rule: str | None = None) -> dict[str, Winner]:
    """The winners that there are, by rule: that of one rule, or all."""
    return {name: w for name, w in found.rules.items() if w is not None and rule in (None, name)}


def _text(value: Any) -> str:
    return yaml_text.float_text(value) if isinstance(value, float) else str(value)


def _percent(accuracy: MeanAndSpread) -> str:
    spread = "" if accuracy.std is None else f" ± {100 * accuracy.std:.2f}"
    return f"{100 * accuracy.mean:.2f}{spread}"
