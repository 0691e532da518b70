"""Records of answers, and what people say of them: what is noted at a request, and the routes."""
