import pytest

from consumers.prompts import MAX_ERROR_CHARS, empty_words, error_words, extract_code, first_messages, reads_as_refusal
from events.keys import Flow


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nresult = 1\n```", "result = 1"),
        ("```py\nresult = 1\n```", "result = 1"),
        ("```Python3 title=x\nresult = 1\n```", "result = 1"),
        ("```\nresult = 1\n```", "result = 1"),
        ("~~~python\nresult = 1\n~~~", "result = 1"),
        ("Sure! Here it is:\n\n```python\nresult = 1\n```\nThis counts.", "result = 1"),
        ("```python\r\nresult = 1\r\n```\r\n", "result = 1"),
        ("1. Do this:\n   ```python\n   x = 1\n   result = x\n   ```", "x = 1\nresult = x"),
        ("```python\nresult = 1", "result = 1"),
        ("````python\ntext = '''\n```\n'''\nresult = 1\n````", "text = '''\n```\n'''\nresult = 1"),
        ("result = df['a'].sum()", "result = df['a'].sum()"),
        ("<think>\n```python\nresult = 'draft'\n```\n</think>\n```python\nresult = 1\n```", "result = 1"),
    ],
)
def test_code_is_found_however_it_is_wrapped(reply, code):
    assert extract_code(reply, Flow.QUERY) == code


def test_a_program_told_in_steps_is_one_program():
    reply = (
        "First:\n```python\nx = 1\n```\nThen:\n```python\nresult = x\n```\nOutput:\n```\nregion  total\nNorth   3\n```"
    )

    assert extract_code(reply, Flow.QUERY) == "x = 1\nresult = x"


def test_blocks_of_other_languages_are_not_code():
    reply = '```json\n{"a": 1}\n```\n```python\nresult = 1\n```\n```text\nx = 2\n```'

    assert extract_code(reply, Flow.QUERY) == "result = 1"


def test_code_that_does_not_parse_is_kept_so_that_its_error_can_be_told():
    assert extract_code("```python\nresult = (\n```\n```python\n(\n```", Flow.QUERY) == "result = ("


@pytest.mark.parametrize("reply", ["", "The total is 3.", "x = 1", "```json\n{}\n```", "```python\n\n```", "chart = 1"])
def test_what_is_no_code_is_none(reply):
    assert extract_code(reply, Flow.QUERY) is None


def test_a_bare_reply_is_code_when_it_assigns_what_the_flow_wants():
    assert extract_code("chart = alt.Chart(df)", Flow.VISUALIZATION) == "chart = alt.Chart(df)"


def test_a_name_with_quotes_cannot_break_out_of_the_opening():
    prompt = first_messages("x", Flow.QUERY, "p", ["a'\n```.csv"])[1].content

    assert prompt.endswith('```python\ndf = tables["a\'\\n```.csv"]\n```')


def test_every_table_is_taken_by_its_name():
    prompt = first_messages("x", Flow.QUERY, "p", ["a.csv", "b.xlsx/S"])[1].content

    assert "df1 = tables['a.csv']\ndf2 = tables['b.xlsx/S']\n" in prompt


def test_the_end_of_a_long_error_is_kept():
    words = error_words("x" * 9_000 + "KeyError: 'a'")

    assert words.endswith("KeyError: 'a'")
    assert len(words) == MAX_ERROR_CHARS + 1


@pytest.mark.parametrize("reply", ["I'm sorry, but I can't do that.", "Sorry. I am not able to help.", "We cannot."])
def test_a_refusal_is_recognised(reply):
    assert reads_as_refusal(reply)


@pytest.mark.parametrize("reply", ["", "The total is 3.", "You can't sum text.", "x" * 300 + " I cannot"])
def test_other_talk_is_no_refusal(reply):
    assert not reads_as_refusal(reply)


@pytest.mark.parametrize(
    ("code", "date", "truth"),
    [
        ("df[df['date'] == '2024-03']", True, False),
        ("df[df['paid'] == 'True']", False, True),
        ("df[df['a'] > 9]", False, False),
    ],
)
def test_an_empty_result_is_told_with_the_reason_that_the_code_shows(code, date, truth):
    words = empty_words(code)

    assert ("A date equals" in words, "without quotes" in words) == (date, truth)
