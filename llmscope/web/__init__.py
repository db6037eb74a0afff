"""Serve the app in a browser, with a process for each page; or a file, read only, to many.

The app needs the extra `serve`. Without it only `auth`, `bind`, `connections`, `headers` and
`file_server` import, and a file can be served.
"""
