"""Who may do what, and what may be read: principals, API keys, tokens and URIs."""
