"""scikit-learn models: detected, opened, run and compiled."""

import joblib
import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from xgboost import XGBClassifier

from shipway.core.bundles import Format
from shipway.core.tensors import DataType


def people(rows=400):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, rows),
            "income": random.normal(5e4, 1e4, rows),
            "city": random.choice(["Rome", "Oslo", "Lima"], rows),
            "plan": random.choice(["basic", "pro"], rows),
        }
    )
    label = ((frame["income"] > 5e4) & (frame["city"] != "Oslo")).astype(int)
    frame.loc[::7, "income"] = np.nan
    frame.loc[::11, "city"] = None
    return frame, label


NUMBERS = ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"])


def columns(encoder, names=("city", "plan")):
    return ColumnTransformer([NUMBERS, ("texts", encoder, list(names))])


def filled_one_hot():
    return make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )


def iris():
    return load_iris(return_X_y=True, as_frame=True)


def cancer():
    return load_breast_cancer(return_X_y=True)


def diabetes():
    return load_diabetes(return_X_y=True, as_frame=True)


def named_iris():
    features, target = iris()
    return features, np.array(["setosa", "versicolor", "virginica"])[target]


def boolean_iris():
    features, target = iris()
    return features, (target > 0).to_numpy()


CASES = {
    "scaled logistic on a matrix": (
        lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        cancer,
    ),
    "logistic with named classes on a frame": (
        lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        named_iris,
    ),
    "boolean classes": (lambda: LogisticRegression(max_iter=500), boolean_iris),
    "forest behind a scaler": (
        lambda: make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)),
        cancer,
    ),
    "boosted regressor": (lambda: GradientBoostingRegressor(n_estimators=30), diabetes),
    "histogram boosting": (lambda: HistGradientBoostingClassifier(max_iter=10), cancer),
    "ridge": (Ridge, diabetes),
    "support vectors": (lambda: make_pipeline(StandardScaler(), SVC()), iris),
    "linear support vectors": (lambda: make_pipeline(StandardScaler(), LinearSVC()), iris),
    "searched grid": (lambda: GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2), diabetes),
    "k-means": (lambda: KMeans(3, n_init=1, random_state=0), iris),
    "outliers": (lambda: IsolationForest(n_estimators=10, random_state=0), cancer),
    "components": (lambda: PCA(2), iris),
    "mixed columns with imputed nulls": (
        lambda: make_pipeline(columns(filled_one_hot()), LogisticRegression()),
        people,
    ),
    "mixed columns with nulls as a category, before trees": (
        lambda: make_pipeline(
            columns(OneHotEncoder(handle_unknown="ignore")),
            RandomForestClassifier(21, random_state=0),
        ),
        people,
    ),
    "encoder that refuses the unknown": (
        lambda: make_pipeline(columns(OneHotEncoder(), ["plan"]), LogisticRegression()),
        people,
    ),
    "XGBoost at the end of a pipeline": (
        lambda: make_pipeline(columns(filled_one_hot()), XGBClassifier(n_estimators=10, n_jobs=1)),
        people,
    ),
    "LightGBM at the end of a pipeline": (
        lambda: make_pipeline(
            StandardScaler(), LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1)
        ),
        cancer,
    ),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request, prepare, tmp_path_factory):
    make, data = CASES[request.param]
    features, target = data()
    model = make().fit(features, target)
    path = tmp_path_factory.mktemp("model") / "saved.anything"
    joblib.dump(model, path)
    return model, features, prepare(path, features)


def given(prepared, features):
    """The features as the engines get them: a matrix may be FP32 by its signature."""
    return prepared.sample.inputs.get("X", features)


def own_answers(model, features):
    if not hasattr(model, "predict"):
        return {"features": model.transform(features)}
    answer = model.predict(features)
    if hasattr(model, "predict_proba"):
        return {"label": answer, "probabilities": model.predict_proba(features)}
    is_number = answer.dtype.kind == "f"
    return {"prediction" if is_number else "label": answer}


def assert_same(found, expected, *, tolerance=1e-6):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == np.asarray(value).shape
        if name == "label":
            assert found[name].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:.*feature names:UserWarning")
def test_engine_answers_what_the_estimator_predicts(case, tmp_path):
    model, features, prepared = case
    engine = prepared.original(tmp_path)
    assert_same(engine.run(prepared.sample.inputs), own_answers(model, given(prepared, features)))


@pytest.mark.filterwarnings("ignore:.*feature names:UserWarning")
def test_onnx_form_agrees_with_the_estimator(case):
    model, features, prepared = case
    report = prepared.parity()
    assert report.holds, report.reason
    assert report.edge_rows > 5
    assert report.speed_up > 0
    found = prepared.onnx().run(prepared.sample.inputs)
    assert_same(found, own_answers(model, given(prepared, features)), tolerance=1e-3)


def test_same_model_compiles_to_the_same_bytes(case, prepare):
    _, features, prepared = case
    assert prepare(prepared.path, features).compiled.graph == prepared.compiled.graph


def test_outputs_have_the_types_of_the_signature(case):
    _, _, prepared = case
    found = prepared.onnx().run(prepared.sample.inputs)
    for field in prepared.signature.outputs:
        own = prepared.artifact.engine.run(prepared.sample.inputs)[field.name]
        assert found[field.name].dtype == own.dtype


def test_trained_frame_and_classes_are_told(prepare, tmp_path):
    features, target = named_iris()
    joblib.dump(LogisticRegression(max_iter=500).fit(features, target), tmp_path / "m")
    artifact = prepare(tmp_path / "m", features).artifact
    assert artifact.format is Format.SKLEARN
    assert artifact.task == "classification"
    assert artifact.feature_names == tuple(features.columns)
    assert artifact.classes == ("setosa", "versicolor", "virginica")
    assert {"sklearn", "numpy", "joblib", "pandas"} <= artifact.modules


def test_nothing_of_the_standard_library_is_a_dependency(prepare, tmp_path):
    features, target = cancer()
    joblib.dump(
        LogisticRegression(max_iter=5000).fit(features[:50, :3], target[:50]), tmp_path / "m"
    )
    modules = prepare(tmp_path / "m", features[:50, :3]).artifact.modules
    assert modules <= {"sklearn", "numpy", "joblib", "scipy", "pandas"}


def test_trees_that_split_between_whole_numbers_agree_on_the_numbers_between(prepare, tmp_path):
    """A value on a threshold goes left or right by its last bit, which FP32 scaling changes."""
    values = np.repeat(np.arange(0, 200, 2), 3).reshape(-1, 1).astype(float)
    target = (values[:, 0] // 2) % 2
    model = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0))
    joblib.dump(model.fit(values, target), tmp_path / "m")
    prepared = prepare(tmp_path / "m", values)
    between = np.arange(1, 199, 2).reshape(-1, 1).astype(prepared.sample.inputs["X"].dtype)
    expected = model.predict(between.astype(float))
    assert prepared.onnx().run({"X": between})["label"].tolist() == expected.tolist()
    assert prepared.compiled.feeds[0].dtype == DataType.FP64


def test_boosting_on_ordinal_texts_is_compiled_or_served_as_it_is(prepare, tmp_path):
    frame, label = people()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(columns(encoder), HistGradientBoostingClassifier(max_iter=5))
    joblib.dump(model.fit(frame, label), tmp_path / "m")
    prepared = prepare(tmp_path / "m", frame)
    report = prepared.parity()
    assert report.holds or report.reason.startswith("Served from the original:")
    engine = prepared.original(tmp_path / "bundle")
    assert_same(engine.run(prepared.sample.inputs), own_answers(model, frame))
