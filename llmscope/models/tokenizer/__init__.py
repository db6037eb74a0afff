"""Tokenizers: tokens and their places in the text, chat templates, roles."""
