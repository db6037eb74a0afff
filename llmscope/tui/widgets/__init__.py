"""Widgets around the panes: header, footer, status bar."""
