"""What a report says, without its style and its pictures."""

import re


def read_words(path):
    """Return the page's text, without its style and its pictures."""
    html = path.read_text("utf-8")
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())
