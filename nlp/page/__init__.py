"""What the language page is made of: replies, their HTML, the documents that a visitor dropped. No Gradio.

Neighbours: `nlp.demo` puts the parts together.
"""
