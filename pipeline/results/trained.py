"""Whether a trained model is what params.yaml says: else its results would be called others'."""

from __future__ import annotations

from pipeline.params.schema import Params, RuleSettings
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey
from pipeline.training import model_files
from pipeline.training.experiment import described, flat

# So many differences are named.
_NAMED = 3
# A record leaves out what is null.
_UNSET = {f"settings.{n}": None for n, f in RuleSettings.model_fields.items() if f.default is None}


def check(params: Params, key: ModelKey) -> None:
    """Looks whether a model's files are whole, and made with these settings.

    Raises:
        GaitError: there is none, or a file is missing or damaged, or the model's own record names
            other settings.
    """
    train = f"run `gait train {key.dataset} {key.architecture} {key.model}`, or `gait repro`"
    if not key.folder.is_dir():
        raise GaitError(f"there is no trained model in {key.folder}: {train} for all of them")
    model_files.check(key.folder)
    recorded = model_files.read_config(key.folder)
    described_here = described(params, key, recorded["data"]["sha256"])
    there, here = ({**_UNSET, **flat(each)} for each in (recorded, described_here))
    # What one of them does not know, it says nothing of: a setting that came with a later version.
    names = [n for n in there if n in here and not n.startswith("plugin.") and there[n] != here[n]]
    if not names:
        return
    listed = "; ".join(f"{n}: {_yaml(there[n])}, here {_yaml(here[n])}" for n in names[:_NAMED])
    more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    raise GaitError(
        f"the model in {key.folder} was trained with other settings than params.yaml's ({listed}"
        f"{more}): {train}, or set params.yaml back"
    )


def _yaml(value: object) -> str:
    return "null" if value is None else repr(value)
