"""The one inference thread: requests in, figures out."""
