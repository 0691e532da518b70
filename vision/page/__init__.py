"""What the tagger's page is made of: the answer it keeps, the HTML it shows, the requests it lets through. No Gradio.

Neighbours: `vision.demo` puts the parts together.
"""
