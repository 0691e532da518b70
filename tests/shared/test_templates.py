"""Templates escape HTML, and never print nothing for a value that is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import pytest

from shared.templates import templates


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> jinja2.Environment:
    folder = tmp_path / "letters_of_a_test"
    (folder / "templates").mkdir(parents=True)
    (folder / "__init__.py").touch()
    for name in ("letter.html", "letter.md"):
        (folder / "templates" / name).write_text("{% if name %}\n  Dear {{ name | loud }},\n{% endif %}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    return templates(folder.name, loud=str.upper)


def test_values_are_escaped_in_html_and_only_there(environment: jinja2.Environment):
    assert environment.get_template("letter.html").render(name="<ada>") == "  Dear &lt;ADA&gt;,\n"
    assert environment.get_template("letter.md").render(name="<ada>") == "  Dear <ADA>,\n"


def test_missing_value_is_an_error(environment: jinja2.Environment):
    with pytest.raises(jinja2.UndefinedError, match="name"):
        environment.get_template("letter.md").render()
