"""The tagger's page: drop a photo, read its tags, see where they come from. Built with Gradio.

No event uses Gradio's queue or its sessions: both live in one process, and a service has several. The state between
events travels in the page (`answer`). Nothing on the page contacts another host.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.media import MEDIA_ROOT

from shared.errors import InputError, NotFound, PerceptError, TooLarge
from shared.serving.page.kept_files import UPLOAD_KEEP_S, upload_folder
from shared.serving.page.tabs import Page, Part
from shared.serving.page.uploads import Uploads
from shared.serving.recording.notes import noting
from shared.serving.recording.thumbs import keep_opinion
from vision.api import tag_images
from vision.engine import TaggingEngine
from vision.heatmap import occlusion_map, overlay
from vision.images import decode_image
from vision.page import render
from vision.page.answer import Answer
from vision.page.render import WAITING, TagView, notice

_PAGE = Path(str(files("vision.page")))
SAMPLES = (
    render.Sample("A dahlia", _PAGE / "samples" / "dahlia.jpg", "dahlia by vultilion"),
    render.Sample("A lion", MEDIA_ROOT / "images" / "lion.jpg"),
    render.Sample("A pavilion", _PAGE / "samples" / "pagoda.jpg", "pavilion by danielbuechele"),
    render.Sample("A cheetah", MEDIA_ROOT / "images" / "cheetah1.jpg"),
)
"""Photos to try: our own, and some from Gradio's package, as long as it has them."""
MAX_MAPS = 8
"""Heat maps that may wait in one worker; further ones are refused for now."""
REPLACED = notice("I know other things now", "another model took my place since you chose this photo.")

_ANOTHER_NUMBER = "Please choose another number, or each tag's own threshold."

_log = logging.getLogger(__name__)
_ADDRESS_OF = "(photo) => photo?.path ?? ''"
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
# The map takes the photo's place until somebody wants the photo back.
_INTO_VIEW = """
watch('value', () => requestAnimationFrame(() => {
  const shown = element.querySelector('.p-heat, .p-notice');
  if (shown) shown.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}));
element.addEventListener('click', (event) => {
  if (event.target.closest('.p-back')) element.querySelector('.p-heat').remove();
});
"""
# Sends what a person says of the tags, and shows what comes back in its place.
_ON_OPINION = """
const tell = async (box, opinion) => {
  box.querySelectorAll('button, select').forEach((each) => { each.disabled = true; });
  const told = await server.judge({ request: box.dataset.request, item: Number(box.dataset.item), ...opinion })
    .catch(() => undefined);
  const said = document.createElement('span');
  said.setAttribute('role', 'status');
  box.replaceChildren(said);
  said.textContent = told?.said ?? 'I cannot be reached right now.';
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('.p-judge button');
  if (button) tell(button.closest('.p-judge'), { up: button.dataset.up === '1' });
});
element.addEventListener('change', (event) => {
  if (event.target.matches('.p-judge select') && event.target.value) {
    tell(event.target.closest('.p-judge'), { label: event.target.value });
  }
});
"""
# No input is read by Gradio: what a stranger sends in the place of one must not fail there.
_QUIET: dict[str, Any] = {
    "queue": False,
    "api_visibility": "private",
    "show_progress": "hidden",
    "preprocess": False,
}


class TaggerPage:
    """Answers the page's events; keeps nothing between them."""

    def __init__(self, engine: Callable[[], TaggingEngine], uploads: Uploads) -> None:
        self.engine = engine
        self.uploads = uploads
        self.samples = [sample for sample in SAMPLES if sample.path.is_file()]
        self._maps_in_hand = 0
        self._one_map = asyncio.Semaphore(1)  # a map costs as much as 65 photos: API calls must get their turn

    def fill(self) -> Sequence[Part]:
        """Draw everything below the heading, with its events, into the open blocks; return what the model decides."""
        answer = gr.Textbox(visible=False, elem_classes="kept-answer")
        address = gr.Textbox(visible=False, elem_id="photo-address")
        with gr.Row(elem_classes="p-columns"):
            with gr.Column(scale=6, min_width=320, elem_classes="p-pictures"):
                photo = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "webcam", "clipboard"],
                    label="Photo",
                    placeholder="# Drop a photo here\nor click to choose one",
                    height=380,
                    buttons=[],
                    elem_id="photo",
                    elem_classes="p-card",
                )
                heat = gr.HTML("", js_on_load=_INTO_VIEW, elem_id="heat")
                gr.HTML(render.samples(self.samples), elem_id="samples")
            with gr.Column(scale=5, min_width=320):
                tags = gr.HTML(WAITING, js_on_load=_ON_PRESS, elem_id="tags")
                opinion = gr.HTML(
                    "", js_on_load=_ON_OPINION, server_functions=self.server_functions(), elem_id="opinion"
                )
                with gr.Group(elem_classes=["p-thresholds", "p-card"]):
                    use_own = gr.Checkbox(True, label="Each tag's own threshold, fitted on validation photos")
                    threshold = gr.Slider(1, 99, value=50, step=1, label="Or one threshold for all tags, in percent")
        with gr.Accordion("Call it from your program", open=False):
            gr.HTML(render.how_to_call())
        with gr.Accordion("What it knows", open=False):
            knows = Part(lambda: render.knows(self.engine().predictor))
        with gr.Accordion("What it is not for", open=False):
            limits = Part(lambda: render.limits(self.engine().predictor))

        photo.change(None, photo, address, js=_ADDRESS_OF, **_QUIET)
        address.change(self.look, [address, use_own, threshold], [answer, tags, heat, opinion], **_QUIET)
        use_own.input(self.filter, [answer, use_own, threshold], tags, **_QUIET)
        threshold.input(
            self.filter_by_slider, [answer, threshold], [use_own, tags], **_QUIET, trigger_mode="always_last"
        )
        tags.select(self.explain, [address, answer], heat, **{**_QUIET, "show_progress": "full"})
        return [knows, limits]

    async def tag(self, photo: str) -> dict[str, Any]:
        """Tag a photo, `gradio_client.handle_file("photo.jpg")`; returns what POST /v1/tag returns for one."""
        [found] = (await tag_images(self.engine(), [self._read(photo)])).results
        return found.model_dump()

    def server_functions(self) -> list[Callable[..., Any]]:
        """Return the functions that the page calls, each with one JSON value, which may be anything."""

        async def judge(sent: Any) -> dict[str, str]:
            return {"said": await keep_opinion(sent)}

        return [judge]

    async def look(self, photo: object, use_own: object, threshold: object) -> tuple[str, str, str, str]:
        """Return answer, tags, an empty heat map and thumbs for a dropped photo, or what is wrong with it.

        Thumbs are there where the answer was recorded.
        """
        if not photo:
            return "", WAITING, "", ""
        try:
            engine = self.engine()
            min_score = _min_score(use_own, threshold)
        except InputError as error:
            return "", notice("This threshold cannot be used", str(error), _ANOTHER_NUMBER), "", ""
        try:
            seen = await engine.look_at(self._read(photo))
        except PerceptError as error:
            return "", _explain(error), "", ""
        view = TagView(engine.predictor)
        scores = engine.predictor.scores(seen.logits)
        answer = Answer.of(
            scores,
            engine.predictor.given(seen.outputs, scores),
            size=(seen.width, seen.height),
            decode_ms=seen.timings.decode_s * 1000,
            model_ms=seen.timings.infer_s * 1000,
            version=engine.version,
            is_foreign=engine.predictor.is_foreign(seen.outputs),
        )
        notes = noting()
        judge = view.judge(notes.request_id) if notes is not None and 0 in notes.kept_items else ""
        return answer.to_json(), view.result(answer, min_score), "", judge

    def filter(self, kept: object, use_own: object, threshold: object) -> str:
        """Return the tags at another threshold; the model does not run."""
        engine = self.engine()
        answer = _kept(kept, engine)
        if answer is None:
            return REPLACED if kept else WAITING
        try:
            return TagView(engine.predictor).result(answer, _min_score(use_own, threshold))
        except InputError as error:
            return notice("This threshold cannot be used", str(error), _ANOTHER_NUMBER)

    def filter_by_slider(self, kept: object, threshold: object) -> tuple[bool, str]:
        """Return that the labels' own thresholds are off, and the tags at the slider's threshold."""
        return False, self.filter(kept, False, threshold)

    async def explain(self, photo: object, kept: object, event: gr.EventData) -> str:
        """Return the heat map of the tag whose button was pressed."""
        engine = self.engine()
        answer = _kept(kept, engine)
        index = getattr(event, "index", None)
        if photo and kept and answer is None:
            return REPLACED
        if not photo or answer is None or not isinstance(index, int) or index not in answer.scores:
            return ""
        if self._maps_in_hand >= MAX_MAPS:
            return notice("Many heat maps are being made right now", "please press the tag again in a moment.")
        self._maps_in_hand += 1
        try:
            async with self._one_map:
                return await asyncio.to_thread(_heat, engine, self._read(photo), index, answer.scores[index])
        except PerceptError as error:
            return _explain(error)
        finally:
            self._maps_in_hand -= 1

    def _read(self, address: object) -> bytes:
        """Return the bytes of an upload.

        Raises:
            InputError: it is none, or it is no longer here.
        """
        try:
            path = self.uploads.find(address)
            os.utime(path)  # its time starts again
            return path.read_bytes()
        except (NotFound, OSError) as error:
            raise InputError(
                f"it is no longer here: photos are kept for {UPLOAD_KEEP_S // 60} minutes only."
            ) from error


def page(engine: Callable[[], TaggingEngine]) -> Page:
    """Return the page of a service's tagger; `engine` gives the one that answers now."""

    def summary() -> str:
        text = engine().bundle.config.card.get("summary")
        return text if isinstance(text, str) else ""

    shown = TaggerPage(engine, Uploads(upload_folder().path))
    return Page(
        tab="Photos",
        title="What is in this photo?",
        summary=summary,
        models=lambda: [(engine().name, engine().version)],
        fill=shown.fill,
        calls=[shown.tag],
        max_file_bytes=engine().settings.max_body_bytes,
        css=(_PAGE / "page.css").read_text("utf-8"),
        french=json.loads((_PAGE / "french.json").read_text("utf-8")),
        js=(_PAGE / "page.js").read_text("utf-8"),
        sample_files=[sample.path for sample in SAMPLES],
    )


def _kept(text: object, engine: TaggingEngine) -> Answer | None:
    return Answer.from_json(text, len(engine.labels), engine.version)


def _heat(engine: TaggingEngine, data: bytes, index: int, score: float) -> str:
    preprocessor = engine.predictor.preprocessor
    settings = engine.settings
    image = decode_image(
        data,
        target_size_px=preprocessor.resize_px,
        max_pixels=settings.max_pixels,
        formats=settings.image_formats,
        hold=engine.hold,
    ).pixels
    heat = occlusion_map(engine.predictor, image, index)
    picture = overlay(image, heat, preprocessor)
    return TagView(engine.predictor).heat(picture, index, score, float(heat.max()))


def _min_score(use_own: object, threshold: object) -> float | None:
    """Return the score that a tag needs; None for each label's own.

    Raises:
        InputError: the threshold is none.
    """
    if use_own is True:
        return None
    if not isinstance(threshold, int | float) or not 1 <= threshold <= 99:
        came = (
            f"{threshold:g}" if isinstance(threshold, int | float) else "none"
        )  # text of a stranger's is not repeated
        raise InputError(f"it must be a number from 1 to 99, in percent; came {came}.")
    return threshold / 100


def _explain(error: PerceptError) -> str:
    _log.info("the page could not use a photo: %s", type(error).__name__)
    if isinstance(error, TooLarge):
        return notice("This photo is too large", str(error))
    if isinstance(error, InputError):
        return notice("I cannot read this photo", str(error))
    return notice("I cannot answer right now", "please try again in a moment.")
