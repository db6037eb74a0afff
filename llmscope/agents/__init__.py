"""Tools for agents: plain functions over one open model, and a server that offers them over MCP.

Importing the package imports neither torch nor the SDK of the Model Context Protocol.
"""
