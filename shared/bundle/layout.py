"""The bundle's files and what config.json says: the one contract between training and serving.

Names follow Hugging Face, so that language bundles load with `AutoModelFor…`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION = 2
"""What is written. 1, which is still read, lacks `features` of taggers, the golden outputs of the file that ships,
splits.npz, reference.npz and `languages`."""

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GOLDEN = "golden.npz"
RECIPE = "recipe.yaml"
"""The settings of the training, for the next one; older bundles lack it."""
CARD = "README.md"
REQUIRED = (CONFIG, GOLDEN, CARD)
"""Files without which no bundle is read; ONNX or WEIGHTS is needed by the runtime that is chosen."""

ProblemType = Literal["single_label_classification", "multi_label_classification"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSignature(_Part):
    """One input or output of the network."""

    name: str
    dtype: str
    """numpy's name: float32, int64."""
    shape: tuple[int | str, ...]
    """A string names a dimension that varies, such as "batch"."""


class Signature(_Part):
    """What the network takes and gives."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]


class TagDecision(_Part):
    """How a tagger's logits become tags. As for every task: all values were fitted on validation data, none has a
    default, and `task` is not stored, because config.json has it already."""

    task: Literal["tagging"] = Field(default="tagging", exclude=True)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    """Logits are divided by it before sigmoid or softmax."""
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """Label -> least score at which the label is given. Every label has one."""
    abstain_below: float | None = Field(default=None, ge=-1, le=1)
    """Least cosine between a photo's features and the nearest label's centre, in centres.npz, at which it gets tags: a
    photo unlike all that were learned gets none. None where every photo may: several labels a photo, format 1."""
    acceptance: float | None = Field(default=None, gt=0, le=1)
    """Share of the validation photos that `abstain_below` lets pass."""


class IntentDecision(_Part):
    """How an utterance's logits become an intent, or none."""

    task: Literal["intent"] = Field(default="intent", exclude=True)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    """Logits are divided by it before softmax."""
    detector: str
    """What finds utterances that belong to no intent, such as "energy"; a higher value means none."""
    detector_temperature: float = Field(gt=0, allow_inf_nan=False)
    detector_shift: float = Field(allow_inf_nan=False)
    """out_of_scope_score = sigmoid((value of the detector + shift) / temperature)."""
    abstain_below: float = Field(ge=0, le=1)
    """Least in-scope score, 1 - out_of_scope_score, at which an intent is named."""
    acceptance: float = Field(gt=0, le=1)
    """Share of the in-scope validation utterances that `abstain_below` lets pass."""
    knows_wordless: bool = False
    """Whether an utterance that was trained is nothing but punctuation or one letter, such as "?" for help; all such
    are out of scope otherwise."""
    languages: tuple[str, ...] = ()
    """Languages that it knows: an utterance that is clearly in another one is out of scope. Empty where none is."""


class AnswerDecision(_Part):
    """How start and end logits become an answer, or none."""

    task: Literal["qa"] = Field(default="qa", exclude=True)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    shift: float = Field(allow_inf_nan=False)
    """score = sigmoid((margin + shift) / temperature); margin: best span's logits less those of no answer."""
    abstain_below: float = Field(ge=0, le=1)
    """Least score at which an answer is given."""
    max_answer_tokens: int = Field(ge=1)
    """Longer spans are no candidates."""


class EmbeddingDecision(_Part):
    """Nothing is decided: the embedding is the answer."""

    task: Literal["embedding"] = Field(default="embedding", exclude=True)


class WriterDecision(_Part):
    """How long a sentence may become, and how sure the writer must be; its words must pass the rules besides."""

    task: Literal["answer-writer"] = Field(default="answer-writer", exclude=True)
    max_tokens: int = Field(ge=1, le=512)
    least_confidence: float = Field(default=0.0, ge=0, le=1)
    """Mean probability of its words (geometric), below which the answer is quoted."""


Decision = Annotated[
    TagDecision | IntentDecision | AnswerDecision | EmbeddingDecision | WriterDecision, Field(discriminator="task")
]


class Artifact(_Part):
    """One file of the bundle with its SHA-256."""

    sha256: str
    bytes: int


class OnnxExport(_Part):
    """How model.onnx was made and how near it is to the trained network."""

    precision: Literal["fp32", "fp16_weights", "int8"]
    """fp16_weights: stored in half the space, computed in fp32."""
    opset: int
    max_abs_difference: float = Field(ge=0, allow_inf_nan=False)
    """Largest difference of an output between torch fp32 and this file on the golden inputs."""
    tolerance: float = Field(ge=0, allow_inf_nan=False)
    """Largest difference allowed between this file and torch fp32 on the golden inputs; what a bundle of format 1 is
    checked by as a service starts. Of format 2 this file's own outputs are, and more tightly."""
    int8_gate: dict[str, float | str | bool] | None = None
    """What the int8 quality gate measured and decided; None where it was not tried."""

    def summary(self, size_bytes: int) -> str:
        """Return precision, size and parity in one line for people."""
        return (
            f"{self.precision}, opset {self.opset}, {size_bytes / 1e6:.1f} MB; differs from torch by at most "
            f"{self.max_abs_difference:.2g} (allowed {self.tolerance:.2g})"
        )


class Provenance(_Part):
    """Where the model comes from."""

    dataset: list[dict[str, Any]]
    """One entry a source: name, fingerprint, examples, licence, …"""
    seed: int
    git_commit: str | None
    start_weights: str
    command: str | None
    created: str
    """ISO 8601, UTC."""
    versions: dict[str, str]


class BundleConfig(BaseModel):
    """config.json. Fields that Hugging Face knows keep its names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    format_version: Literal[1, 2]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
    task: str
    architectures: list[str] = Field(min_length=1)
    """The network's name, such as "mobilenet_v2"; what the torch runtime builds."""
    problem_type: ProblemType | None
    """None where nothing is classified."""
    id2label: dict[int, str] = Field(min_length=1)
    label2id: dict[str, int]
    label_parents: dict[str, list[str]] = Field(default_factory=dict)
    """Label -> direct parents. Empty where there is no taxonomy."""
    signature: Signature
    decision: Decision
    onnx: OnnxExport | None
    """None where the bundle has no model.onnx."""
    provenance: Provenance
    metrics: dict[str, Any]
    """Split -> metric -> value, and what the model card draws (curves, per-label table, confusion pairs)."""
    card: dict[str, Any] = Field(default_factory=dict)
    """What a person says about the model: summary, licence, intended use, limits."""
    languages: list[str] = Field(default_factory=list)
    """What a language model reads, as BCP 47 tags such as "en"; empty if nobody said."""
    files: dict[str, Artifact] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _task_decides_what_is_decided(cls, content: Any) -> Any:
        if isinstance(content, dict) and isinstance(content.get("decision"), dict):
            return {**content, "decision": {**content["decision"], "task": content.get("task")}}
        return content

    @model_validator(mode="after")
    def _is_consistent(self) -> BundleConfig:
        names = self.labels
        if sorted(self.id2label) != list(range(len(self.id2label))):
            raise ValueError("id2label must number the labels 0, 1, 2, … without a gap")
        if len(set(names)) != len(names):
            raise ValueError("id2label names a label twice")
        if self.label2id != {name: index for index, name in enumerate(names)}:
            raise ValueError("label2id is not the inverse of id2label")
        if self.decision.task != self.task:
            raise ValueError(f"a bundle for {self.task} cannot hold a decision for {self.decision.task}")
        if isinstance(self.decision, TagDecision):
            missing = sorted(set(names) - set(self.decision.thresholds))
            if missing:
                raise ValueError(f"decision.thresholds lacks {len(missing)} labels, the first: {missing[0]!r}")
        strangers = {p for child, parents in self.label_parents.items() for p in (child, *parents)} - set(names)
        if strangers:
            raise ValueError(f"label_parents names labels that id2label lacks: {sorted(strangers)[:3]}")
        return self

    @property
    def labels(self) -> list[str]:
        """Label names in the order of the logits."""
        return [self.id2label[index] for index in sorted(self.id2label)]
