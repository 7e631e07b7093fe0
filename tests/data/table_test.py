"""Tables of float features: csv and npz files and arrays in memory, and what is refused."""

import warnings

import numpy as np
import pytest
from small_data import load, refused

from kdjax.data.arrays import arrays
from kdjax.types import ConfigError

CSV = """width,name,label,height
1.5,x,cat,-2
2,x,dog,3e1
0.25,x,cat,0
4,x,ant,1
"""
PLAIN = CSV.replace(",name", "").replace(",x", "")
ROWS = np.float32([[1.5, -2], [2, 30], [0.25, 0], [4, 1]])


@pytest.fixture
def write(tmp_path):
  def csv(text, name="t.csv"):
    (tmp_path / name).write_text(text)
    return f"csv:{tmp_path}/{name}"

  return csv


def test_a_csv_file_is_features_and_sorted_classes(write):
  source = load(write(PLAIN), (0, 0, 0), 0, holdout=1)
  rows = np.concatenate([source.train.array, source.test.array])
  labels = np.concatenate([source.train.labels, source.test.labels])
  assert source.train.array.dtype == np.float32 and source.train.shape == (2,)
  assert source.classes == 3 and source.train.labels.dtype == np.int64
  found = {tuple(row): label for row, label in zip(rows.tolist(), labels.tolist(), strict=True)}
  assert found == dict(zip(map(tuple, ROWS.tolist()), [1, 2, 1, 0], strict=True))


def test_spaces_around_cells_are_no_part_of_them(write):
  """A label with a space behind it was a class of its own."""
  text = "x, split , label\n1, train, a\n 2 ,test ,b \n3,train,a \n4, train,  b\n"
  for option in ("", "?label=label"):
    source = load(write(text) + option, (1,), 2)
    np.testing.assert_array_equal(source.train.array, [[1], [3], [4]])
    assert source.train.labels.tolist() == [0, 0, 1] and source.test.labels.tolist() == [1]
  with refused("line 2, column 'label' is ' ': every row needs its label"):
    load(write("x,label\n1, \n2,b\n3,a\n"), (1,), 2, holdout=1)


def test_a_column_without_a_name_is_no_feature(write):
  """pandas writes row numbers there; in a table sorted by label they tell the label."""
  with refused(r"column 1 of .*t.csv has no name: .* leave it out, in pandas by to_csv"):
    load(write(",x,label\n0,5,a\n1,6,a\n2,5,b\n"), (0, 0, 0), 0, holdout=1)


def test_a_column_splits_a_table(write):
  text = "split,a,b\ntrain,1,10\ntest,2,9\ntrain,3,9\n"
  source = load(write(text), (1,), 2)  # the last column is the label; 9 < 10 as numbers
  np.testing.assert_array_equal(source.train.array, [[1], [3]])
  np.testing.assert_array_equal(source.train.labels, [1, 0])
  np.testing.assert_array_equal(source.test.array, [[2]])
  np.testing.assert_array_equal(source.test.labels, [0])
  by_a = load(write(text) + "?label=a", (0, 0, 0), 0)
  np.testing.assert_array_equal(by_a.train.array, [[10], [9]])
  assert by_a.classes == 3 and by_a.train.labels.tolist() == [0, 2]


def test_quotes_and_a_byte_order_mark_are_read(tmp_path):
  text = '\ufeff"a, b",label\n"1",x\n2,"y, z"\n'
  (tmp_path / "t.csv").write_text(text, encoding="utf-8")
  source = load(f"csv:{tmp_path}/t.csv", (1,), 2, holdout=1)
  assert sorted([*source.train.array[:, 0], *source.test.array[:, 0]]) == [1, 2]


@pytest.mark.parametrize(
  "text, match",
  [
    (CSV, "t.csv is no table of numbers under a header: line 2, column 'name' is 'x', no"),
    (PLAIN.replace("30", "").replace("3e1", ""), "is no table of numbers"),
    (PLAIN.replace("3e1", "3_1"), "line 3, column 'height' is '3_1', no number"),
    (PLAIN.replace("3e1", "nan"), "line 3, column 'height' is 'nan', no finite number"),
    (PLAIN.replace("3e1", "1e60"), "line 3, column 'height' is '1e60', no finite number"),
    (PLAIN.replace("dog", ""), "line 3, column 'label' is '': every row needs its label"),
    (PLAIN + "1,cat\n", "is no table of numbers under a header: line 6 has 2 cells, .* line 3"),
    (PLAIN + "1,cat,2,3\n", "is no table of numbers .*: line 6 has 4 cells, the first line 3"),
    ("1,2\n3,4\n", r"t.csv seems to lack a header, .* \['1', '2'\]: add a line above it that"),
    ("5.1,3,cat\n4,3,ant\n4,4,ant\n", r"lack a header, .* \['5.1', '3', 'cat'\]: add a line"),
    ("1,1,cat\n4,3,ant\n4,4,ant\n", "lack a header"),
    ("a,a,label\n1,2,0\n", "each once"),
    ("label\n1\n", "features and a label"),
    ("", "t.csv must name the columns, each once: features and a label, not be empty"),
    ("a,label\n", "holds no train row"),
    ("a,label\n\n\n", "holds no train row"),
    ("a,label,split\n1,0,test\n1,0,valid\n", "line 3, column 'split' is 'valid': must say train"),
    ("a,y\n1,2\n2,0.37\n3,1\n", "line 3, column 'y' is '0.37': labels are whole numbers, of"),
    ("a,y\n1,nan\n2,0\n3,1\n", "line 2, column 'y' is 'nan': labels are whole numbers"),
    ("a,y\n1,0\n2,9007199254740992\n3,9007199254740993\n", "line 3, .* of 15 digits at most, or"),
    ("a,y\n1,7\n2,7\n", "all labels are '7': there must be two classes .*another column than 'y'"),
  ],
)
def test_broken_tables_are_refused(write, text, match):
  with warnings.catch_warnings(), refused(match):
    warnings.simplefilter("error")  # NumPy's own would say less
    load(write(text), (0, 0, 0), 0, holdout=1)


@pytest.mark.parametrize(
  "text, said",
  [
    ('"a",label\n1,"x\ny"\n\n2,y\n?,y\n', r"line 6, column 'a' is '\?', no number"),
    ('"a",label\n\n1,"x\n\ny"\ninf,y\n', "line 6, column 'a' is 'inf', no finite number"),
    ("a,label\r\n\r\n1,x\r\n2,\r\n", "line 4, column 'label' is ''"),
    ("a,split,label\n\n1,train,x\n2,tset,y\n", "line 4, column 'split' is 'tset'"),
  ],
)
def test_a_row_is_named_by_its_line_as_an_editor_counts_them(write, text, said):
  """Empty lines are no rows, and a quoted cell may go over several."""
  with refused(said):
    load(write(text), (0, 0, 0), 0, holdout=1)


def test_a_file_in_another_encoding_is_named(tmp_path):
  (tmp_path / "t.csv").write_bytes("a,label\n1,caf\u00e9\n".encode("latin-1"))
  with refused("t.csv is no table in UTF-8: 'utf-8' codec can't decode byte 0xe9"):
    load(f"csv:{tmp_path}/t.csv", (0, 0, 0), 0, holdout=1)


@pytest.mark.parametrize(
  "text, option", [("0,1,label\n1,2,b\n3,4,a\n", ""), ("0,1,kind\n1,2,b\n3,4,a\n", "?label=kind")]
)
def test_numbers_are_names_where_the_label_has_one(write, text, option):
  source = load(write(text) + option, (2,), 2, holdout=1)
  assert sorted([*source.train.array[0], *source.test.array[0]]) == [1, 2, 3, 4]


def test_whole_numbers_may_be_written_with_a_point(write):
  source = load(write("a,y,split\n1,2.0,train\n2,10.0,train\n3,2,test\n"), (1,), 2)
  assert source.train.labels.tolist() == [0, 1] and source.test.labels.tolist() == [0]


def test_a_table_is_what_the_config_expects(write):
  name = write(PLAIN)
  with refused(r"source_info.image = \(3,\): the train rows of .* are \(2,\)"):
    load(name, (3,), 3, holdout=1)
  with refused("source_info.classes = 4: .* has 3 classes"):
    load(name, (2,), 4, holdout=1)
  with refused("has no column 'split' of train and test; holdout=n"):
    load(name, (2,), 3)
  with refused(r"has no column 'size', only \['width', 'label', 'height'\]"):
    load(name + "?label=size", (2,), 3)
  with refused("source_info.resize = True"):
    load(name, (2,), 3, resize=True)
  with refused("there is no file 'nowhere.csv'"):
    load("csv:nowhere.csv", (2,), 3)


def test_npz_holds_features_too(tmp_path):
  x, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])
  np.savez(tmp_path / "t.npz", train_features=x, train_labels=y, test_features=x, test_labels=y)
  source = load(f"npz:{tmp_path}/t.npz", (0, 0, 0), 0)
  assert source.train.array.dtype == np.float32 and source.classes == 2
  np.testing.assert_array_equal(source.train.array, x)
  np.savez(tmp_path / "t.npz", train_features=x[..., None], train_labels=y)
  with refused(r"train_features must be \[N, F\] of features"):
    load(f"npz:{tmp_path}/t.npz", (0, 0, 0), 0, holdout=1)


# Arrays in memory

IMAGES = np.zeros((3, 4, 5), np.uint8)
LABELS = np.array([0, 2, 1])


def test_images_with_channels_first_are_warned_of_and_one_class_refused():
  images = np.zeros((4, 3, 12, 12), np.uint8)
  with pytest.warns(UserWarning, match=r"12 channels.*transpose\(0, 2, 3, 1\)"):
    arrays(train=(images, np.array([0, 1, 0, 1])))
  arrays(train=(images.transpose(0, 2, 3, 1), np.array([0, 1, 0, 1])))  # without a word
  with refused("all labels are 0"):
    arrays(train=(images[:, 0], np.zeros(4, int)))


def test_arrays_in_memory_are_a_source():
  source = arrays(train=(IMAGES, LABELS), test=(IMAGES[:1], [2]))
  assert source.train.shape == (4, 5, 1) and source.classes == 3 and source.name == "arrays"
  table = arrays(train=(ROWS.astype(np.float64).tolist(), [0, 1, 1, 0]), name="mine")
  assert table.train.array.dtype == np.float32 and table.test is table.train
  np.testing.assert_array_equal(table.train.array, ROWS)


@pytest.mark.parametrize(
  "train, test, words",
  [
    ([1, 2, 2, 1], None, "no training example is of class 0; labels count from 0, here to 2"),
    ([0, 1, 1, 0], [0, 2, 1, 2], "is of class 2, tested all the same: 2; labels count from 0"),
    ([1, 1, 3, 4], [2, 1, 1, 1], "is of class 0, 2, tested all the same: 2; .* here to 4"),
    ([0, 9, 0, 9], None, "is of class 1, 2, 3, 4, 5 and 3 more; .* here to 9"),
  ],
)
def test_classes_without_a_training_example_are_warned_of(train, test, words):
  with pytest.warns(UserWarning, match=words) as said:
    source = arrays(train=(ROWS, train), test=None if test is None else (ROWS, test))
  assert said[0].filename == __file__  # the user's own line
  assert source.classes == max([*train, *(test or [])]) + 1


@pytest.mark.parametrize(
  "train, match",
  [
    ((IMAGES / 255, LABELS), "train images must be uint8, not float64"),
    ((IMAGES, LABELS[:2]), "has 3 train images but 2 labels"),
    ((IMAGES, LABELS * 1.0), "train labels must be whole numbers, one an image"),
    ((IMAGES, LABELS - 1), "train labels must be 0 to 1, not -1 to 1"),
    ((ROWS + np.inf, [0, 1, 1, 0]), "train row 0, feature 0 is inf"),
    ((ROWS, [[0]] * 4), r"one a row, not int64\[4, 1\]"),
    ((ROWS[:0], []), "holds no train row"),
    ((ROWS[:, 0], [0, 1, 1, 0]), r"images \[N, h, w, c\] or features \[N, F\]"),
    ((np.array([["a"]]), [0]), "train rows must be float32, not <U1"),
    (ROWS, r"a pair \(examples, labels\)"),
  ],
)
def test_arrays_that_are_no_examples_are_refused(train, match):
  with refused(match):
    arrays(train=train)


def test_a_test_set_of_another_shape_is_refused():
  with pytest.raises(ConfigError, match=r"the test rows are \(1,\), those of train \(2,\)"):
    arrays(train=(ROWS, [0, 1, 1, 0]), test=(ROWS[:, :1], [0, 1, 1, 0]))
