"""Question answering: the place in a passage that answers a question, or none."""

from shared.task import Task

TASK = Task(
    name="qa",
    predictor="nlp.qa.predictor:AnswerPredictor",
    network="nlp.qa.network:load_network",
    module="nlp.qa.module:AnswerModule",
    data="nlp.qa.data:AnswerData",
    judging="nlp.qa.judging:AnswerJudging",
    predict="nlp.qa.offline:predict",
    batch="nlp.qa.offline:BatchAnswerer",
)
