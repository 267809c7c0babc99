"""What is wrong with a params file, in words and by line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gaitprop.rules import RULES, hyperparameters_of
from pipeline.params.schema import Params, RuleSettings, settings_of_rule
from pipeline.params.section import Section
from pipeline.project.nearest_name import did_you_mean, nearest, usual_name

# A line has room for so many keys.
_FEW = 6


def yaml_reason(error: YAMLError) -> str:
    """What is wrong with the text, and in which line if that is known."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        told = f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
        # The parser's words for a line that is further in, or out, than those around it.
        return f"{told} (is it indented as its neighbours are?)" if "mapping" in told else told
    return str(error).splitlines()[0]


def line_of(document: CommentedMap, place: tuple[int | str, ...]) -> int:
    """The line, from 1, of the deepest part of a place that the file has."""
    node: Any = document
    line = 0
    # A scalar has no lines, and what the file does not have is not among them.
    with suppress(AttributeError, LookupError, TypeError):
        for key in place:
            line = node.lc.data[key][0]
            node = node[key]
    return line + 1


def reason(problem: Any) -> str:
    """What one of pydantic's errors says is wrong with which value."""
    if problem["type"] == "missing":
        return "this key is missing"
    if problem["type"] == "extra_forbidden":
        key, known = str(problem["loc"][-1]), _known_keys(problem["loc"])
        hint = did_you_mean(key, known) or _elsewhere(key)
        listed = "" if hint or not (few := _listed(known)) else f" (it is none{few})"
        return f"unknown key{hint or listed}; see docs/params.md for those that are known"
    if problem["type"] == "model_type":
        known = _known_keys((*problem["loc"], ""))
        return f"received {problem['input']!r}; allowed: a section{_listed(known)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return str(message)
    return f"received {problem['input']!r}; {message[0].lower()}{message[1:]}"


def explain(path: str, document: CommentedMap, errors: Sequence[Any]) -> str:
    """All problems of a file, in the order of its lines; ``errors`` as pydantic gives them."""
    problems = []
    # A key under another name is one problem, not also that it is missing.
    renamed = {
        (*problem["loc"][:-1], nearest(str(problem["loc"][-1]), _known_keys(problem["loc"])))
        for problem in errors
        if problem["type"] == "extra_forbidden"
    }
    for problem in errors:
        if problem["type"] == "missing" and problem["loc"] in renamed:
            continue
        place, why = _placed(document, problem)
        named = ".".join(map(str, place)) or "the file as a whole"
        problems.append((line_of(document, place), f"{named}: {why}"))
    lines = [f"  line {line}, {told}" for line, told in sorted(problems, key=lambda each: each[0])]
    count = f"{len(lines)} problems" if len(lines) > 1 else "a problem"
    return f"{path} has {count}:\n" + "\n".join(lines)


def _placed(document: CommentedMap, problem: Any) -> tuple[tuple[int | str, ...], str]:
    """Where a problem is, and its reason; one of the whole file may begin with its place."""
    place, why = problem["loc"], reason(problem)
    head, _, rest = why.partition(": ")
    if place or not rest:
        return place, why
    node: Any = document
    for key in head.split("."):
        if not isinstance(node, CommentedMap) or key not in node:
            return place, why
        node = node[key]
    return tuple(head.split(".")), rest


def _listed(known: Sequence[str]) -> str:
    """The keys of a section, if a line has room for them."""
    return f" of the keys {', '.join(known)}" if 0 < len(known) <= _FEW else ""


def _elsewhere(key: str) -> str:
    """Where a key of this name belongs; nothing where none has it."""
    name = usual_name(key)
    places = [
        section
        for section in Params.model_fields
        if name in [*_known_keys((section, key)), *_known_keys((section, "<name>", key))]
    ]
    places += [f"the rule {rule}" for rule in RULES if name in hyperparameters_of(rule)]
    return f" ({name!r} is a key of {' and '.join(places)})" if places else ""


def _known_keys(place: Sequence[Any]) -> list[str]:
    """The keys that the section of a place may have; none where it is no section of ours."""
    kind: Any = Params
    for key in place[:-1]:
        if isinstance(kind, type) and issubclass(kind, Section):
            kind = kind.model_fields[key].annotation if key in kind.model_fields else None
            if NoneType in get_args(kind):
                kind = get_args(kind)[0]
        else:
            # A mapping of names to sections: the name matters only where it is a rule's.
            kind = next(reversed(get_args(kind)), None)
            kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
            if kind is RuleSettings and key in RULES:
                kind = settings_of_rule(key)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else []
