"""What all tasks share in training: the command line, callbacks, export and bundle writing."""
