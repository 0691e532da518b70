"""Image tagging: one or several labels per photo, with an optional taxonomy."""

from shared.task import Task

TASK = Task(
    name="tagging",
    predictor="vision.tagging.predictor:TagPredictor",
    network="vision.tagging.network:load_network",
    module="vision.tagging.module:TaggingModule",
    data="vision.tagging.data:TaggingData",
    pack="vision.tagging.packing:pack",
    evaluate="vision.tagging.reporting:evaluate",
    predict="vision.tagging.files:predict",
    batch="vision.tagging.batch:BatchTagger",
    int8_trial="vision.tagging.int8_trial:int8_trial",
)
