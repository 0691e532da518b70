"""What the tagger's page is made of: the answer it keeps, and its HTML. No Gradio."""
