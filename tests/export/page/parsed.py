"""A page as its elements, for tests that nothing in it acts."""

from html.parser import HTMLParser

VOID = {"meta", "rect", "path"}


class Parsed(HTMLParser):
    """Elements with their attributes, in order, the text of each kind, and each script."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.comments, self.scripts, self.text = [], [], [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, tuple(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, tuple(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    def handle_comment(self, data):
        self.comments.append(data)
