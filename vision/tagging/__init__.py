"""Image tagging: one or several labels per photo, with an optional taxonomy."""

from shared.task import Task

TASK = Task(
    name="tagging",
    predictor="vision.tagging.predictor:TagPredictor",
    network="vision.tagging.network:load_network",
    module="vision.tagging.module:TaggingModule",
    data="vision.tagging.data:TaggingData",
    judging="vision.tagging.judging:TagJudging",
    predict="vision.tagging.offline:predict",
    batch="vision.tagging.offline:BatchTagger",
)
