"""What goes into an evaluation: data of every kind, and what is wrong with it in clear words."""

import sys

import numpy as np
import pandas as pd
import pytest

from shipway.client.answers import Prediction, Version
from shipway.client.discovery import Addresses
from shipway.client.evaluating.collecting import MOST_SLICE_VALUES, Answers, Labels, Truth
from shipway.client.evaluating.held_out import held_out
from shipway.client.evaluating.metrics import require_sklearn
from shipway.client.evaluating.question import question_of
from shipway.client.evaluating.stands import Stands, _is_left_over, _place, _process
from shipway.client.evaluating.subjects import intake_of, subject_of
from shipway.client.exchange import Run
from shipway.client.session import Session
from shipway.core.bundles import ModelConfig
from shipway.core.errors import (
    EndpointNotFound,
    InvalidRequest,
    MissingDependency,
    ModelFailed,
    PolicyUnmet,
)
from shipway.core.evaluations import (
    MOST_SLICES,
    Findings,
    Measure,
    Slice,
    Task,
    check_findings,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.testing.bundles import manifest_of

FRAME = pd.DataFrame(
    {
        "age": np.arange(2500, dtype=float),
        "city": ["Bonn", "Köln"] * 1250,
        "churned": ["no", "yes", "no", "no", "yes"] * 500,
        "plan": ["free", None] * 1250,
    }
)
TYPES = {
    "age": DataType.FP64,
    "city": DataType.STRING,
    "churned": DataType.STRING,
    "plan": DataType.STRING,
}
COLUMNS = (Field(name="age", dtype=DataType.FP64), Field(name="city", dtype=DataType.STRING))
LABEL = Field(name="label", dtype=DataType.STRING)
SCORES = Field(name="probabilities", dtype=DataType.FP32, shape=(-1, 2))
NUMBER = Field(name="prediction", dtype=DataType.FP64)


def version(outputs=(LABEL, SCORES), inputs=COLUMNS, classes=("no", "yes"), **content):
    layout = Layout.COLUMNS if all(len(field.shape) == 1 for field in inputs) else Layout.TENSORS
    signature = Signature(layout=layout, inputs=inputs, outputs=outputs)
    manifest = manifest_of(signature=signature, classes=classes, **content)
    return Version(model="churn", number=2, digest=manifest.digest, manifest=manifest)


def written(directory, kind, frame=FRAME):
    path = directory / f"test.{kind}"
    if kind == "parquet":
        frame.to_parquet(path, index=False)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records")
    return path


def whole(held, most_rows=700):
    batches = list(held.batches(TYPES, most_rows=most_rows))
    assert all(len(batch["age"]) <= most_rows for batch in batches)
    return {name: np.concatenate([batch[name] for batch in batches]).tolist() for name in TYPES}


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_files_of_every_kind_give_the_same_rows_in_batches(tmp_path, kind):
    held = held_out(written(tmp_path, kind))
    assert held.names == tuple(FRAME)
    assert whole(held) == whole(held) == whole(held_out(FRAME))
    assert whole(held)["plan"][:2] == ["free", None]


def test_the_first_rows_of_a_csv_do_not_decide_its_types(tmp_path):
    path = tmp_path / "test.csv"
    rows = [f"{number},7,0,1" for number in range(200_000)]
    path.write_text("\n".join(["age,city,churned,plan", *rows, "0.5,Bonn,yes,x"]))
    last = list(held_out(path).batches(TYPES, most_rows=1000))[-1]
    assert [last[name][-1] for name in TYPES] == [0.5, "Bonn", "yes", "x"]
    assert last["city"][0] == "7"


def test_the_digest_is_that_of_the_file_and_of_the_values_in_memory(tmp_path):
    one, other = written(tmp_path, "csv"), tmp_path / "copy.csv"
    other.write_bytes(one.read_bytes())
    assert held_out(one).sha256 == held_out(other).sha256
    assert held_out(FRAME).sha256 == held_out(FRAME.copy()).sha256
    assert held_out(FRAME).sha256 != held_out(FRAME[::-1].reset_index(drop=True)).sha256


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_file_that_is_replaced_meanwhile_is_refused(tmp_path, kind):
    path = written(tmp_path, kind)
    held = held_out(path)
    batches = held.batches(TYPES, most_rows=700)
    next(batches)
    written(tmp_path, "csv", FRAME[:-1]).replace(path)
    with pytest.raises(InvalidRequest, match="was changed while it was read"):
        list(batches)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"PAR1 and nothing else", "cannot be read"),
        (b"a,a\n1,2\n", "has the column `a` twice"),
        (b"\x00\x01\x02", "binary file of no known kind"),
        (b"[]", "no rows"),
    ],
)
def test_what_is_no_data_is_refused_in_words(tmp_path, content, words):
    path = tmp_path / "test.data"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=words):
        held_out(path)


def test_a_missing_file_and_a_value_of_another_type_are_refused_in_words(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        held_out(tmp_path / "nowhere.csv")
    path = tmp_path / "test.csv"
    path.write_text("age,city\nold,Bonn\n")
    with pytest.raises(InvalidRequest, match="old"):
        list(held_out(path).batches({"age": DataType.FP64}, most_rows=10))


@pytest.mark.parametrize(
    ("made", "task", "answer", "scores"),
    [
        (version(), Task.CLASSIFICATION, "label", "probabilities"),
        (version(outputs=(NUMBER,), classes=None), Task.REGRESSION, "prediction", None),
        (version(outputs=(LABEL,)), Task.CLASSIFICATION, "label", None),
        (
            version(
                outputs=(Field(name="leaves", dtype=DataType.STRING), SCORES),
                config=ModelConfig(output_names={"label": "leaves"}),
            ),
            Task.CLASSIFICATION,
            "leaves",
            "probabilities",
        ),
        (
            version(outputs=(Field(name="price", dtype=DataType.FP32),), classes=None),
            Task.REGRESSION,
            "price",
            None,
        ),
    ],
)
def test_the_outputs_say_what_is_judged(made, task, answer, scores):
    subject = subject_of(made)
    assert (subject.task, subject.answer.name, subject.probabilities) == (task, answer, scores)


def test_a_booster_that_numbers_its_classes_is_judged_by_them():
    label = Field(name="label", dtype=DataType.INT64)
    subject = subject_of(version(outputs=(label, SCORES), classes=None))
    assert subject.classes == (0, 1)


def test_outputs_that_do_not_say_it_need_a_word():
    counts = version(outputs=(Field(name="visits", dtype=DataType.INT64),), classes=None)
    with pytest.raises(InvalidRequest, match="numbers or classes") as refusal:
        subject_of(counts)
    assert "--task" in refusal.value.next_step
    assert subject_of(counts, Task.REGRESSION).task is Task.REGRESSION
    several = version(outputs=(NUMBER, NUMBER), classes=None)
    assert subject_of(several).answer.name == "prediction"
    with pytest.raises(InvalidRequest, match="none of which"):
        subject_of(
            version(
                outputs=(
                    Field(name="a", dtype=DataType.FP32),
                    Field(name="b", dtype=DataType.FP32),
                )
            )
        )


@pytest.mark.parametrize(
    ("drop", "label", "slices", "words"),
    [
        ("age", "churned", (), "no column `age`, which `churn:2` takes"),
        ("plan", "chuned", (), "no column `chuned`. Did you mean `churned`"),
        ("city", "churned", ("plam",), "no column `plam`. Did you mean `plan`"),
        ("plan", "age", (), "`age` is an input of `churn:2`"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_words(drop, label, slices, words):
    held = held_out(FRAME.drop(columns=drop))
    with pytest.raises(InvalidRequest, match=words):
        intake_of(subject_of(version()), held, label=label, slices=slices)


def test_label_and_further_columns_are_no_inputs():
    intake = intake_of(subject_of(version()), held_out(FRAME), label="churned", slices=("plan",))
    assert list(intake.columns) == ["age", "city"]


def test_a_model_of_a_matrix_gets_the_table_s_columns_in_their_order():
    matrix = Field(name="X", dtype=DataType.FP64, shape=(-1, 2))
    made = subject_of(version(inputs=(matrix,)))
    frame = pd.DataFrame({"a": [1.0], "b": [2.0], "y": ["no"], "plan": ["free"]})
    intake = intake_of(made, held_out(frame), label="y", slices=("plan",))
    batch = next(held_out(frame).batches(dict.fromkeys(frame, DataType.FP64), most_rows=9))
    assert intake.inputs(batch)["X"].tolist() == [[1.0, 2.0]]
    with pytest.raises(InvalidRequest, match="a matrix of 2 columns"):
        intake_of(made, held_out(frame.assign(c=3.0)), label="y", slices=("plan",))


def test_large_rows_are_sent_fewer_at_once():
    image = Field(name="X", dtype=DataType.FP32, shape=(-1, 224, 224, 3))
    assert subject_of(version()).rows_at_once == 1000
    assert subject_of(version(inputs=(image,))).rows_at_once == 13


def truth_of(column, *, subject=None, plan=None):
    truth = Truth(subject or subject_of(version()), label="y", slices=("plan",) if plan else ())
    batch = {"y": np.asarray(column)}
    truth.add(batch | ({"plan": np.asarray(plan, dtype=object)} if plan else {}))
    return truth


def texts(*values):
    return np.array(values, dtype=object)


def test_a_row_without_a_label_is_named():
    truth = truth_of(texts("no", "yes"))
    with pytest.raises(InvalidRequest, match="no value in row 4"):
        truth.add({"y": texts("no", None)})
    regression = subject_of(version(outputs=(NUMBER,), classes=None))
    with pytest.raises(InvalidRequest, match="no value in row 2"):
        truth_of([1.0, np.nan], subject=regression)


def test_labels_that_the_model_does_not_know_are_named_with_those_it_knows():
    with pytest.raises(InvalidRequest, match="`maybe`") as refusal:
        truth_of(texts("no", "maybe"))
    assert "`no`, `yes`" in refusal.value.next_step
    with pytest.raises(InvalidRequest, match="`0`, `1`"):
        truth_of([0, 1])


def test_numbers_are_one_class_whatever_their_type():
    labels = Labels((0, 1))
    for column in (np.array([1, 0]), np.array([1.0, 0.0]), np.array([True, False])):
        assert labels.encoded(column, what="y").tolist() == [1, 0]


def test_text_is_no_number_to_be_met():
    regression = subject_of(version(outputs=(NUMBER,), classes=None))
    with pytest.raises(InvalidRequest, match="holds text"):
        truth_of(texts("a"), subject=regression)


def test_a_slice_column_of_too_many_values_is_refused():
    many = [f"p{number}" for number in range(MOST_SLICE_VALUES + 1)]
    with pytest.raises(InvalidRequest, match="to slice by"):
        truth_of(texts(*["no"] * len(many)), plan=many)
    (column,) = truth_of(texts("no", "no", "yes"), plan=["a", None, "a"]).slices()
    assert (column.values, column.codes.tolist()) == (("a", "(none)"), [0, 1, 0])


def answered(subject, truth, outputs):
    answers = Answers(subject, truth)
    answers.add(
        Prediction(endpoint="e", version="2", outputs=outputs), first_row=0, rows=truth.rows
    )
    return answers


def test_answers_become_positions_among_the_classes_with_probabilities_that_sum_to_1():
    truth = truth_of(texts("yes", "no"))
    scores = np.array([[0.2, 0.8], [0.70001, 0.3]], dtype=np.float32)
    outputs = {"label": texts("yes", "yes"), "probabilities": scores}
    judged = answered(subject_of(version()), truth, outputs).judged()
    assert (judged.truth.tolist(), judged.answers.tolist()) == ([1, 0], [1, 1])
    assert judged.probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-12)


@pytest.mark.parametrize(
    "scores", [[[0.5, 0.6]], [[1.2, -0.2]], [[0.2, 0.3, 0.5]], [[np.nan, 0.5]]]
)
def test_scores_that_are_no_probabilities_are_left_out_with_a_note(scores):
    truth = truth_of(texts("yes"))
    outputs = {"label": texts("yes"), "probabilities": np.array(scores)}
    answers = answered(subject_of(version()), truth, outputs)
    assert answers.judged().probabilities is None
    assert "is not judged" in answers.notes[0]


def test_classes_that_only_the_data_names_are_sorted_so_that_the_order_of_rows_is_nothing():
    subject = subject_of(version(outputs=(LABEL,), classes=None))
    for column in (texts("b", "a", "c"), texts("c", "b", "a")):
        truth = truth_of(column, subject=subject)
        judged = answered(subject, truth, {"label": texts("a", "a", "a")}).judged()
        assert judged.classes == ("a", "b", "c")
        assert [judged.classes[code] for code in judged.truth] == column.tolist()


def test_an_answer_that_is_no_number_is_the_model_s_fault_and_its_row_is_named():
    subject = subject_of(version(outputs=(NUMBER,), classes=None))
    truth = truth_of([1.0, 2.0], subject=subject)
    with pytest.raises(ModelFailed, match="row 2 with nan"):
        answered(subject, truth, {"prediction": np.array([1.0, np.nan])})
    with pytest.raises(ModelFailed, match="2 rows with 3 values"):
        answered(subject, truth, {"prediction": np.ones(3)})


def test_a_question_that_makes_no_sense_is_refused():
    for options in (
        {"task": "ranking"},
        {"load": -1},
        {"load": 10_000},
        {"slices": "abcdefghijklmnopqrstuvw"},
    ):
        with pytest.raises(InvalidRequest):
            question_of("churn:2", "y", options)
    assert question_of("churn:2", "y", {"slices": ("a", "a")}).slices == ("a",)


def test_an_endpoint_is_left_over_when_its_process_on_this_machine_is_gone():
    own = f"evaluate-{_place()}-{_process()}-abc123"
    assert len(own) <= 63
    assert not _is_left_over(own)
    pid = _process().partition("-")[0]
    assert _is_left_over(f"evaluate-{_place()}-{pid}-1-abc123")
    assert not _is_left_over(f"evaluate-00000000-{pid}-1-abc123")
    assert not _is_left_over("evaluate-churn")


ACCURACY = Measure(name="accuracy", value=0.9, low=0.8, high=0.95, better="higher")
FINDINGS = Findings(
    digest="sha256:0",
    task=Task.CLASSIFICATION,
    label="y",
    data="test.csv",
    data_sha256="0" * 64,
    rows=10,
    measures=(ACCURACY,),
)
WRONG = {
    "no measures": {"measures": ()},
    "no rows": {"rows": 0},
    "finite": {
        "measures": (Measure(name="a", value=float("nan"), low=0, high=1, better="higher"),)
    },
    "slices": {
        "slices": (Slice(column="p", value="v", rows=1, measures=(ACCURACY,)),) * (MOST_SLICES + 1)
    },
    "measures, differences": {"measures": (ACCURACY,) * 51},
    "characters": {"notes": ("x" * 1001,)},
}


@pytest.mark.parametrize(("words", "fields"), WRONG.items(), ids=WRONG)
def test_findings_that_are_not_fit_to_be_kept_are_refused(words, fields):
    from msgspec.structs import replace

    check_findings(FINDINGS)
    with pytest.raises(InvalidRequest, match=words):
        check_findings(replace(FINDINGS, **fields))


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingDependency) as missing:
        require_sklearn()
    assert 'pip install "shipway[sklearn]"' in missing.value.next_step


def test_a_policy_that_forbids_it_says_where_to_evaluate_and_the_endpoint_is_asked_away():
    stands = Stands(Session(Addresses(control_url="http://c", gateway_url="http://g")))
    run = Run(stands.put_up(version()))
    assert run.step.path.startswith("/api/v1/endpoints/evaluate-")
    with pytest.raises(PolicyUnmet, match="does not let `churn:2` run") as refusal:
        run.fail(PolicyUnmet("It is not approved.", unmet=["approval"]))
    assert "`dev`" in refusal.value.next_step
    assert refusal.value.details == {"unmet": ["approval"]}
    removal = Run(stands.taken_down())
    assert removal.step.method == "DELETE"
    removal.fail(EndpointNotFound("It was never made."))
    assert removal.step is None
    assert Run(stands.taken_down()).step is None
