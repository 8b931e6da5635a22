"""A user's data files: what is read, and that what is wrong with one is said in one sentence."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from data_bytes import ROWS, TEXTS, WAVE, a_task_or_a_sentence, damaged, refused
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st

from anygate.lab.tasks import TaskError, file_task
from anygate.lab.tasks import reading as reading_module
from anygate.lab.tasks import tables as table_module
from anygate.lab.tasks.columns import choose
from anygate.lab.tasks.reading import label
from anygate.lab.tasks.tables import read_table


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all drawn examples of a test."""
    return tmp_path_factory.mktemp("scratch")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def column(path: Path, target: str | None) -> tuple[str, Any]:
    """The name and the numbers of the one target."""
    chosen = choose(read_table(path), [] if target is None else [target])
    return chosen.targets[0].name, chosen.targets[0].values


def csv_file(path: Path, rows: list[str], header: str = "date,price") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


# ---- CSV that is read -----------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_line_ends_and_a_byte_order_mark(
    separator: str, end: str, mark: str, tmp_path: Path
) -> None:
    lines = [separator.join(["day", ' "price" '.strip(), "note"])]
    lines += [separator.join([str(k), str(v), '"a, b; c"']) for k, v in enumerate(WAVE)]
    path = tmp_path / "my.csv"
    path.write_bytes((mark + end.join(lines) + end).encode())
    name, values = column(path, "price")
    assert name == "price" and values.tolist() == WAVE
    assert column(path, "day")[1].tolist() == list(range(60))


def test_one_column_needs_no_target(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "my.csv", [str(v) for v in WAVE], header="price")
    assert file_task(str(path)).name == "my-price"
    assert column(path, None)[1].tolist() == WAVE


def test_every_way_to_write_a_number(tmp_path: Path) -> None:
    cells = ["1", "-1", "+1", "1.", ".5", "1e3", "-1.5E-3", "  7 ", '"8"', "007", "1e-400"]
    path = csv_file(tmp_path / "my.csv", cells, header="v")
    wanted = [1, -1, 1, 1, 0.5, 1000, -0.0015, 7, 8, 7, 0]
    assert column(path, "v")[1].tolist() == wanted


def test_names_may_have_spaces_and_separators_and_blank_lines_may_end_a_file(
    tmp_path: Path,
) -> None:
    path = csv_file(
        tmp_path / "my.csv", [f"{v};1" for v in WAVE] + ["", "", ""], header='"price, EUR";b'
    )
    assert column(path, "price, EUR")[1].tolist() == WAVE
    path = csv_file(tmp_path / "my.csv", [f"{v}, 1" for v in WAVE], header=" price , b")
    assert column(path, "price")[0] == "price"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_that_python_writes_are_read_back(scratch: Path, values: list[float]) -> None:
    text = "v,w\n" + "".join(f"{v!r},0\n" for v in values)
    path = written(scratch / "my.csv", text.encode())
    assert column(path, "v")[1].tolist() == values


def test_the_window_is_the_users(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "my.csv", [f"{k},{v}" for k, v in enumerate(WAVE)])
    assert file_task(str(path), "price").steps == 24
    task = file_task(str(path), "price", 7)
    assert task.steps == 7 and task.load(0).train_x.shape == (43, 7, 2)
    assert task.data != file_task(str(path), "price").data


# ---- CSV that is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", "line 12, column 'price': the value is missing"),
        ("NA", "the value is missing"),
        ("NaN", "the value is missing"),
        ("-", "the value is missing"),
        ("inf", "'inf' is not finite"),
        ("-Infinity", "is not finite"),
        ("1e999", "'1e999' is too large"),
        ("cheap", "'cheap' is not a number"),
        ("$5", "is not a number"),
        ("1_000", "is not a number"),
        ("0x10", "is not a number"),
        ("٣", "is not a number"),
        ("１２", "is not a number"),
        ("1 000", "is not a number"),
        ("True", "is not a number"),
        ("x" * 500, r"'x{37}\.\.\.' is not a number"),
        ('"1,5"', "'1,5' has a comma; write a decimal point"),
        ('"1,234.5"', "has a comma"),
        ('"1.234,5"', "has a comma"),
        ("1,5", "line 12 has 3 cells, the first line has 2; if a comma stands for the decimal"),
        ('"', "cannot be read as CSV"),
        ('"a"b', "line 12 cannot be read as CSV"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(cell: str, said: str, tmp_path: Path) -> None:
    rows = list(ROWS)
    rows[10] = rows[10].split(",")[0] + "," + cell
    refused(csv_file(tmp_path / "my.csv", rows), said)


def test_several_bad_cells_are_counted(tmp_path: Path) -> None:
    rows = [r if k % 20 else r.split(",")[0] + ",?" for k, r in enumerate(ROWS)]
    refused(csv_file(tmp_path / "my.csv", rows), r"line 2, .*\(and 2 more missing values\)")


def test_decimal_commas_between_semicolons_are_named(tmp_path: Path) -> None:
    rows = [r.replace(",", ";").replace(".", ",") for r in ROWS]
    path = csv_file(tmp_path / "my.csv", rows, header="date;price")
    refused(path, "line 2, column 'price': '10,0' has a comma; write a decimal point")


@pytest.mark.parametrize(
    ("header", "target", "said"),
    [
        ("date,price", "Price", r"no column 'Price' \(did you mean 'price'\?\); it has 'date', '"),
        ("date,price", "prize", r"did you mean 'price'"),
        ("date,price", "volume", r"no column 'volume'; it has 'date', 'price'$"),
        ("date,price", None, r"say which column of .* to forecast: --target NAME. It has 'date'"),
        ("price,price", "price", "has 2 columns 'price'; rename one"),
        ("2024,10.0", "10.0", r"the first line must hold the names .* \('2024', '10.0'\)"),
        (",", "price", "no first line with the names"),
        ("date,price,", "price", "line 2 has 2 cells, the first line has 3"),
        ("price", "price", "line 2 has 2 cells, the first line has 1"),
    ],
)
def test_a_column_that_is_not_there(
    header: str, target: str | None, said: str, tmp_path: Path
) -> None:
    refused(csv_file(tmp_path / "my.csv", ROWS, header=header), said, target)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no rows"),
        (ROWS[:20], "has 20 values; windows of 24 need 44 or more$"),
        (ROWS[:30], "has 30 values; .*: set --window 10 or less"),
        ([r.split(",")[0] + ",5" for r in ROWS], "price of my.csv is constant"),
        (
            ROWS[:40] + [r.split(",")[0] + ",5" for r in ROWS[40:]],
            "the last fifth of price of my.csv is constant",
        ),
        ([f"2024-02-01,{k % 2 + k / 1e3}e308" for k in range(60)], "too large to be scaled"),
        ([*ROWS[:-1], "2024-02-01,1e300"], "too large to be scaled"),
        ([*ROWS[:5], "", *ROWS[5:]], "line 7 is blank"),
        ([*ROWS[:5], "2024-01-03", *ROWS[5:]], "line 7 has 1 cell, the first line has 2$"),
        (ROWS[::-1], r"not in the order of time \('2024-01-30 00:00' comes before '2024-01-29"),
    ],
)
def test_a_series_that_cannot_be_forecast(rows: list[str], said: str, tmp_path: Path) -> None:
    refused(csv_file(tmp_path / "my.csv", rows), said)


def test_one_column_in_the_order_of_time_is_enough(tmp_path: Path) -> None:
    rows = [f"{d},{r}" for d, r in zip([r.split(",")[0] for r in ROWS[::-1]], ROWS, strict=True)]
    path = csv_file(tmp_path / "my.csv", rows, header="due,date,price")
    assert column(path, "price")[1].tolist() == WAVE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "no first line"),
        (b"price\n\xe9t\xe9\n", "line 2: byte 0xe9 is not UTF-8 text; save the file as UTF-8"),
        ("price\n1\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (b"price\n1\0\n", "holds zero bytes"),
        (b"PK\x03\x04" + b"\0" * 99, "is a zip archive or spreadsheet, not text"),
        (gzip.compress(b"price\n1\n", mtime=0), "packed with gzip"),
        (b'price\n"' + b"x" * 200_000 + b'"\n', "cannot be read as CSV: field larger"),
    ],
)
def test_what_is_no_text(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_bytes(content)
    refused(path, said)


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "my.csv", "there is no file")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "is a folder")
    os.mkfifo(tmp_path / "pipe.csv")
    refused(tmp_path / "pipe.csv", "is not a regular file")
    refused("/dev/zero", "is not a regular file")
    with pytest.raises(TaskError, match="cannot be read"):
        file_task("a\0b.csv", "price")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    refused(tmp_path / "loop.csv", "cannot be read")
    refused(tmp_path / "my.xlsx", "are not read; export the data as CSV")
    refused(tmp_path / "my.txt", "--task chars:", target=None)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv_file(tmp_path / "my.csv", ROWS)

    def deny(self: Path, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", deny)
    refused(path, r"my\.csv cannot be read: Permission denied")


def test_what_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = csv_file(tmp_path / "my.csv", ROWS)
    monkeypatch.setattr(table_module, "MOST_ROWS", 10)
    refused(path, "holds more than 10 rows; at most that many are read")
    monkeypatch.setattr(table_module, "MOST_CELLS", 15)
    refused(path, "holds more than 15 cells; at most that many are read")
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(300 * 2**20)  # a file of holes, no disk
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
    refused(huge, "holds 300 MiB; at most 64 MiB are read")


def test_options_of_csv_files_are_refused_elsewhere(tmp_path: Path) -> None:
    refused(tmp_path / "my.npz", "--target belongs to tables .* says itself what its sequences")
    refused(tmp_path / "my.ts", "--target and --window belong to tables", window=3)
    path = csv_file(tmp_path / "my.csv", ROWS)
    with pytest.raises(TaskError, match="the window must be 1 or more"):
        file_task(str(path), "price", 0)


def test_names_of_tasks_are_safe_for_folders() -> None:
    assert label("my file (1)", "a/b: c%") == "my-file-1-a-b-c"
    assert label("..", "") == "data-data"
    assert len(label("x" * 500)) == 80
    assert label("Größe", "温度") == "Größe-温度"


# ---- whatever the bytes are -----------------------------------------------------------------

CSV = ("date,price\n" + "\n".join(ROWS) + "\n").encode()


@examples(300)
@given(st.one_of(damaged(CSV), st.binary(max_size=60), TEXTS.map(str.encode)))
@example(CSV)
@example(b"price\n" + b"1\n2\n" * 40)
def test_any_bytes_as_csv(scratch: Path, content: bytes) -> None:
    path = written(scratch / "my.csv", content)
    a_task_or_a_sentence(lambda: file_task(str(path), "price", 4))
    a_task_or_a_sentence(lambda: file_task(str(path), None, 4))


def test_the_reader_of_files_is_the_only_one() -> None:
    """No eval, no exec, no unpickling anywhere among the tasks."""
    folder = Path(reading_module.__file__).parent
    for path in folder.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        for word in ("eval(", "exec(", "import pickle", "allow_pickle=True", "np.load("):
            assert word not in source, f"{path.name}: {word}"
