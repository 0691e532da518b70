"""Intent classification: what an utterance wants, or that it wants nothing that is known."""

from shared.task import Task

TASK = Task(
    name="intent",
    predictor="nlp.intent.predictor:IntentPredictor",
    network="nlp.intent.network:load_network",
    module="nlp.intent.module:IntentModule",
    data="nlp.intent.data:IntentData",
    pack="nlp.intent.packing:pack",
    evaluate="nlp.intent.scoring:evaluate_bundle",
    predict="nlp.intent.lines:predict",
    batch="nlp.intent.batch:BatchClassifier",
    int8_trial="nlp.intent.int8_trial:int8_trial",
)
