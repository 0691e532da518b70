"""Personal data in texts, by the rules that records are redacted with too."""

from shared.personal import Personal, masked, personal_data

__all__ = ["Personal", "masked", "personal_data"]
