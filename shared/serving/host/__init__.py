"""What runs the app: BentoML, its workers and sockets. All use of other projects' private internals is in here."""
