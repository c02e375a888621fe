"""What a person declares about a model before it is packaged: the file `model.yaml`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec

from shipway.bundles.documents import documents_of
from shipway.core.errors import InvalidSpec
from shipway.core.signature import Field, Signature
from shipway.core.tensors import DataType

_Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


class InputOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is declared about one input; None leaves what was inferred.

    Declared `minimum`, `maximum` and `categories` are enforced on every request.
    """

    dtype: DataType | None = None
    shape: tuple[int, ...] | None = None
    nullable: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None

    def declared(self) -> dict[str, Any]:
        """The attributes that were given, by name."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in given.items() if value is not None}


class Overrides(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"class_name": "class"},
):
    """The whole file. Every key is optional.

    `inputs` are by name. `output_names` rename outputs, from the engine's name to the callers'.
    `threshold` is the probability of a binary classifier's second class from which the label is the
    second class. `class` is `module:Class` of a Python model, and `options` what its format takes
    beside it. `drop` are columns of the sample that are no inputs, such as the target.
    `training_data` is the file or directory that the model was trained on, for its lineage.
    """

    inputs: dict[str, InputOverride] = {}
    output_names: dict[str, str] = {}
    threshold: _Rate | None = None
    requirements: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    class_name: str | None = None
    options: dict[str, Any] = {}
    drop: tuple[str, ...] = ()
    training_data: str | None = None

    def format_options(self) -> dict[str, Any]:
        """The options that the artifact's format gets, `class` among them."""
        return self.options | ({"class": self.class_name} if self.class_name else {})


def overrides_schema() -> dict[str, Any]:
    """The JSON Schema of `model.yaml`."""
    schema = msgspec.json.schema(Overrides)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def read_overrides(path: Path) -> Overrides:
    """The overrides in a YAML file.

    Raises:
        InvalidSpec: it cannot be read, is no YAML, or breaks the schema; the path is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSpec(
            f"`{path}` cannot be read: {exc}.", next_step="Give a YAML file."
        ) from exc
    return parse_overrides(text, origin=str(path))


def parse_overrides(text: str, *, origin: str = "model.yaml") -> Overrides:
    """The overrides in a YAML text; `origin` names it in errors.

    Raises:
        InvalidSpec: it is no YAML, or breaks the schema; the path is named.
    """
    try:
        loaded = next(iter(documents_of(text)), None)
    except ValueError as exc:
        raise InvalidSpec(f"`{origin}` is no YAML: {exc}.", next_step="Correct that line.") from exc
    if loaded is None:
        return Overrides()
    _check_keys(loaded, Overrides, origin=origin, path="$")
    inputs = loaded.get("inputs") if isinstance(loaded, Mapping) else None
    for name, given in (inputs if isinstance(inputs, Mapping) else {}).items():
        _check_keys(given, InputOverride, origin=origin, path=f"$.inputs.{name}")
        _converted(given, InputOverride, origin=origin, path=f"$.inputs.{name}")
    overrides: Overrides = _converted(loaded, Overrides, origin=origin, path="$")
    return overrides


def _check_keys(
    value: Any, kind: type[Overrides | InputOverride], *, origin: str, path: str
) -> None:
    if not isinstance(value, Mapping):
        return  # the conversion says what was expected
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    unknown = next((str(key) for key in value if key not in known), None)
    if unknown is not None:
        raise InvalidSpec(
            f"`{origin}` has the unknown key `{path}.{unknown}`.{suggestion(unknown, known)}",
            next_step=f"Known keys here: {', '.join(f'`{name}`' for name in known)}.",
            path=f"{path}.{unknown}",
        )


def suggestion(name: str, known: Collection[str]) -> str:
    """` Did you mean …?` with the nearest known name, or an empty text."""
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean `{near[0]}`?" if near else ""


def _converted(value: Any, kind: Any, *, origin: str, path: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        fact, _, place = str(exc).partition(" - at `$")
        where = path + place.rstrip("`")
        wrong = re.search(r"Invalid enum value '(.*)'", fact)
        hint = suggestion(wrong[1].upper(), list(DataType)) if wrong else ""
        raise InvalidSpec(
            f"`{origin}` is wrong at `{where}`: {fact[:1].lower()}{fact[1:]}.{hint}",
            next_step="Correct that value.",
            path=where,
        ) from exc


def declared_inputs(
    fields: tuple[Field, ...], overrides: Mapping[str, InputOverride]
) -> tuple[Field, ...]:
    """The inputs with what is declared about them, each attribute listed in `declared`.

    When nothing could be inferred, the declarations with a dtype are the inputs.

    Raises:
        InvalidSpec: an input that the model lacks, or a declaration that contradicts itself.
    """
    if not fields:
        fields = tuple(
            Field(name=name, dtype=given.dtype) for name, given in overrides.items() if given.dtype
        )
    names = [field.name for field in fields]
    for name in overrides:
        if name not in names:
            raise InvalidSpec(
                f"The model has no input `{name}` to declare.{suggestion(name, names)}",
                next_step=f"Its inputs are: {', '.join(f'`{known}`' for known in names)}.",
                path=f"$.inputs.{name}",
            )
    return tuple(
        _declared(field, overrides[field.name]) if field.name in overrides else field
        for field in fields
    )


def _declared(field: Field, given: InputOverride) -> Field:
    declared = given.declared()
    dtype = DataType(declared.get("dtype", field.dtype))
    _check_consistent(field.name, dtype, given)
    # What was seen in the sample says nothing about values of another kind.
    stale = {} if dtype.is_numeric == field.dtype.is_numeric else _UNSEEN
    return msgspec.structs.replace(field, **(stale | declared), declared=tuple(sorted(declared)))


_UNSEEN: dict[str, Any] = {"minimum": None, "maximum": None, "categories": None}


def _check_consistent(name: str, dtype: DataType, given: InputOverride) -> None:
    has_range = given.minimum is not None or given.maximum is not None
    fact = ""
    if has_range and not dtype.is_numeric:
        fact = f"a range, and its dtype is {dtype}"
    elif given.categories is not None and dtype.is_numeric:
        fact = f"categories, and its dtype is {dtype}"
    elif given.minimum is not None and given.maximum is not None and given.minimum > given.maximum:
        fact = f"a minimum of {given.minimum:g} over its maximum of {given.maximum:g}"
    if fact:
        raise InvalidSpec(
            f"Input `{name}` is declared with {fact}.",
            next_step="Correct the declaration.",
            path=f"$.inputs.{name}",
        )


def renamed_outputs(signature: Signature, names: Mapping[str, str]) -> Signature:
    """The signature with its outputs under the callers' names.

    Raises:
        InvalidSpec: a name that the model does not give, or two outputs with one name.
    """
    known = signature.output_names()
    for name in names:
        if name not in known:
            raise InvalidSpec(
                f"The model has no output `{name}` to rename.{suggestion(name, known)}",
                next_step=f"Its outputs are: {', '.join(f'`{output}`' for output in known)}.",
                path=f"$.output_names.{name}",
            )
    renamed = tuple(names.get(name, name) for name in known)
    if len(set(renamed)) < len(renamed):
        raise InvalidSpec(
            f"`output_names` gives two outputs the same name: {', '.join(renamed)}.",
            next_step="Give each output a name of its own.",
            path="$.output_names",
        )
    outputs = tuple(
        msgspec.structs.replace(field, name=name)
        for field, name in zip(signature.outputs, renamed, strict=True)
    )
    return msgspec.structs.replace(signature, outputs=outputs)
