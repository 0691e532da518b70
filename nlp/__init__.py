"""Language: utterances to intents, questions to answers."""
