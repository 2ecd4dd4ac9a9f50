"""The auth group: login through identity providers, sessions, tokens, tenants and their secrets."""
