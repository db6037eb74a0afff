"""The screen in a browser: who may come in, and the program behind each page.

It needs the extra `serve`; without it only `llmscope.web.auth` and `llmscope.web.bind` import.
"""
