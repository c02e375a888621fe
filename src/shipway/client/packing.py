"""How a model is packaged before it is uploaded: the options, and the call into `shipway.bundles`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from shipway.client.registering import Packer
from shipway.client.upload import OnProgress
from shipway.core.errors import InvalidArtifact

if TYPE_CHECKING:
    from shipway.bundles.overrides import Overrides


class PackOptions(TypedDict, total=False):
    """How to package. All are optional.

    sample: example inputs: a path (CSV, Parquet, JSON, npy), a frame, an array, a dict, records.
    drop: columns of the sample that are no inputs, such as the target.
    config: `model.yaml`, as a path or a mapping: declared signature rules, threshold, output names.
    entry: `module:Class` of a Python model in its code directory.
    code: directory of the person's own modules that a pickled model needs; it goes into the bundle.
    training_data: the file that it was trained on; its digest goes into the lineage.
    """

    sample: Any
    drop: Sequence[str]
    config: Path | str | Mapping[str, Any]
    entry: str
    code: Path | str
    training_data: Path | str


def options_of(
    *,
    sample: Path | None,
    drop: Sequence[str] | None,
    config: Path | None,
    entry: str | None,
    code: Path | None,
) -> PackOptions:
    """The options that were given."""
    options: PackOptions = {}
    if sample is not None:
        options["sample"] = sample
    if drop:
        options["drop"] = drop
    if config is not None:
        options["config"] = config
    if entry is not None:
        options["entry"] = entry
    if code is not None:
        options["code"] = code
    return options


def name_of(path: Path) -> str:
    """The model name that a file's name suggests: `Churn Model.pkl` is `churn-model`."""
    return re.sub(r"[^a-z0-9._-]+", "-", path.resolve().stem.lower()).strip("-._") or "model"


def packer(model: Any, *, on_progress: OnProgress, options: PackOptions) -> Packer:
    """The function that packages `model` below a directory it is given."""
    return lambda out: pack(model, out, on_progress=on_progress, options=options)


def pack(model: Any, out: Path, *, on_progress: OnProgress, options: PackOptions) -> Path:
    """Packages `model` below `out`, in this process and environment; the bundle's directory.

    Raises:
        InvalidArtifact: it is not a model that can be packaged.
        InvalidRequest, InvalidInput: the sample cannot be read or does not fit the model.
        InvalidSpec: the config is not valid or does not fit the model.
    """
    from shipway.bundles.package import package

    packaged = package(
        model,
        out=out,
        now=datetime.now(UTC),  # noqa: TID251 - packaging happens at the author's, on their clock
        sample=options.get("sample"),
        overrides=_overrides(options),
        on_step=lambda step: on_progress(step, 0, 0),
    )
    return packaged.directory


def _overrides(options: PackOptions) -> Overrides:
    from shipway.bundles.overrides import Overrides, parse_overrides, read_overrides

    config = options.get("config")
    if config is None:
        overrides = Overrides()
    elif isinstance(config, Mapping):
        overrides = parse_overrides(yaml_of(config), origin="config")
    else:
        overrides = read_overrides(Path(config))
    given: dict[str, Any] = {"class_name": options.get("entry")}
    if options.get("training_data"):
        given["training_data"] = str(options["training_data"])
    if options.get("code"):
        given["options"] = {**overrides.options, "code": str(_directory(options["code"]))}
    if options.get("drop"):
        given["drop"] = tuple(options["drop"])
    chosen = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(overrides, **chosen)


def _directory(code: Path | str) -> Path:
    directory = Path(code)
    if not directory.is_dir():
        raise InvalidArtifact(
            f"The code directory `{directory}` is not there, or is no directory.",
            next_step="Give the directory that holds the modules, with `--code` or `code=`.",
        )
    return directory


def yaml_of(config: Mapping[str, Any]) -> str:
    """A mapping as YAML text, so that it is checked with the same words as a file."""
    import yaml

    return str(yaml.safe_dump(dict(config)))
