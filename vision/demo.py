"""The tagger's page: drop a photo, read its tags, see where they come from. Gradio puts it together.

No event uses Gradio's queue or its sessions: both live in one process, and a service has several. What an event must
know of an earlier one travels in the page (`answer`). Nothing on the page asks another host.

Neighbours: `vision.page` makes the HTML, `vision.heatmap` the map; `vision.service` mounts what `mount_page` returns.
"""

from __future__ import annotations

import logging
import time
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, cast

import gradio as gr
from fastapi import FastAPI
from gradio.media import get_image

from shared.errors import InputError, PerceptError, TooLarge
from vision.heatmap import occlusion_map, overlay
from vision.images import DecodedImage, decode_image
from vision.page import texts
from vision.page.answer import Answer
from vision.page.guard import PageGuard
from vision.page.render import WAITING, TagView, notice
from vision.tagging.predictor import TagPredictor

SAMPLES = (("A lion", "lion.jpg"), ("A cheetah", "cheetah1.jpg"), ("The Eiffel Tower", "tower.jpg"))
"""Name and file of photos that lie in Gradio's own package."""
TITLE = "Percept: what is in this photo?"
MAX_UPLOAD = "20mb"
KEEP_S = 3600
"""Photos that the page shows lie in a temporary folder for so long."""

_PAGE = files("vision.page")
_log = logging.getLogger(__name__)
# Sends the number of the button that was pressed; marks it as pressed, for eyes and screen readers.
_ON_PRESS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (!button) return;
  element.querySelectorAll('[aria-pressed=true]').forEach((other) => other.setAttribute('aria-pressed', 'false'));
  if (button.hasAttribute('aria-pressed')) button.setAttribute('aria-pressed', 'true');
  trigger('select', { index: Number(button.dataset.index) });
});
"""
_INTO_VIEW = """
watch('value', () => requestAnimationFrame(() => {
  const shown = element.querySelector('.p-heat');
  if (shown) shown.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}));
"""
_QUIET: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}


class Engine(Protocol):
    """What the page needs of the service."""

    predictor: TagPredictor


class TaggerPage:
    """What happens on the page's events; no Gradio and no state in here."""

    def __init__(self, predictor: TagPredictor) -> None:
        self.predictor = predictor
        self.view = TagView(predictor)
        self.samples = [Path(get_image(name)) for _, name in SAMPLES]

    def look(self, photo: dict[str, Any] | None, use_own: bool, threshold: float) -> tuple[str, str, str]:
        """Return answer, tags and an empty heat map for a photo that was dropped, or what is wrong with it."""
        if not photo:
            return "", WAITING, ""
        started = time.perf_counter()
        try:
            decoded = self._decode(photo)
            read = time.perf_counter()
            logits = self.predictor.infer([self.predictor.preprocess(decoded.pixels)])[0]
        except PerceptError as error:
            return "", _explain(error), ""
        answer = Answer.of(
            self.predictor.scores(logits),
            self.view.thresholds,
            size=(decoded.width, decoded.height),
            decode_ms=(read - started) * 1000,
            model_ms=(time.perf_counter() - read) * 1000,
        )
        return answer.to_json(), self.view.result(answer, _min_score(use_own, threshold)), ""

    def filter(self, kept: str, use_own: bool, threshold: float) -> str:
        """Return the tags at another threshold; the model does not run."""
        answer = Answer.from_json(kept, len(self.view.labels))
        return self.view.result(answer, _min_score(use_own, threshold)) if answer else WAITING

    def filter_by_slider(self, kept: str, threshold: float) -> tuple[bool, str]:
        """Return that the labels' own thresholds are off, and the tags at the slider's."""
        return False, self.filter(kept, False, threshold)

    def explain(self, photo: dict[str, Any] | None, kept: str, event: gr.EventData) -> str:
        """Return the heat map of the tag whose button was pressed."""
        answer = Answer.from_json(kept, len(self.view.labels))
        index = getattr(event, "index", None)
        if not photo or answer is None or index not in answer.scores:
            return ""
        try:
            image = self._decode(photo).pixels
            heat = occlusion_map(self.predictor, image, index)
        except PerceptError as error:
            return _explain(error)
        picture = overlay(image, heat, self.predictor.preprocessor)
        return self.view.heat(picture, index, answer.scores[index], float(heat.max()))

    def sample(self, event: gr.EventData) -> str | None:
        """Return the path of the sample whose thumbnail was pressed."""
        index = getattr(event, "index", None)
        return str(self.samples[index]) if isinstance(index, int) and 0 <= index < len(self.samples) else None

    def _decode(self, photo: dict[str, Any]) -> DecodedImage:
        try:
            data = Path(str(photo.get("path"))).read_bytes()
        except OSError as error:
            raise InputError("the photo is no longer here: it is kept for an hour only.") from error
        return decode_image(data, target_size_px=self.predictor.preprocessor.resize_px)


def build_demo(engine: Engine) -> gr.Blocks:
    """Return the page of a service's tagger."""
    predictor = engine.predictor
    page = TaggerPage(predictor)
    with gr.Blocks(
        title="Percept: what is in this photo?", analytics_enabled=False, delete_cache=(600, KEEP_S)
    ) as demo:
        gr.HTML(texts.header(predictor), js_on_load=_PAGE.joinpath("page.js").read_text("utf-8"))
        answer = gr.Textbox(visible=False)
        with gr.Row(elem_classes="p-columns"):
            with gr.Column(scale=6, min_width=320):
                photo = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "webcam", "clipboard"],
                    label="Your photo",
                    height=380,
                    buttons=[],
                    elem_id="photo",
                )
                samples = gr.HTML(
                    texts.samples([(name, path) for (name, _), path in zip(SAMPLES, page.samples, strict=True)]),
                    js_on_load=_ON_PRESS,
                    elem_id="samples",
                )
                heat = gr.HTML("", js_on_load=_INTO_VIEW, elem_id="heat")
            with gr.Column(scale=5, min_width=320):
                tags = gr.HTML(WAITING, js_on_load=_ON_PRESS, elem_id="tags")
                with gr.Group(elem_classes="p-thresholds"):
                    use_own = gr.Checkbox(True, label="Each tag's own threshold, fitted on validation photos")
                    threshold = gr.Slider(1, 99, value=50, step=1, label="Or every tag from this score on, in percent")
        with gr.Accordion("Call it from your program", open=False):
            gr.HTML(texts.how_to_call())
        with gr.Accordion("What it knows", open=False):
            gr.HTML(texts.knows(predictor))
        with gr.Accordion("What it is not for", open=False):
            gr.HTML(texts.limits(predictor))

        photo.change(page.look, [photo, use_own, threshold], [answer, tags, heat], **_QUIET, preprocess=False)
        samples.select(page.sample, None, photo, **_QUIET)
        use_own.input(page.filter, [answer, use_own, threshold], tags, **_QUIET)
        threshold.input(
            page.filter_by_slider, [answer, threshold], [use_own, tags], **_QUIET, trigger_mode="always_last"
        )
        tags.select(page.explain, [photo, answer], heat, **{**_QUIET, "show_progress": "full"}, preprocess=False)
    return cast(gr.Blocks, demo)


def mount_page(engine: Engine, path: str = "/ui") -> FastAPI:
    """Return an application with the page at `path`, its own look, and nothing of Gradio but what the page needs."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    demo = build_demo(engine)
    gr.mount_gradio_app(
        app,
        demo,
        path=path,
        root_path=path,  # or Gradio 6 forgets it in the addresses of files that an unqueued event returns
        allowed_paths=[get_image(name) for _, name in SAMPLES],
        max_file_size=MAX_UPLOAD,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=_theme(),
        css=_PAGE.joinpath("page.css").read_text("utf-8"),
    )
    demo.has_launched = True  # or Gradio 6 takes any path of this machine for an upload
    app.add_middleware(PageGuard, path=path)
    return app


def _theme() -> gr.themes.Base:
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]  # no GoogleFont: it would be fetched from outside
    return gr.themes.Base(
        primary_hue="teal", neutral_hue="zinc", radius_size="lg", font=fonts, font_mono=["ui-monospace", "monospace"]
    )


def _min_score(use_own: bool, threshold: float) -> float | None:
    return None if use_own else float(threshold) / 100


def _explain(error: PerceptError) -> str:
    _log.info("the page could not use a photo: %s", type(error).__name__)
    if isinstance(error, TooLarge):
        return notice("This photo is too large", str(error))
    if isinstance(error, InputError):
        return notice("I cannot read this photo", str(error))
    return notice("I cannot answer right now", "please try again in a moment.")
