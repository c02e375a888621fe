"""The demo's models, trained on data sets that ship with scikit-learn, and saved as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from shipway.core.tensors import Array

_SENT_ROWS = 64
_SEED = 7


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A trained model in a file, and its own answers to the rows that the demo will send."""

    artifact: Path
    metric: str
    score: float
    answers: list[list[float]]


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """A data set, the versions trained on it, and the requests to send.

    `output` is the name of the output that `answers` hold.
    """

    name: str
    family: str
    sample: Path
    output: str
    versions: tuple[Trained, ...]
    bodies: list[str]


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """Requests as they should be, and the same after a column's unit has changed."""

    column: str
    usual: list[str]
    shifted: list[str]


def unit_change() -> Shift:
    """The breast cancer data, and the same with the mean radius in micrometres instead of millimetres."""
    from sklearn.datasets import load_breast_cancer

    rows, _ = load_breast_cancer(return_X_y=True, as_frame=True)
    rows.columns = [name.replace(" ", "_") for name in rows.columns]
    rows = rows.sample(frac=1, random_state=_SEED)
    shifted = rows.assign(mean_radius=rows["mean_radius"] * 1000)
    return Shift(column="mean_radius", usual=bodies_of(rows), shifted=bodies_of(shifted))


def tumours(directory: Path) -> Lesson:
    """Three scikit-learn pipelines on the breast cancer data.

    The first looks at ten of its measurements, the second at all thirty; the third was trained with the
    classes mixed up, as happens when somebody joins the wrong table.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, target = load_breast_cancer(return_X_y=True, as_frame=True)
    rows.columns = [name.replace(" ", "_") for name in rows.columns]
    train_x, test_x, train_y, test_y = train_test_split(rows, target, random_state=_SEED)
    means = ColumnTransformer([("means", StandardScaler(), list(rows.columns[:10]))])
    pipelines = [
        (make_pipeline(means, LogisticRegression(max_iter=1000)), train_y),
        (make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), train_y),
        (make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), 1 - train_y),
    ]
    sent = test_x.iloc[:_SENT_ROWS]
    versions = tuple(
        Trained(
            artifact=_dumped(pipeline.fit(train_x, labels), directory / f"tumours-{number}.joblib"),
            metric="accuracy",
            score=float(pipeline.score(test_x, test_y)),
            answers=pipeline.predict_proba(sent).tolist(),
        )
        for number, (pipeline, labels) in enumerate(pipelines, start=1)
    )
    return Lesson(
        name="tumours",
        family="scikit-learn",
        sample=_sample(train_x, directory / "tumours.csv"),
        output="probabilities",
        versions=versions,
        bodies=bodies_of(sent),
    )


def progression(directory: Path) -> Lesson:
    """A boosted tree model (XGBoost) of how diabetes progresses within a year."""
    from sklearn.datasets import load_diabetes
    from sklearn.metrics import r2_score
    from sklearn.model_selection import train_test_split
    from xgboost import XGBRegressor

    rows, target = load_diabetes(return_X_y=True, as_frame=True)
    train_x, test_x, train_y, test_y = train_test_split(rows, target, random_state=_SEED)
    model = XGBRegressor(n_estimators=60, max_depth=3, learning_rate=0.1, n_jobs=1)
    model.fit(train_x, train_y)
    artifact = directory / "progression.ubj"
    model.save_model(artifact)
    sent = test_x.iloc[:_SENT_ROWS]
    trained = Trained(
        artifact=artifact,
        metric="r2",
        score=float(r2_score(test_y, model.predict(test_x))),
        answers=[[float(value)] for value in model.predict(sent)],
    )
    return Lesson(
        name="progression",
        family="XGBoost",
        sample=_sample(train_x, directory / "progression.csv"),
        output="prediction",
        versions=(trained,),
        bodies=bodies_of(sent),
    )


def bodies_of(rows: Any) -> list[str]:
    """One Open Inference request per row of a frame of numbers, one input per column."""
    return [_body(list(rows.columns), values) for values in rows.to_numpy()]


def _body(names: Sequence[str], values: Array) -> str:
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [float(value)]}
        for name, value in zip(names, values, strict=True)
    ]
    return msgspec.json.encode({"inputs": inputs}).decode()


def _dumped(model: Any, path: Path) -> Path:
    import joblib

    joblib.dump(model, path)
    return path


def _sample(rows: Any, path: Path) -> Path:
    rows.to_csv(path, index=False)
    return path
