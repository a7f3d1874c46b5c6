"""A page as its reader sees it: elements, and text by section."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text by section."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.sections, self.rows, self.alts = [], {"": ""}, [], []
        self._section, self._silent = "", False
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.text = " ".join("".join(self.sections.values()).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "section":
            self._section = dict(attributes)["id"]
            self.sections[self._section] = ""
        if tag == "tr":
            self.rows.append("")
        if tag in ("td", "th") and self.rows:
            self.rows[-1] += " "
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))
        self._silent = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._silent = False
        if tag == "tr":
            self.rows.append("")  # what follows a table belongs to none of its rows

    def handle_data(self, data):
        if not self._silent:
            self.sections[self._section] += data
            if self.rows:
                self.rows[-1] += data

    def section(self, name):
        return " ".join(self.sections[name].split())

    def row(self, name):
        rows = (" ".join(row.split()) for row in self.rows)
        return next(row for row in rows if row.startswith(name))


SECTIONS = ["summary", "asked", "data", "training", "result", "images", "cost", "provenance"]
