import datetime as dt
import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.sandbox.guest.contract import Folders, Refusal
from consumers.sandbox.guest.run_code import MAX_CHART_ROWS, CodeError, run_chart, run_query

SALES = pa.table(
    {
        "region": ["North", "South", "North", None],
        "units": pa.array([3, None, 5, 2], pa.int64()),
        "price": [1.5, 2.0, 2.5, 4.0],
        "paid": pa.array([True, None, False, True]),
        "day": pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2), None, dt.date(2024, 2, 1)]),
    }
)


@pytest.fixture
def folders(tmp_path):
    for name in ("inputs", "output"):
        (tmp_path / name).mkdir()
    return Folders(tmp_path / "inputs", tmp_path / "output")


def arguments(code, folders, *, show_values=True, **tables):
    entries = []
    for index, (name, table) in enumerate((tables or {"sales": SALES}).items()):
        pq.write_table(table, folders.inputs / f"{index}.parquet")
        entries.append({"name": name, "file": f"{index}.parquet"})
    return {"code": code, "tables": entries, "show_values": show_values}


def query(code, folders, **tables):
    report = run_query(arguments(code, folders, **tables), folders)
    return report, pq.read_table(folders.output / "result.parquet")


def chart(code, folders, **tables):
    report = run_chart(arguments(code, folders, **tables), folders)
    return report, json.loads((folders.output / "chart.vl.json").read_text())


def problem(code, folders, run=query, **tables):
    with pytest.raises(CodeError) as caught:
        run(code, folders, **tables)
    return str(caught.value)


def test_columns_arrive_with_the_kinds_that_they_have(folders):
    _, kinds = query("result = df.dtypes.astype(str)", folders)

    assert kinds.to_pylist() == [
        {"index": "region", "result": "str"},
        {"index": "units", "result": "Int64"},
        {"index": "price", "result": "float64"},
        {"index": "paid", "result": "boolean"},
        {"index": "day", "result": "datetime64[ms]"},
    ]


def test_df_is_there_only_when_there_is_one_table(folders):
    words = problem("result = df", folders, orders=SALES, customers=SALES)

    assert "NameError" in words
    assert "Take them from `tables`: 'orders', 'customers'" in words


def test_a_grouped_series_keeps_its_index_as_a_column(folders):
    report, table = query("result = df.groupby('region')['units'].sum()", folders)

    assert table.to_pylist() == [{"region": "North", "units": 8}, {"region": "South", "units": 0}]
    assert (report["kind"], report["rows"], report["columns"]) == ("table", 2, 2)
    assert report["preview"] == {"columns": ["region", "units"], "rows": [["North", "8"], ["South", "0"]]}


def test_an_index_that_only_says_which_rows_were_kept_is_dropped(folders):
    _, table = query("result = df.sort_values('price', ascending=False).head(2)[['price']]", folders)

    assert table.to_pydict() == {"price": [4.0, 2.5]}


def test_a_series_keeps_numbers_that_label_its_values(folders):
    _, table = query("result = pd.Series({2023: 10, 2024: 12})", folders)

    assert table.to_pydict() == {"index": [2023, 2024], "result": [10, 12]}


def test_a_pivot_is_flattened_and_its_rows_keep_their_labels(folders):
    _, table = query(
        "result = df.pivot_table(index='region', columns=df['day'].dt.to_period('M'), values=['price', 'units'])",
        folders,
    )

    assert table.column_names == ["region", "price 2024-01", "units 2024-01"]


def test_repeated_and_nameless_columns_get_names_of_their_own(folders):
    _, table = query("result = pd.DataFrame([[1, 2, 3, 4]], columns=['a', 'a', None, 7])", folders)

    assert table.column_names == ["a", "a (2)", "column 3", "7"]


def test_an_index_named_like_a_column_does_not_hide_it(folders):
    _, table = query("result = df.set_index(df['region'])[['region', 'price']].head(1)", folders)

    assert table.to_pydict() == {"region": ["North"], "region (2)": ["North"], "price": [1.5]}


def test_rows_with_repeated_labels_stay_as_they_are(folders):
    _, table = query("result = pd.concat([df, df]).set_index('region')[['price']]", folders)

    assert table.num_rows == 8
    assert table.column_names == ["region", "price"]


@pytest.mark.parametrize(
    ("made", "written"),
    [
        ("pd.Series(['b', 'a']).astype('category')", ["b", "a"]),
        ("pd.period_range('2024-01', periods=2, freq='M').to_series(index=[0, 1])", ["2024-01", "2024-02"]),
        ("pd.cut(pd.Series([1, 9]), [0, 5, 10])", ["(0, 5]", "(5, 10]"]),
        ("pd.Series(pd.to_timedelta(['1h', '2D']))", ["0 days 01:00:00", "2 days 00:00:00"]),
        ("pd.Series([1, 'one', None], dtype=object)", ["1", "one", None]),
        ("pd.Series([[1, 2], [3]])", ["[1, 2]", "[3]"]),
        ("pd.Series([b'caf\\xc3\\xa9', b'x'], dtype=object)", ["café", "x"]),
        ("pd.Series([2**70, 1], dtype=object)", [str(2**70), "1"]),
        ("pd.Series(['a\\ud800', 'b'], dtype=object)", ["a?", "b"]),
        ("pd.Series([1j, 2])", ["1j", "(2+0j)"]),
        ("pd.Series([None, None], dtype=object)", [None, None]),
        ("pd.Series(pd.to_datetime(['2024-01-01 12:00'], utc=True)).dt.tz_convert('Europe/Paris')",
         [dt.datetime.fromisoformat("2024-01-01T13:00")]),
        ("pd.Series([1.5, 2], dtype='float16')", [1.5, 2.0]),
        ("pd.Series([1, None], dtype='Int64')", [1, None]),
    ],
)  # fmt: skip
def test_every_kind_of_column_becomes_one_that_files_can_hold(folders, made, written):
    _, table = query(f"result = pd.DataFrame({{'x': {made}}})", folders)

    assert table["x"].to_pylist() == written


def test_a_column_that_had_to_become_text_is_told(folders):
    report, _ = query("result = pd.DataFrame({'x': [1, 'one']})", folders)

    assert report["notes"] == ["Column 'x' was written as text: its values are of several kinds."]


@pytest.mark.parametrize(
    ("assigned", "value", "answer"),
    [
        ("df['price'].sum()", 10.0, "10"),
        ("df['units'].max()", 5, "5"),
        ("'North'", "North", "North"),
        ("True", True, "True"),
        ("__import__('decimal').Decimal('1.20')", decimal.Decimal("1.20"), "1.20"),
        ("df['day'].max()", dt.datetime.fromisoformat("2024-02-01"), "2024-02-01"),
        ("np.float32(0.1)", pytest.approx(0.1), "0.1"),
    ],
)
def test_a_scalar_is_a_table_of_one_cell_and_an_answer(folders, assigned, value, answer):
    report, table = query(f"result = {assigned}", folders)

    assert table.to_pylist() == [{"result": value}]
    assert report["kind"] == "scalar"
    assert report["answer"] == answer


def test_the_answer_in_words_is_kept_and_bounded(folders):
    report, _ = query("result = df\nanswer = 'x' * 10_000", folders)

    assert report["answer"] == "x" * 4_000


def test_a_computed_answer_is_kept(folders):
    report, _ = query("result = df\nanswer = f'{len(df)} rows'", folders)

    assert report["answer"] == "4 rows"


def test_an_answer_written_before_the_data_was_seen_is_left_out(folders):
    report, _ = query("result = df['price'].sum()\nanswer = 'The total is $456.23.'", folders)

    assert report["answer"] == "10"


def test_an_answer_that_is_no_text_is_left_out(folders):
    report, _ = query("result = df\nanswer = df", folders)

    assert report["answer"] is None


def test_the_preview_is_bounded(folders):
    report, _ = query("result = pd.DataFrame({f'c{i}': ['y' * 500] * 300 for i in range(40)})", folders)

    preview = report["preview"]
    assert (len(preview["columns"]), len(preview["rows"]), len(preview["rows"][0])) == (20, 20, 20)
    assert preview["rows"][0][0] == "y" * 79 + "…"


@pytest.mark.parametrize(
    ("assigned", "kind"),
    [("{'a': 1}", "a dict"), ("[1]", "a list"), ("None", "None"), ("len", "a builtin_function_or_method"),
     ("df.groupby('region')", "a DataFrameGroupBy"), ("df.columns", "a Index"), ("df.to_numpy()", "a ndarray")],
)  # fmt: skip
def test_a_result_of_another_kind_is_told_in_words(folders, assigned, kind):
    words = problem(f"result = {assigned}", folders)

    assert words == f"Assign a DataFrame, Series or scalar to `result`; you assigned {kind}."


def tables_of(code, folders):
    report = run_query(arguments(code, folders), folders)
    return [(each["name"], pq.read_table(folders.output / each["file"]).to_pydict()) for each in report["tables"]]


def test_one_table_is_the_usual_answer(folders):
    report, _ = query("result = df[['price']]", folders)

    assert report["tables"] == [{"name": "Result", "file": "result.parquet", "rows": 4, "columns": 1}]


def test_a_dict_is_several_tables_with_names(folders):
    tables = tables_of("result = {name: part[['units']] for name, part in df.groupby('region')}", folders)

    assert tables == [("North", {"units": [3, 5]}), ("South", {"units": [None]})]
    assert sorted(path.name for path in folders.output.iterdir()) == ["result-1.parquet", "result-2.parquet"]


def test_a_list_is_several_tables_by_number_and_an_empty_one_stays(folders):
    tables = tables_of("result = [df[['units']].head(1), df[['price']].head(0), pd.DataFrame(), df['price']]", folders)

    assert [name for name, _ in tables] == ["Table 1", "Table 2", "Table 4"]
    assert tables[1] == ("Table 2", {"price": []})


def test_odd_names_of_tables_become_texts_of_their_own(folders):
    tables = tables_of("result = {1: df, '1': df, ('a', 2): df, '': df, None: df, 'x' * 500: df}", folders)

    assert [name for name, _ in tables] == ["1", "1 (2)", "a 2", "Table 4", "Table 5", "x" * 100]


def test_several_tables_without_a_row_are_no_result(folders):
    with pytest.raises(Refusal) as refusal:
        query("result = [df.head(0), df.head(0)]", folders)

    assert refusal.value.code == "result_empty"


def test_more_tables_than_anybody_reads_are_told_in_words(folders):
    assert "holds 21 tables; at most 20 are allowed" in problem("result = [df] * 21", folders)


def test_something_else_among_tables_is_told_in_words(folders):
    words = problem("result = {'rows': df, 'secret': 5}", folders)

    assert words == (
        "Every table in `result` must be a DataFrame or a Series; 1 of 2 are none, the first of them a int."
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "The code ran, but it did not assign `result`. Assign a DataFrame, Series or scalar to `result`."),
        ("exit(3)", "The code ended itself with exit(). Run to the last line instead."),
    ],
)
def test_a_missing_result_is_told_in_words(folders, code, words):
    assert problem(code, folders) == words


@pytest.mark.parametrize("assigned", ["df[df['price'] > 99]", "df[[]]", "float('nan')", "df['price'].head(0).max()"])
def test_an_empty_result_is_refused(folders, assigned):
    with pytest.raises(Refusal) as caught:
        query(f"result = {assigned}", folders)

    assert caught.value.code == "result_empty"


def test_a_traceback_shows_only_the_lines_of_the_answer(folders):
    words = problem("def total(name):\n    return df[name].sum()\n\nresult = total('Revenue')", folders)

    assert words.startswith("Traceback (most recent call last):\n")
    assert words.count("File ") == words.count('File "answer.py"') == 2
    assert "    return df[name].sum()" in words
    assert "KeyError: 'Revenue'" in words
    assert words.endswith("'sales' has the columns 'region', 'units', 'price', 'paid', 'day'.")


def test_a_column_of_another_table_is_said_to_be_there(folders):
    names = pa.table({"region": ["North"], "head": ["Ada"]})
    words = problem("result = tables['sales'].groupby('head')['price'].sum()", folders, sales=SALES, heads=names)

    assert "'head' is a column of 'heads': merge the tables first." in words


def test_a_syntax_error_shows_its_line(folders):
    words = problem("result = df[", folders)

    assert 'File "answer.py", line 1' in words
    assert "SyntaxError" in words


def test_an_interrupt_raised_by_the_code_is_an_error_like_any_other(folders):
    assert "KeyboardInterrupt" in problem("raise KeyboardInterrupt", folders)


def test_a_file_that_the_code_looks_for_is_in_tables(folders):
    words = problem("result = pd.read_csv('sales.csv')", folders)

    assert words.endswith("There are no files. The data is in `tables`: 'sales'.")


def test_code_that_may_not_start_a_process_is_told_what_works(folders):
    words = problem("raise PermissionError(1, 'Operation not permitted')", folders)

    assert words.endswith("no subprocess and no pool of processes. Threads work.")


def test_a_long_error_keeps_its_end(folders):
    words = problem("raise ValueError('x' * 50_000 + ' the end')", folders)

    assert len(words) <= 2_001
    assert words.endswith("the end")


CANARY = "Margaret Hamilton"
PEOPLE = pa.table({"name": [CANARY, "x"], "n": [1, 2]})

QUOTING_A_CELL = [
    "df['name'].astype(float)",
    "pd.to_datetime(df['name'])",
    "df[df['name'][0]]",
    "df[['n', df['name'][0]]]",
    "df[[df['name'][0]]]",
    "df.groupby('name').agg({df['name'][0]: 'sum'})",
    "df.groupby('n')[df['name'][0]].sum()",
    "df.set_index('name').loc[df['name'][0] + '?']",
    "{}[df['name'][0], 1]",
    "getattr(df, df['name'][0])",
    "getattr(df['name'][0], df['name'][0])",
    "pd.DataFrame({'a': df['name']}).merge(df, left_on='a', right_on='n', validate=df['name'][0])",
    "df.merge(df, on=df['name'][0])",
    "df.query(df['name'][0])",
    "eval(df['name'][0])",
    "__import__(df['name'][0])",
    "open(df['name'][0])",
    "exit(df['name'][0])",
    "{df['name'][0]: 1}['n']['x']; raise NameError(df['name'][0])",
    "1; raise NameError(f\"name '{df['name'][0]}' is not defined\")",
    "1; raise SyntaxError(df['name'][0])",
    "1; raise AttributeError(df['name'][0])",
    "1; raise SystemError(df.to_string())",
    "1; assert df.empty, df.to_string()",
    "1; raise type(df['name'][0], (Exception,), {})",
    "1; raise type('Wrong', (KeyError,), {'__str__': lambda self: df['name'][0]})('name')",
    "1; raise ExceptionGroup(df['name'][0], [ValueError(df['name'][0])])",
    "1; error = ValueError(); error.add_note(df['name'][0]); raise error",
    "1\ntry:\n    raise ValueError(df['name'][0])\nexcept ValueError as error:\n    raise KeyError('n') from error",
    "df.iloc[0]; df.columns = [df['name'][0], 'b']; df['n']",
    "df.iloc[0]; tables[df['name'][0]] = df; df['zip']",
    "type(df['name'][0], (), {})()",
]  # fmt: skip


@pytest.mark.parametrize("assigned", QUOTING_A_CELL)
def test_no_cell_is_quoted_when_values_are_not_shown(folders, assigned):
    words = problem(f"result = {assigned}", folders, show_values=False, people=PEOPLE)

    assert "Margaret" not in words
    assert "Hamilton" not in words


def test_no_cell_is_quoted_from_a_chart_when_values_are_not_shown(folders):
    code = "chart = alt.Chart(df).mark_bar().encode(x=alt.value(df['name'][0]))"

    assert "Margaret" in problem(code, folders, run=chart, people=PEOPLE)
    assert problem(code, folders, run=chart, show_values=False, people=PEOPLE) == (
        "The chart is not valid: SchemaValidationError"
    )


def test_a_cell_is_quoted_when_values_are_shown(folders):
    words = problem("result = df['name'].astype(float)", folders, people=PEOPLE)

    assert words.endswith("ValueError: could not convert string to float: 'Margaret Hamilton'")


@pytest.mark.parametrize(
    "code",
    [
        "result = total",
        "result = df[",
        "import nothing",
        "result = df['Revenue']",
        "result = df[['region', 'Revenue']]",
        "result = df[['Revenue', 'Cost']]",
        "result = df.groupby('region')['Revenue'].sum()",
        "result = df.groupby('region')[['Revenue', 'Cost']].sum()",
        "result = df.groupby('region').agg({'Revenue': 'sum'})",
        "result = df.drop(columns=['Revenue'])",
        "result = df['region'].revenue",
        "result = df['region'][0].revenue",
        "result = pd.read_it()",
        "result = df['region'].dt.year",
        "result = df['units'].str.upper()",
        "result = df['region'] - df['price']",
        "result = df['region'].mean()",
        "result = 1 + 'one'",
        "result = len(1)",
        "result = df()",
        "result = df.head(rows=1)",
        "if df:\n    result = 1",
        "result = df.iloc[99]",
        "result = df.merge(pd.DataFrame({'region': [1]}), on='region')",
        "result = df.merge(pd.DataFrame({'other': [1]}))",
        "def total():\n    x = units\n    units = 1\nresult = total()",
        "exit(3)",
    ],
)
def test_what_speaks_of_code_and_columns_alone_is_told_in_full(folders, code):
    discreet = problem(code, folders, show_values=False)

    assert discreet == problem(code, folders).replace("pandas.errors.", "")


def test_memory_that_runs_out_is_left_to_the_sandbox(folders):
    with pytest.raises(MemoryError):
        query("raise MemoryError", folders)


def test_chance_is_the_same_in_every_run(folders):
    code = "import random\nresult = pd.DataFrame({'a': [random.random()], 'b': [np.random.rand()]})"
    first, second = query(code, folders)[1], query(code, folders)[1]

    assert first.equals(second)


def test_the_code_runs_as_a_main_program(folders):
    _, table = query("if __name__ == '__main__':\n    result = 1", folders)

    assert table.to_pylist() == [{"result": 1}]


def test_a_chart_carries_its_data(folders):
    report, drawn = chart("chart = alt.Chart(df).mark_bar().encode(x='region', y='sum(price)')", folders)

    assert drawn["mark"] == {"type": "bar"}
    assert [row["price"] for rows in drawn["datasets"].values() for row in rows] == [1.5, 2.0, 2.5, 4.0]
    assert (report["kind"], report["rows"], report["columns"]) == ("chart", 4, 5)


def test_layers_are_charts_too(folders):
    _, drawn = chart(
        "base = alt.Chart(df).encode(x='region', y='price')\nchart = base.mark_bar() + base.mark_text()", folders
    )

    assert len(drawn["layer"]) == 2


def test_more_rows_than_altair_allows_can_be_drawn(folders):
    many = pa.table({"x": np.arange(MAX_CHART_ROWS)})
    report, _ = chart("chart = alt.Chart(df).mark_point().encode(x='x')", folders, many=many)

    assert report["rows"] == MAX_CHART_ROWS


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "The code ran, but it did not assign `chart`. Assign an Altair chart to `chart`."),
        ("chart = df", "Assign an Altair chart to `chart`; you assigned a DataFrame."),
        (
            f"chart = alt.Chart(pd.DataFrame({{'x': range({MAX_CHART_ROWS + 1})}})).mark_bar().encode(x='x')",
            "The chart draws 20,001 rows; at most 20,000 are allowed. Aggregate the data first.",
        ),
        (
            "chart = alt.Chart('http://example.org/a.csv').mark_bar().encode(x='x:Q')",
            "The chart reads its data from a URL. Draw it from a DataFrame instead.",
        ),
    ],
)
def test_a_wrong_chart_is_told_in_words(folders, code, words):
    assert problem(code, folders, run=chart) == words


def test_a_chart_that_altair_rejects_is_told_in_its_words(folders):
    words = problem("chart = alt.Chart(df).mark_bar().encode(x='nothing')", folders, run=chart)

    assert words.startswith("The chart is not valid: ValueError")
    assert "nothing" in words


def test_a_chart_of_nothing_is_refused(folders):
    with pytest.raises(Refusal) as caught:
        chart("chart = alt.Chart(df.head(0)).mark_bar().encode(x='region:N')", folders)

    assert caught.value.code == "result_empty"


def test_numbers_of_a_chart_are_finite(folders):
    _, drawn = chart("chart = alt.Chart(pd.DataFrame({'x': [1.0, float('nan')]})).mark_point().encode(x='x')", folders)

    assert [row["x"] for rows in drawn["datasets"].values() for row in rows] == [1.0, None]


def test_two_tables_are_found_by_their_names(folders):
    left = pa.table({"id": ["01", "02"], "n": [1, 2]})
    right = pa.table({"id": ["01", "02"], "name": ["a", "b"]})
    _, table = query(
        "result = tables['a.csv'].merge(tables['b.xlsx/S'], on='id')[['name', 'n']]",
        folders,
        **{"a.csv": left, "b.xlsx/S": right},
    )

    assert table.to_pylist() == [{"name": "a", "n": 1}, {"name": "b", "n": 2}]
