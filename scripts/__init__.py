"""The `percept` command: one thin module per subcommand."""
