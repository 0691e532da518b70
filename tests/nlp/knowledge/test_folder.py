from __future__ import annotations

from pathlib import Path

from nlp.knowledge.folder import documents_in


def test_ids_are_sorted_paths_with_slashes_and_other_files_are_passed_over(tmp_path: Path):
    for name in (
        "b.md",
        "a/c.TXT",
        "a/.hidden.md",
        ".git/x.md",
        "a/photo.png",
        "z.html",
        "z.htm",
        "d.markdown",
        "e.pdf",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("words")
    (tmp_path / "folder.md").mkdir()
    found = [name for name, _ in documents_in(tmp_path)]
    assert found == ["b.md", "d.markdown", "e.pdf", "z.htm", "z.html", "a/c.TXT"]


def test_links_that_leave_the_folder_or_lead_nowhere_are_not_followed(tmp_path: Path):
    folder, outside = tmp_path / "docs", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    (folder / "own.md").write_text("own")
    (folder / "inside.md").symlink_to(folder / "own.md")
    (folder / "secret.md").symlink_to(outside / "secret.md")
    (folder / "secrets").symlink_to(outside)
    (folder / "nowhere.md").symlink_to(tmp_path / "gone.md")
    (folder / "circle.md").symlink_to(folder / "circle.md")
    assert [name for name, _ in documents_in(folder)] == ["inside.md", "own.md"]
