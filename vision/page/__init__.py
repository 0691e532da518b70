"""What the tagger's page is made of: the answer it keeps, the HTML it shows. No Gradio.

Neighbours: `vision.demo` puts the parts together.
"""
