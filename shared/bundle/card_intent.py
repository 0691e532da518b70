"""What an intent classifier's card says that no other does: how to call it, its metrics, what belongs to no intent.

Neighbours: `card` puts the sections in order, `card_parts` has those that every task shares.
"""

from __future__ import annotations

from shared.bundle.card_parts import SPLITS, calibration_errors, joined, measured_splits, value
from shared.bundle.layout import BundleConfig, IntentDecision
from shared.bundle.markdown import number, table

COLUMNS = {
    "examples": "utterances",
    "labels": "intents",
    "out_of_scope": "out of scope",
    "accuracy": "accuracy",
    "top5": "top-5",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "auroc": "AUROC",
    "kept": "named",
    "out_of_scope_recall": "refused",
    "right": "right",
}
DETECTORS = {
    "max_softmax": "less the largest probability",
    "energy": "energy of the logits",
    "rejection": 'logit of "none", learned beside the intents, less the largest of theirs',
    "mahalanobis": "Mahalanobis distance to the nearest intent's centre",
    "knn": "cosine to the fifth nearest training utterance",
    "gaussian_process": "energy of logits flattened by a Gaussian process's variance (as in SNGP)",
}
CROSS_FITTED = {
    "ece": "ECE",
    "kept": "named of those with an intent",
    "out_of_scope_recall": "refused of those without",
    "right": "right",
}


def usage(config: BundleConfig) -> str:
    """Return how to call the model over HTTP and on the command line, and whether transformers loads it."""
    extra = config.model_extra or {}
    if extra.get("pooling") == "cls":
        transformers = (
            'With transformers, in this folder: `AutoModelForSequenceClassification.from_pretrained(".")`; the logits '
            "are the same, the confidences are theirs divided by the temperature below, and what belongs to no intent "
            "is not told."
        )
    else:
        transformers = (
            "transformers has no class for this network (its head reads the mean over the tokens, or it is no "
            "transformer), so that `AutoModelForSequenceClassification` refuses this folder. Train with "
            "`--model.pooling cls` for one that it loads."
        )
    return joined(
        "## Use it",
        "As a service, with a demo page at http://localhost:3000/ui:",
        f"```bash\npercept serve {config.name}\n"
        "curl -H 'content-type: application/json' -d '{\"text\": \"where is my parcel?\"}' "
        "http://localhost:3000/v1/intent\n```",
        f'On the command line: `percept predict {config.name} "where is my parcel?"`.',
        transformers,
    )


def evaluation(config: BundleConfig) -> str:
    """Return metrics by split and set and over everything, what the threshold is worth, and the detectors compared."""
    splits = measured_splits(config)
    rows = [
        (SPLITS.get(split, split), name, *(value(values.get(key)) for key in COLUMNS))
        for split, metrics in splits.items()
        for name, values in [*metrics["sources"].items(), ("all sets", metrics["overall"])]
    ]
    if not rows:
        return ""
    note = (
        "Accuracy, top-5, F1 and ECE (15 bins): of utterances that belong to an intent, over the best intent, named or "
        "not. AUROC: that one that belongs to none scores higher than one that belongs. Named: share of those with an "
        "intent that get one; refused: share of the others that get none; right: all of them together."
    )
    if "test" in splits:
        note += " Temperature and threshold were fitted on validation utterances: the test rows are the ones to trust."
    else:
        note += " Temperature and threshold were fitted on these utterances: new ones will do a little worse."
    return joined(
        "## Evaluation",
        table(("split", "set", *COLUMNS.values()), rows),
        note,
        _cross_fitted(config),
        _detectors(config),
    )


def calibration(config: BundleConfig) -> str:
    """Return what turns logits into confidences, and what is out of scope."""
    decision = config.decision
    if not isinstance(decision, IntentDecision):
        return ""
    text = (
        f"Logits are divided by a temperature of {decision.temperature:.3f}, fitted on validation utterances, so that "
        "a confidence of 0.8 means: right 8 times of 10, among utterances that belong to an intent."
    )
    out = (
        f"**Out of scope.** The detector is `{decision.detector}`: {DETECTORS.get(decision.detector, 'its own')}. Its "
        "value becomes a score from 0 to 1, as a chance when half of what comes belongs to no intent. An intent is "
        f"named where 1 - score is at least {decision.abstain_below:.3f}: that lets "
        f"{100 * decision.acceptance:.0f} % of the validation utterances with an intent pass."
    )
    return joined("## Calibration", text, calibration_errors(config), out)


def _cross_fitted(config: BundleConfig) -> str:
    found = config.metrics.get("val", {}).get("cross_fitted")
    if not found:
        return ""
    text = ", ".join(f"{name} {number(found.get(key))}" for key, name in CROSS_FITTED.items())
    return (
        "**On utterances that nothing was fitted on:** temperature, scores and threshold fitted on one half of the "
        f"validation utterances and measured on the other, both ways, mean: {text}."
    )


def _detectors(config: BundleConfig) -> str:
    found = config.metrics.get("val", {}).get("detectors")
    if not found:
        return ""
    rows = [
        (name, DETECTORS.get(name, ""), value(each.get("auroc")), value(each.get("recall_at_acceptance")))
        for name, each in found.items()
    ]
    kept = getattr(config.decision, "acceptance", 0.95)
    header = ("detector", "what it is", "AUROC", f"refused while {100 * kept:.0f} % pass")
    return joined(
        "Detectors on the validation utterances; the choice among them was made there too:", table(header, rows)
    )
