"""The vision service: image tagging. Never imports nlp."""
