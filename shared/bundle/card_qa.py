"""What a question answerer's card says that no other does: how to call it, its metrics, its calibration.

Neighbours: `card` puts the sections in order, `card_parts` has those that every task shares.
"""

from __future__ import annotations

from shared.bundle.card_parts import SPLITS, calibration_errors, joined, measured_splits, value
from shared.bundle.layout import AnswerDecision, BundleConfig
from shared.bundle.markdown import table

COLUMNS = {
    "examples": "answerable",
    "unanswerable": "unanswerable",
    "exact": "exact match",
    "f1": "F1",
    "auroc": "AUROC",
    "f1_at_threshold": "F1 of all",
    "answered": "answered",
    "silent": "silent",
    "ece": "ECE",
}


def usage(config: BundleConfig) -> str:
    """Return how to call the model over HTTP, on the command line and with transformers."""
    return joined(
        "## Use it",
        "As a service, with a demo page at http://localhost:3000/ui:",
        f"```bash\npercept serve {config.name}\n"
        'curl -H \'content-type: application/json\' -d \'{"question": "Who keeps the light?", '
        '"context": "The light on the rock is kept by Ada Brandt."}\' http://localhost:3000/v1/answer\n```',
        f'On the command line: `percept predict {config.name} "Who keeps the light?" --context page.txt`.',
        "With transformers, where `model.safetensors` lies in this folder: "
        '`AutoModelForQuestionAnswering.from_pretrained(".")`.',
    )


def evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set and over everything."""
    splits = measured_splits(config)
    rows = [
        (SPLITS.get(split, split), name, *(value(values.get(key)) for key in COLUMNS))
        for split, metrics in splits.items()
        for name, values in [*metrics["sources"].items(), ("all sets", metrics["overall"])]
    ]
    if not rows:
        return ""
    note = (
        "Exact match and F1 as SQuAD defines them: of answerable questions, when an answer is always given. AUROC: "
        "that an answerable question scores higher than an unanswerable one. F1 of all: at the threshold, where "
        "silence is right for the unanswerable. Answered: share of the answerable that get an answer; silent: share of "
        "the unanswerable that get none. ECE: expected calibration error, 15 bins, over all questions."
    )
    if "test" in splits:
        note += " Temperature, shift and threshold were fitted on the validation questions: trust the test rows."
    else:
        note += " Temperature, shift and threshold were fitted on these questions: new ones will do a little worse."
    return joined("## Evaluation", table(("split", "set", *COLUMNS.values()), rows), note)


def calibration(config: BundleConfig) -> str:
    """Return what turns logits into scores, and when no answer is given."""
    decision = config.decision
    if not isinstance(decision, AnswerDecision):
        return ""
    text = (
        "A span's margin is the sum of its start and end logits less that of no answer. Its score is "
        f"sigmoid((margin + {decision.shift:.3f}) / {decision.temperature:.3f}), fitted on validation questions, so "
        "that a score of 0.8 means: right 8 times of 10. An answer is given where the score is at least "
        f"{decision.abstain_below:.3f}, the best F1 over all validation questions, and is no longer than "
        f"{decision.max_answer_tokens} tokens; otherwise the passage holds none."
    )
    return joined("## Calibration", text, calibration_errors(config))
