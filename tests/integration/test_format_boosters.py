"""XGBoost and LightGBM models, in their own files and in pickles of their wrappers."""

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from shipway.bundles.formats.detect import detect
from shipway.core.bundles import Format
from shipway.core.errors import ArtifactTruncated, NotAModel

QUICK = {"n_estimators": 12, "max_depth": 3, "n_jobs": 1}


def matrix(load):
    features, target = load(return_X_y=True)
    return features.astype(np.float32), target


def frame(load):
    return load(return_X_y=True, as_frame=True)


TASKS = {
    "two classes": (load_breast_cancer, "Classifier"),
    "three classes": (load_iris, "Classifier"),
    "regression": (load_diabetes, "Regressor"),
}


def wrapper_of(library, kind):
    if library == "xgboost":
        return getattr(xgboost, f"XGB{kind}")(**QUICK)
    return getattr(lightgbm, f"LGBM{kind}")(**QUICK, verbose=-1)


def save(model, path, how):
    if how == "pickle":
        joblib.dump(model, path)
    elif how == "text":
        model.booster_.save_model(path)
    else:
        path.write_bytes(model.get_booster().save_raw(how))


def own_answers(model, features):
    if not hasattr(model, "predict_proba"):
        return {"prediction": model.predict(features)}
    return {"label": model.predict(features), "probabilities": model.predict_proba(features)}


@pytest.fixture(
    scope="module",
    params=[
        ("xgboost", "json", "matrix"),
        ("xgboost", "ubj", "frame"),
        ("xgboost", "pickle", "matrix"),
        ("lightgbm", "text", "matrix"),
        ("lightgbm", "text", "frame"),
        ("lightgbm", "pickle", "frame"),
    ],
    ids="-".join,
)
def saved(request):
    return request.param


@pytest.fixture(scope="module", params=list(TASKS))
def case(request, saved, prepare, tmp_path_factory):
    library, how, shape = saved
    load, kind = TASKS[request.param]
    features, target = (frame if shape == "frame" else matrix)(load)
    model = wrapper_of(library, kind).fit(features, target)
    path = tmp_path_factory.mktemp("model") / "saved.onnx"
    save(model, path, how)
    return library, model, features, prepare(path, features)


def test_engine_answers_what_the_framework_predicts(case, tmp_path):
    library, model, features, prepared = case
    assert prepared.artifact.format == library
    found = prepared.original(tmp_path).run(prepared.sample.inputs)
    expected = own_answers(model, features)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_onnx_form_agrees_with_the_booster(case):
    _, model, features, prepared = case
    report = prepared.parity()
    assert report.holds, report.reason
    found = prepared.onnx().run(prepared.sample.inputs)
    for name, value in own_answers(model, features).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4)


def test_same_model_compiles_to_the_same_bytes(case, prepare):
    _, _, features, prepared = case
    assert prepare(prepared.path, features).compiled.graph == prepared.compiled.graph


def test_format_tells_what_the_model_was_trained_on(case):
    library, model, features, prepared = case
    artifact = prepared.artifact
    names = tuple(features.columns) if hasattr(features, "columns") else None
    if library == "lightgbm" and names:
        assert [field.name for field in prepared.signature.inputs] == list(names)
        names = tuple(name.replace(" ", "_") for name in names)
    assert artifact.feature_names == names
    assert artifact.feature_count == features.shape[1]
    assert library in artifact.modules
    if hasattr(model, "classes_"):
        assert artifact.classes == tuple(model.classes_.tolist())


def test_early_stopped_wrapper_answers_with_its_best_round(prepare, tmp_path):
    features, target = matrix(load_diabetes)
    model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=2, n_jobs=1)
    model.fit(
        features[:300], target[:300], eval_set=[(features[300:], target[300:])], verbose=False
    )
    assert model.best_iteration < 150
    model.save_model(tmp_path / "m.json")
    prepared = prepare(tmp_path / "m.json", features)
    for engine in (prepared.original(tmp_path / "bundle"), prepared.onnx()):
        found = engine.run(prepared.sample.inputs)["prediction"]
        np.testing.assert_allclose(found, model.predict(features), rtol=1e-4)


@pytest.mark.parametrize("objective", ["multi:softmax", "binary:hinge"])
def test_booster_that_gives_labels_only_gives_labels(prepare, tmp_path, objective):
    load = load_iris if objective.startswith("multi") else load_breast_cancer
    features, target = matrix(load)
    parameters = {"objective": objective, "nthread": 1}
    if objective.startswith("multi"):
        parameters["num_class"] = 3
    data = xgboost.DMatrix(features, target)
    booster = xgboost.train(parameters, data, 5)
    booster.save_model(tmp_path / "m.ubj")
    prepared = prepare(tmp_path / "m.ubj", features)
    found = prepared.original(tmp_path / "bundle").run(prepared.sample.inputs)
    assert list(found) == ["label"]
    assert found["label"].tolist() == booster.predict(data).astype(int).tolist()


def test_booster_in_a_pickle_is_run_as_a_booster(prepare, tmp_path):
    features, target = matrix(load_iris)
    data = xgboost.DMatrix(features, target)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, data, 5)
    joblib.dump(booster, tmp_path / "m")
    prepared = prepare(tmp_path / "m", features)
    found = prepared.original(tmp_path / "bundle").run(prepared.sample.inputs)
    np.testing.assert_allclose(found["probabilities"], booster.predict(data), atol=1e-6)


def categories():
    random = np.random.default_rng(1)
    city = random.choice(["Lima", "Oslo", "Rome"], 300)
    table = pd.DataFrame({"city": city, "age": random.normal(40, 9, 300)})
    target = ((city == "Oslo") ^ (table["age"] > 42)).astype(int)
    return table, target


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("how", ["pickle", "file"])
def test_category_columns_keep_the_codes_of_training(prepare, tmp_path, library, how):
    table, target = categories()
    typed = table.astype({"city": "category"})
    more = {"enable_categorical": True} if library == "xgboost" else {"verbose": -1}
    kind = xgboost.XGBClassifier if library == "xgboost" else lightgbm.LGBMClassifier
    model = kind(**QUICK, **more).fit(typed, target)
    path = tmp_path / "m"
    own = "json" if library == "xgboost" else "text"
    save(model, path, "pickle" if how == "pickle" else own)
    prepared = prepare(path, table)
    assert prepared.compiled is None
    assert "category" in prepared.reason
    engine = prepared.original(tmp_path / "bundle")
    expected = model.predict_proba(typed)
    # One row alone holds one category, whose code must not become 0.
    for row in (0, 1, 2, 3, 4):
        alone = {name: array[row : row + 1] for name, array in prepared.sample.inputs.items()}
        found = engine.run(alone)["probabilities"]
        np.testing.assert_allclose(found, expected[row : row + 1], atol=1e-6)


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        *((how, kept) for how in ("json", "ubj", "pickle") for kept in (0.5, 0.97)),
        ("text", 0.5),  # what follows `end of trees`, near the end, LightGBM does not need
    ],
)
def test_shortened_file_is_called_truncated(tmp_path, how, kept):
    features, target = matrix(load_iris)
    model = wrapper_of("lightgbm" if how == "text" else "xgboost", "Classifier")
    path = tmp_path / "m"
    save(model.fit(features, target), path, how)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ArtifactTruncated):
        detect(path).open(path, options={})


@pytest.mark.parametrize(
    "text", ['{"learner": {"nothing": 1}, "version": [3, 0, 0]}', '{"learner": 3}']
)
def test_json_that_only_looks_like_a_booster_is_no_model(tmp_path, text):
    path = tmp_path / "m"
    path.write_text(text)
    assert detect(path).name is Format.XGBOOST
    with pytest.raises(NotAModel):
        detect(path).open(path, options={})
