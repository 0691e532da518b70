"""The `percept` command: one module per subcommand, thin, no logic."""
