from __future__ import annotations

import pytest

from labtool.dataset import parsers
from labtool.errors import DataError


def write(tmp_path, text):
    file = tmp_path / "kafka-throughput.py"
    file.write_text(text)
    return file


def test_a_parser_is_called_with_the_raw_folder_and_the_run(tmp_path):
    file = write(
        tmp_path,
        "def parse(raw, run): return {'workload_summary': [{'client': run['name'], 'role': raw.name}]}\n"
        "def parse_logs(logs): return {'service_metrics': [{'host': logs.name}]}\n",
    )
    assert parsers.workload(file, tmp_path / "raw", {"name": "r"}) == {
        "workload_summary": [{"client": "r", "role": "raw"}]
    }
    assert parsers.stack(file, tmp_path / "logs") == {"service_metrics": [{"host": "logs"}]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def parse(raw, run):\n    return {}['x']\n", "line 2: parse failed: KeyError: 'x'"),
        ("def parse(raw, run): return [1]", "returned list, expected a dict"),
        ("def parse(raw, run): return {'host_metrics': []}", "made table 'host_metrics'"),
        ("parse = 3", "has no function parse"),
        ("def parse(:", "cannot be loaded: SyntaxError"),
    ],
)
def test_a_parser_that_fails_is_named(tmp_path, text, told):
    with pytest.raises(DataError) as caught:
        parsers.workload(write(tmp_path, text), tmp_path, {})
    assert told in caught.value.message
    assert "kafka-throughput.py" in caught.value.message


def test_a_parser_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        parsers.stack(tmp_path / "none.py", tmp_path)
