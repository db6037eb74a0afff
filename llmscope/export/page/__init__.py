"""One interactive page: figures drawn in a browser from their numbers, with a moving cursor.

`data` turns figures into what the script `page.js` draws, `document` puts it into a page that loads
nothing from elsewhere, and `widget` into a widget for notebooks.
"""
