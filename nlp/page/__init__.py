"""What the language page is made of: replies, their HTML, and the documents that visitors dropped. No Gradio."""
