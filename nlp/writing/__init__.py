"""Writing answers: a sentence around the place that answers a question, checked word by word against its source."""

from shared.task import Task

TASK = Task(
    name="answer-writer",
    predictor="nlp.writing.predictor:AnswerWriter",
    network="nlp.writing.network:load_network",
    module="nlp.writing.module:WriterModule",
    data="nlp.writing.data:WriterData",
    judging="nlp.writing.judging:WriterJudging",
    predict="nlp.writing.offline:predict",
    batch="nlp.writing.offline:BatchWriter",
)
