"""Intent classification: what an utterance wants, or that it wants nothing known."""

from shared.task import Task

TASK = Task(
    name="intent",
    predictor="nlp.intent.predictor:IntentPredictor",
    network="nlp.intent.network:load_network",
    module="nlp.intent.module:IntentModule",
    data="nlp.intent.data:IntentData",
    judging="nlp.intent.judging:IntentJudging",
    predict="nlp.intent.offline:predict",
    batch="nlp.intent.offline:BatchClassifier",
)
