"""Who may call the service: API keys, their rates, and the layers that check them."""
