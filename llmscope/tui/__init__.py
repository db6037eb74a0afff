"""The screen: keys to focus and requests, figures to panes."""
