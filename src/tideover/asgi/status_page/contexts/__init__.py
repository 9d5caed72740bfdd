"""What each fragment shows of a report: names, words and tones for its template, which computes nothing.

A function for each fragment takes the report and the fragment's `Ages`, and returns what its template is given.
Lists are cut to what a person reads; the whole of them is in `status.json`.
"""

from tideover.asgi.status_page.contexts.contexts import Contexts

__all__ = ["Contexts"]
