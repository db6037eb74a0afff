"""Tokenizers: tokens and their offsets in the text, chat templates, roles."""
