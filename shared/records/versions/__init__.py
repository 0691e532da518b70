"""The versions of the store, one module each: how to get there from the one before. A released one never changes."""
