"""Readers of prompts, conversations and tables of them."""
