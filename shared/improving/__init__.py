"""From a better model to the one that serves: the gate, the registry of versions, and the watch after a swap."""
