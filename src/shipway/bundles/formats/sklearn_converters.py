"""What skl2onnx's own converters need beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from shipway.engines.sklearn import estimators_in

Converter = Callable[[Any, Any, Any], None]


def converters() -> dict[type, Converter]:
    """Converters that replace those of skl2onnx, by the estimator's class."""
    from skl2onnx.common._registration import get_converter
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer

    found: dict[type, Converter] = {
        kind: _with_plain_integers(get_converter(f"Sklearn{kind.__name__}"))
        for kind in (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    }
    return found | {SimpleImputer: _imputing_doubles(get_converter("SklearnSimpleImputer"))}


def register_boosters(model: Any) -> None:
    """Tells skl2onnx how to convert the XGBoost and LightGBM estimators inside the model, if any.

    skl2onnx keeps converters of other libraries in a table of its own; to register twice is harmless.
    """
    from skl2onnx import update_registered_converter

    for part in estimators_in(model):
        found = _booster_converter(type(part))
        if found is not None:
            shapes, convert, options = found
            name = f"Shipway{type(part).__name__}"
            update_registered_converter(type(part), name, shapes, convert, options=options)


def _booster_converter(kind: type) -> tuple[Any, Converter, dict[str, Any]] | None:
    from skl2onnx.common import shape_calculator as shapes
    from sklearn.base import ClassifierMixin

    library = kind.__module__.partition(".")[0]
    if library not in ("xgboost", "lightgbm"):
        return None
    convert = _of_onnxmltools(library)
    if issubclass(kind, ClassifierMixin):
        options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        return shapes.calculate_linear_classifier_output_shapes, convert, options
    return shapes.calculate_linear_regressor_output_shapes, convert, {}


def _of_onnxmltools(library: str) -> Converter:
    if library == "xgboost":
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        return cast("Converter", convert_xgboost)
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    return cast("Converter", convert_lightgbm)


def _with_plain_integers(converter: Converter) -> Converter:
    """The converter, writing flags as 0 and 1: onnx 1.23 no longer takes booleans for them."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        add_node = container.add_node

        def add(op_type: str, *args: Any, **attributes: Any) -> Any:
            plain = {name: _plain(value) for name, value in attributes.items()}
            return add_node(op_type, *args, **plain)

        container.add_node = add
        try:
            converter(scope, operator, container)
        finally:
            container.add_node = add_node

    return convert


def _imputing_doubles(converter: Converter) -> Converter:
    """The converter, with plain operators for FP64: ONNX Runtime's imputer takes FP32 only."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType

        model = operator.raw_operator
        doubles = all(isinstance(item.type, DoubleTensorType) for item in operator.inputs)
        if doubles and model.missing_values != model.missing_values:
            _impute(scope, operator, container)
        else:
            converter(scope, operator, container)

    return convert


def _impute(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.operator_converters.common import concatenate_variables

    features = concatenate_variables(scope, operator.inputs, container)
    values = np.asarray(operator.raw_operator.statistics_, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a column without any value was dropped by `SimpleImputer`")
    fill, missing = (scope.get_unique_variable_name(name) for name in ("fill", "missing"))
    container.add_initializer(fill, TensorProto.DOUBLE, [1, len(values)], values.tolist())
    container.add_node("IsNaN", [features], [missing], op_version=13)
    output = operator.outputs[0].full_name
    container.add_node("Where", [missing, fill, features], [output], op_version=9)


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [int(item) if type(item).__name__ in ("bool", "bool_") else item for item in value]
