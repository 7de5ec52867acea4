"""Templates: placeholders and their encodings, follow-ups, variants, and what is wrong with one."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

lines = load("playbooks/workloads/files/trace_lines.py", "trace_lines")
template = load("playbooks/workloads/files/trace_template.py", "trace_template")

LAYOUT = lines.Layout("\t", 4, ("time", "user", "kind", "path"), 0, "s")
FIELD = st.text(st.characters(exclude_characters="\t\n\r", codec="utf-8"))
ROW = ("5", "ann", "b", "/x?y=1")


def render(request, cells=ROW, number=1, **more):
    return template.compiled({"requests": request, **more}, LAYOUT).render(number, cells)


def test_without_a_template_a_line_is_a_get():
    one = template.of(None, LAYOUT).render(1, ROW)
    assert (one.name, one.method, one.path, one.body, one.follow) == ("GET /", "GET", "/", b"", None)


def test_a_request_and_its_update(tmp_path):
    file = tmp_path / "decision.json"
    follow = {"after_s": 2, "name": "update", "path": "/decide.php", "form": {"method": "update"}}
    form = {"payload": "{2-}", "method": "request"}
    one = {"path": "/decide.php", "form": form, "headers": {"X-User": "{user}"}, "follow": follow}
    file.write_text(json.dumps({"requests": {"request": one}}))
    made = template.of(file, LAYOUT).render(1, ROW)
    assert (made.name, made.method, made.path) == ("request", "POST", "/decide.php")
    assert dict(parse_qsl(made.body.decode())) == {"payload": "ann\tb\t/x?y=1", "method": "request"}
    assert made.headers == (("X-User", "ann"), ("Content-Type", "application/x-www-form-urlencoded"))
    assert (made.follow.name, made.follow.after_s, made.follow.body) == ("update", 2.0, b"method=update")


@given(FIELD)
def test_a_field_comes_back_out_of_each_place(field):
    cells = ("5", field, "k", "p")
    made = render({"a": {"path": "/{user}/z?q={2}", "form": {"a&b": "{user}"}}}, cells)
    assert made.path.isascii() and " " not in made.path
    assert unquote(made.path.partition("/z?")[0]) == "/" + field
    assert parse_qs(urlsplit(made.path).query, keep_blank_values=True) == {"q": [field]}
    assert parse_qs(made.body.decode(), keep_blank_values=True) == {"a&b": [field]}
    value = {"u{{": ["{user}", 1, {"{1}": None}]}
    assert json.loads(render({"a": {"json": value}}, cells).body) == {"u{": [field, 1, {"5": None}]}
    header = dict(render({"a": {"headers": {"X": "{user}"}}}, cells).headers)["X"]
    assert header.isascii() and header.isprintable()
    assert render({"a": {"body": "<{user}>"}}, cells).body.decode() == f"<{field}>"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("/a/b?x=1&y=%20", "/a/b?x=1&y=%20"),
        ("a b", "/a%20b"),
        ("http://other.example/é", "/%C3%A9"),
        ("https://other.example", "/"),
        ("/r\u2028\x01", "/r%E2%80%A8%01"),
    ],
)
def test_a_whole_path_from_a_field(field, path):
    assert render({"a": {"path": "{path:raw}"}}, ("5", "u", "k", field)).path == path


def test_braces_and_ranges():
    assert render({"a": {"body": "{{{2-3}}} {{}}"}}).body == b"{ann\tb} {}"


def test_a_column_chooses_the_variant():
    variants = {"b": {"path": "/b"}, "c": {"path": "/c"}}
    made = template.compiled({"requests": variants, "choose": {"column": "kind"}}, LAYOUT)
    assert made.render(1, ROW).path == "/b" and made.fault(ROW) == ""
    assert made.fault(("5", "u", "d", "p")) == "'d' is none of the template's b, c"


@pytest.mark.parametrize("by", ["line", "user"])
def test_a_hash_chooses_the_variant(by):
    variants = {name: {"path": f"/{name}"} for name in "ab"}

    def chosen(seed):
        made = template.compiled({"requests": variants, "choose": {"split": by, "seed": seed}}, LAYOUT)
        return "".join(made.render(n, ("5", f"user-{n % 50}", "k", "p")).name for n in range(1, 1001))

    assert chosen(1) == chosen(1) != chosen(2)
    assert 300 < chosen(1).count("a") < 700
    assert (chosen(1)[:50] * 20 == chosen(1)) == (by == "user")


def test_messages():
    given = {"messages": {"view": {"key": "{user}", "json": {"kind": "{kind}"}}}}
    made = template.compiled(given, LAYOUT, "messages").render(1, ROW)
    assert (made.name, made.key, made.value) == ("view", b"ann", b'{"kind": "b"}')
    assert template.of(None, LAYOUT, "messages").render(1, ROW).value == "\t".join(ROW).encode()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "a template: expected an object"),
        ({}, "requests: expected an object with one or more"),
        ({"requests": {"a": {}, "b": {}}}, "choose: with several of them"),
        ({"requests": {"a": {"url": "/"}}}, "requests.a: 'url' is no key here; there are body, follow"),
        ({"requests": {"a": {"path": "x"}}}, "requests.a.path: it begins with /"),
        ({"requests": {"a": {"path": "/{nobody}"}}}, "requests.a.path: there is no column 'nobody'"),
        ({"requests": {"a": {"path": "/{5}"}}}, "requests.a.path: there is no column '5'"),
        ({"requests": {"a": {"path": "/{3-9}"}}}, "columns 1 to 4"),
        ({"requests": {"a": {"path": "/{"}}}, "a single { stands at character 2"),
        ({"requests": {"a": {"body": "{user:raw}"}}}, "':raw'|'raw'"),
        ({"requests": {"a": {"body": "x", "json": 1}}}, "a request has one body"),
        ({"requests": {"a": {"method": "GET /"}}}, "requests.a.method"),
        ({"requests": {"a": {"headers": {"Content-Length": "1"}}}}, "is set by what sends the request"),
        ({"requests": {"a": {"follow": {"after_s": -1}}}}, "requests.a.follow.after_s: expected seconds"),
        ({"requests": {"a": {}}, "choose": {"column": "x"}}, "choose.column: there is no column 'x'"),
        ({"requests": {"a": {}}, "choose": {"column": "user", "split": "line"}}, "either `column` or `split`"),
    ],
)
def test_what_is_wrong_is_named(given, told):
    with pytest.raises(lines.TraceError, match=told):
        template.compiled(given, LAYOUT)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(lines.TraceError, match="cannot be read: No such file"):
        template.of(tmp_path / "none.json", LAYOUT)
    (tmp_path / "cut.json").write_text('{"requests": ')
    with pytest.raises(lines.TraceError, match=r"cut\.json is no JSON"):
        template.of(tmp_path / "cut.json", LAYOUT)
