"""What stands around the answer: samples, how to call the API, what the model knows and what it is not for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageOps

from vision.page.render import data_uri
from vision.tagging.predictor import TagPredictor

THUMBNAIL_PX = (168, 126)
NOT_FOR = (
    "recognising who a person is, or their age, sex, origin, mood or health",
    "medical, legal or safety decisions, or anything where a wrong tag harms someone",
    "moderating content on its own, without a person who checks",
    "things it never saw: a drawing, a screenshot, an unusual angle can get a wrong tag with a high score",
)


@dataclass(frozen=True)
class Sample:
    """A photo to try."""

    name: str
    path: Path
    credit: str = ""
    """Who took it, where its licence asks for a name."""


def samples(photos: Sequence[Sample]) -> str:
    """Return thumbnails to click; each carries its number in `data-index`."""
    buttons = []
    for index, photo in enumerate(photos):
        with Image.open(photo.path) as image:
            thumbnail = ImageOps.fit(image.convert("RGB"), THUMBNAIL_PX)
        picture = f'<img src="{data_uri(thumbnail)}" alt="{escape(photo.name)}">'
        buttons.append(f'<button type="button" data-index="{index}">{picture}</button>')
    names = ", ".join(escape(photo.credit) for photo in photos if photo.credit)
    by = f'<p class="p-credit">Photos: {names} (Flickr, CC BY 2.0)</p>' if names else ""
    return f'<div class="p-samples"><p>No photo at hand? Try one of these.</p><div>{"".join(buttons)}</div>{by}</div>'


def how_to_call() -> str:
    """Return the curl call to copy; the page's script puts its own address in."""
    command = 'curl -F image=@photo.jpg "<span class="p-origin">http://localhost:3000</span>/v1/tag"'
    answer = '{"model": …, "results": [{"tags": [{"label": …, "score": …, "parents": […]}], "width": …, "height": …}]}'
    return (
        '<div class="p-call"><p>The same answer for a program, from a shell:</p>'
        f'<div class="p-code"><pre tabindex="0"><code>{command}</code></pre>'
        '<button type="button" class="p-copy">Copy</button></div>'
        f"<p>It returns <code>{escape(answer)}</code>. All routes and fields: "
        '<a href="../docs">API docs</a>.</p></div>'
    )


def knows(predictor: TagPredictor) -> str:
    """Return all labels under their topmost parents, with a field to search them."""
    groups: dict[str, list[str]] = {}
    inner = {predictor.labels[index] for index in predictor.hierarchy.inner}
    for label, ancestors in zip(predictor.labels, predictor.hierarchy.ancestors, strict=True):
        tops = [name for name in ancestors if not predictor.hierarchy.parents.get(name)]
        for top in tops or ([label] if label in inner else [""]):
            groups.setdefault(top, [])
            if label != top:
                groups[top].append(label)
    parts = []
    for top in sorted(groups, key=lambda name: (not name, name.casefold())):
        items = "".join(f"<li>{escape(label)}</li>" for label in sorted(groups[top], key=str.casefold))
        title = escape(top) or ("others" if len(groups) > 1 else "")
        heading = f"<h3>{title} <span>{len(groups[top])}</span></h3>" if title else ""
        parts.append(f"<div>{heading}<ul>{items}</ul></div>")
    return (
        f'<div class="p-knows"><p>It gives these {len(predictor.labels):,} labels and no others. What is in the photo '
        'but not in this list goes unnamed.</p><label>Search the labels <input type="search" class="p-search" '
        'placeholder="for example: dog" autocomplete="off" spellcheck="false"></label>'
        '<p class="p-found" role="status"></p>'
        f'<div class="p-labels" tabindex="0">{"".join(parts)}</div></div>'
    )


def limits(predictor: TagPredictor) -> str:
    """Return what the tagger is not for, and what its makers say of its limits."""
    card = predictor.bundle.config.card
    own = card.get("limits")
    lines = [own] if isinstance(own, str) else own if isinstance(own, list) else []
    items = "".join(f"<li>{escape(str(line))}</li>" for line in (*NOT_FOR, *lines))
    return (
        f'<div class="p-limits"><p>It is not for</p><ul>{items}</ul><p>A score is a calibrated probability: of many '
        "tags shown with 80%, about 80% are right, on photos like those it was checked with. On other photos it may be "
        "less.</p><p>The heat map is made by occlusion: parts of the photo are blurred away one after the other, and "
        "where that costs the tag most, it glows. This works with every model here: it needs nothing but answers."
        "</p><p>Your photo is read on this server, kept there for a quarter of an hour so that this page can show "
        "it, and never used for training.</p></div>"
    )
