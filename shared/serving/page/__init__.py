"""The demo page: built after the API answers, guarded, and swept of what people dropped on it."""
