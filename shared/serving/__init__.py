"""The HTTP services: everything between a socket and an engine that is the same for photos and for texts."""
