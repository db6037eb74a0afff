"""The screen: keys become a `Focus` and requests, figures become panes."""
