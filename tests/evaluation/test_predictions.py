import csv

import numpy as np
import pytest

from raylight.errors import RunError
from raylight.evaluation.predictions import UNKNOWN, Predictions, decide, read_csv, write_csv

NASTY = [
    'cat, "the" best.jpg',
    "line\nbreak.jpg",
    "return\rcarriage.jpg",
    "猫/ñandú 🐈.png",
    "not-utf8-\udcff.jpg",
    " spaces .jpg",
    "=SUM(A1).jpg",
]


def predictions(paths=NASTY, groups=None, **changes):
    n = len(paths)
    rng = np.random.default_rng(0)
    values = {
        "paths": tuple(paths),
        "splits": tuple("val" if i % 3 == 0 else "test" for i in range(n)),
        "labels": np.arange(n) % 2,
        "probabilities": rng.dirichlet([1, 1], n),
        "class_names": ("cat", 'dog, "good"'),
        "positive_class": "cat",
        "groups": groups,
    }
    return Predictions(**values | changes)


def test_a_table_reads_back_as_it_was_to_the_last_digit(tmp_path):
    groups = ["a", None, "a", "b,\n", None, "c", "d"]
    before = predictions(groups=groups, labels=np.array([0, 1, UNKNOWN, 0, 1, 0, 1]))
    write_csv(before, tmp_path / "predictions.csv")
    after = read_csv(tmp_path / "predictions.csv", "cat")
    assert list(after.paths) == NASTY
    assert after.splits == before.splits
    assert after.labels.tolist() == before.labels.tolist()
    assert np.array_equal(after.probabilities, before.probabilities)
    assert (after.class_names, after.positive_class) == (before.class_names, before.positive_class)
    assert list(after.groups) == groups


def test_the_columns_are_those_that_other_tools_read(tmp_path):
    write_csv(
        predictions(["a.jpg", "b.jpg"], probabilities=np.array([[0.4, 0.6], [0.1, 0.9]])),
        tmp_path / "p.csv",
        0.3,
    )
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert list(rows[0]) == ["path", "split", "label", "predicted", "p_cat", 'p_dog, "good"']
    # Cat is positive, and 0.4 is above the threshold.
    assert [row["predicted"] for row in rows] == ["cat", 'dog, "good"']
    assert (rows[0]["path"], rows[0]["split"], rows[0]["label"]) == ("a.jpg", "val", "cat")
    assert (rows[0]["p_cat"], rows[0]['p_dog, "good"']) == ("0.4", "0.6")


def test_a_write_that_fails_leaves_the_old_table_and_nothing_else(tmp_path):
    target = tmp_path / "predictions.csv"
    write_csv(predictions(["a.jpg"]), target)
    before = target.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write_csv(predictions(["a.jpg", "half a pair \ud83d.jpg"]), target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "isn't a table of predictions"),
        ("path,label\na,cat\n", "should read path,split,label,predicted,p_<class>,..., not 'path,label'"),
        ("path,split,label,predicted,p_cat,p_dog\na,test,cow,cat,1,0\n", r"image 1: .*'cow'.* doesn't fit"),
        ("path,split,label,predicted,p_cat,p_dog\na,test,cat,cat,1\n", "image 1: .* doesn't fit the columns"),
        (
            "path,split,label,predicted,p_cat,p_dog\na,test,cat,cat,0.9,x\n",
            "image 1: .* doesn't fit the columns",
        ),
        ("path,split,label,predicted,p_cat,p_dog\na,test,cat,cat,0.9,0.9\n", "sum to 1"),
    ],
)
def test_a_file_that_is_no_table_of_predictions_is_refused_with_a_reason(tmp_path, content, message):
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(RunError, match=message):
        read_csv(path)


def test_a_missing_file_or_class_is_named(tmp_path):
    with pytest.raises(RunError, match=r"can't read the predictions .*nowhere.csv"):
        read_csv(tmp_path / "nowhere.csv")
    write_csv(predictions(["a.jpg"]), tmp_path / "p.csv")
    with pytest.raises(RunError, match="has no class 'cow'; it has cat"):
        read_csv(tmp_path / "p.csv", "cow")


def test_subset_keeps_everything_of_one_split_in_order():
    whole = predictions(groups=list("abcdefg"))
    test = whole.subset("test")
    keep = [1, 2, 4, 5]
    assert list(test.paths) == [NASTY[i] for i in keep]
    assert set(test.splits) == {"test"}
    assert test.labels.tolist() == [i % 2 for i in keep]
    assert np.array_equal(test.probabilities, whole.probabilities[keep])
    assert "".join(test.groups) == "bcef"
    assert len(whole.subset("train")) == 0


def test_the_decision_is_strictly_above_the_threshold_and_the_most_probable_of_many():
    probabilities = np.array([[0.5, 0.5], [0.3, 0.7], [0.31, 0.69]])
    assert decide(probabilities, positive=1).tolist() == [0, 1, 1]
    assert decide(probabilities, positive=0).tolist() == [1, 1, 1]
    assert decide(probabilities, positive=0, threshold=0.3).tolist() == [0, 1, 0]
    assert decide(np.array([[0.4, 0.4, 0.2]]), positive=2).tolist() == [0]
    with pytest.raises(ValueError, match="two classes, not 3"):
        decide(np.array([[0.4, 0.4, 0.2]]), positive=2, threshold=0.1)


def test_only_images_of_known_class_are_judged_and_lonely_groups_are_no_groups():
    labelled = predictions(["a", "b", "c"], groups=["x", None, "y"], labels=np.array([0, UNKNOWN, 1])).labelled()
    assert labelled.labels.tolist() == [0, 1]
    assert labelled.groups is None
    labelled = predictions(["a", "b", "c", "d"], groups=["x", None, None, "x"]).labelled()
    first, second, third, fourth = labelled.groups.tolist()
    assert first == fourth
    assert len({first, second, third}) == 3
    with pytest.raises(ValueError, match="no image of known class"):
        predictions(["a"], labels=np.array([UNKNOWN])).labelled()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": np.array([[2.0, -1.0]])}, "at least 0 and sum to 1"),
        ({"probabilities": np.array([[np.nan, 1.0]])}, "at least 0 and sum to 1"),
        ({"probabilities": np.ones((1, 3)) / 3}, r"shape \(1, 2\), not \(1, 3\)"),
        ({"labels": np.array([2])}, "between -1 and 1"),
        ({"positive_class": "cow"}, "'cow' is none of cat"),
        ({"splits": ()}, "one entry for each of the 1 images"),
    ],
)
def test_what_cannot_be_predictions_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        predictions(["a"], **changes)


def test_the_second_image_is_the_second_of_the_message(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("path,split,label,predicted,p_cat,p_dog\na,test,cat,cat,1,0\nb,test,cow,cat,1,0\n")
    with pytest.raises(RunError, match=r"image 2: .*'cow'"):
        read_csv(path)


def test_the_last_class_is_positive_unless_another_is_named_and_empty_labels_are_unknown(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        "path,split,label,predicted,p_cat,p_dog,group\na,test,,cat,0.75,0.25,\nb,val,dog,cat,0.5,0.5,patient 1\n"
    )
    found = read_csv(path)
    assert (found.positive_class, found.class_names) == ("dog", ("cat", "dog"))
    assert (found.labels.tolist(), list(found.groups)) == ([UNKNOWN, 1], [None, "patient 1"])
    assert read_csv(path, "cat").positive == 0
    assert found.probabilities.tolist() == [[0.75, 0.25], [0.5, 0.5]]
    path.write_text("path,split,label,predicted,p_cat,p_dog\n")
    assert (len(read_csv(path)), read_csv(path).groups) == (0, None)
    path.write_text("path,split,label,predicted,p_cat\na,test,cat,cat,1\n")
    with pytest.raises(RunError, match="should read path,split,label,predicted,p_<class>"):
        read_csv(path)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"probabilities": np.array([[0.5005, 0.5]])}, True),  # bfloat16's rounding
        ({"probabilities": np.array([[0.502, 0.5]])}, False),
        ({"probabilities": np.array([[0.498, 0.5]])}, False),
        ({"probabilities": np.array([[0.0, 1.0]])}, True),
        ({"labels": np.array([UNKNOWN])}, True),
        ({"labels": np.array([-2])}, False),
        ({"labels": np.array([1])}, True),
        ({"groups": ("x",)}, True),
        ({"groups": ("x", "y")}, False),
        ({"labels": np.array([0, 1])}, False),
    ],
)
def test_what_may_be_predictions_is_a_matter_of_ranges(changes, accepted):
    if accepted:
        assert len(predictions(["a"], **changes)) == 1
    else:
        with pytest.raises(ValueError, match="must"):
            predictions(["a"], **changes)


@pytest.mark.parametrize("positive", [0, 1])
def test_confidence_is_the_positive_classs_probability_or_the_highest(positive):
    two = predictions(
        ["a", "b"], probabilities=np.array([[0.3, 0.7], [0.9, 0.1]]), positive_class=("cat", 'dog, "good"')[positive]
    )
    confidence, truth = two.labelled().confidences()
    assert confidence.tolist() == [[0.3, 0.9], [0.7, 0.1]][positive]
    assert truth.tolist() == [positive == 0, positive == 1]
    three = predictions(
        ["a", "b"], probabilities=np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]), class_names=("x", "y", "z"),
        positive_class="x", labels=np.array([1, 0]),
    )  # fmt: skip
    confidence, truth = three.labelled().confidences()
    assert (confidence.tolist(), truth.tolist()) == ([0.5, 0.8], [True, False])
