"""`percept package`: makes a bento from bundles, tries it, and writes the Dockerfile of its image."""
