"""Which package on the package index gives which module, where the names differ."""

from __future__ import annotations

from pathlib import Path

from shipway.core.errors import InvalidArtifact, MissingClass, MissingDependency

PACKAGE_OF = {
    "catboost": "catboost",
    "category_encoders": "category-encoders",
    "cloudpickle": "cloudpickle",
    "cv2": "opencv-python-headless",
    "dill": "dill",
    "feature_engine": "feature-engine",
    "imblearn": "imbalanced-learn",
    "interpret": "interpret",
    "joblib": "joblib",
    "lightgbm": "lightgbm",
    "mlflow": "mlflow",
    "nltk": "nltk",
    "onnx": "onnx",
    "onnxmltools": "onnxmltools",
    "onnxruntime": "onnxruntime",
    "pandas": "pandas",
    "PIL": "pillow",
    "polars": "polars",
    "pytorch_tabnet": "pytorch-tabnet",
    "scipy": "scipy",
    "sentence_transformers": "sentence-transformers",
    "skl2onnx": "skl2onnx",
    "sklearn": "scikit-learn",
    "sklearn_pandas": "sklearn-pandas",
    "skops": "skops",
    "skorch": "skorch",
    "spacy": "spacy",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "umap": "umap-learn",
    "xgboost": "xgboost",
    "yaml": "pyyaml",
}


def missing_package(path: Path, module: str, *, name: str) -> InvalidArtifact:
    """The error for a module that cannot be imported: a known package, or somebody's own code."""
    package = PACKAGE_OF.get(module)
    if package is not None:
        return MissingDependency(
            f"`{path}` needs `{name}`, and package `{package}` is not installed here.",
            next_step=f"Run `pip install {package}` in this environment, with the version that the"
            " model was trained with.",
            package=package,
            module=module,
        )
    return MissingClass(
        f"`{path}` needs `{name}`, and there is no module `{module}` here.",
        next_step=f"If `{module}` is your own code, name its directory with `--code DIR`"
        f" (`code=` in Python); if it is a package, run `pip install {module}` in this environment.",
        module=module,
        name=name,
    )


def needs(path: Path, module: str) -> None:
    """Makes sure that a framework can be imported.

    Raises:
        MissingDependency: it is not installed; the message names the package.
    """
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise missing_package(path, module, name=module)
