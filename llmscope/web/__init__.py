"""Serve the app in a browser: authentication, and a process for each page.

Needs the extra `serve`; without it only `llmscope.web.auth` and `llmscope.web.bind` import.
"""
