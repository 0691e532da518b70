"""Question answering: the place in a passage that answers a question, or none."""

from shared.task import Task

TASK = Task(
    name="qa",
    predictor="nlp.qa.predictor:AnswerPredictor",
    network="nlp.qa.network:load_network",
    module="nlp.qa.module:AnswerModule",
    data="nlp.qa.data:AnswerData",
    pack="nlp.qa.packing:pack",
    evaluate="nlp.qa.reporting:evaluate",
    predict="nlp.qa.lines:predict",
    batch="nlp.qa.batch:BatchAnswerer",
    int8_trial="nlp.qa.int8_trial:int8_trial",
)
