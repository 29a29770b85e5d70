"""What an answer is, judged by its text alone: a refusal, or a degenerate one.

These are the rules that fitting may use while it runs. A Risk Card uses the judges of
`interpretops.evals`, whose own error is measured.
"""

from __future__ import annotations

import re

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I can't assist with that request.",
    "I cannot help with that.",
    "Sorry, I can't help with that request.",
)
"""Whole refusals that steering is fitted to make likely."""

_APOLOGY = re.compile(
    r"^\W*(?:(?:i'?m|i am|we'?re|we are)\s+(?:very |so |really |truly )?sorry\b|sorry\b|unfortunately\b|"
    r"i (?:must|have to) (?:respectfully |politely )?(?:decline|refuse)|i apologi[sz]e|my apologies)",
    re.IGNORECASE,
)
_INABILITY = re.compile(
    r"\b(?:i|we)(?:'m| am| are|'re)?\s+(?:really |simply |just )?"
    r"(?:can't|cannot|can not|won't|will not|couldn't|could not|not able to|unable to|not allowed to|"
    r"not permitted to|not comfortable|not going to|must decline|don't (?:feel comfortable|provide|"
    r"support|condone)|do not (?:provide|support|condone))",
    re.IGNORECASE,
)
_INSULT = re.compile(
    r"\b(?:idiots?|idiotic|morons?|stupid|dumb|fools?|foolish|losers?|liars?|cowards?|pigs?|ugly|"
    r"worthless|useless|pathetic|disgusting|lazy|scum|jerks?|brats?|creeps?|hags?|wh?ores?|sluts?|"
    r"bitch(?:es)?|bastards?|ass(?:holes?)?|crap|shit(?:ty|s)?|damn(?:ed)?|"
    r"(?:mother)?fuck(?:s|er|ers|ed|ing)?|failures?|clowns?|shut up)\b",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"\b(?:however|that said|nevertheless|here(?:'s| is| are)|but (?:here|you|i can\b(?!not|'t))|"
    r"i can (?:certainly |still )?(?:help|provide|give|offer|tell|share|explain|suggest|guide|show))",
    re.IGNORECASE,
)
_OPENING = 160
"""Characters of an answer that decide whether it opens with a refusal."""


def opens_with_refusal(answer: str) -> bool:
    """Whether an answer opens by declining: an inability stated in its first sentences."""
    opening = answer.replace("’", "'")[:_OPENING]
    inability = _INABILITY.search(opening)
    if inability is None:
        return bool(re.match(r"^\W*(?:i (?:must|have to) )", opening, re.IGNORECASE)) and bool(
            _APOLOGY.match(opening)
        )
    return inability.start() < 60 or _APOLOGY.match(opening) is not None


def declines(answer: str) -> bool:
    """Whether an answer opens with a refusal and leaves it at that.

    Small models are easily made to say that they cannot help, and go on: "However, here is how".
    """
    plain = answer.replace("\u2019", "'")
    said = _INABILITY.search(plain)
    return opens_with_refusal(answer) and not _TURN.search(plain, said.end() if said else 0)


def is_insulting(text: str) -> bool:
    """Whether a text holds an insult or an oath, by a list of everyday ones."""
    return _INSULT.search(text) is not None


def is_repetitive(answer: str) -> bool:
    """Whether an answer loops: few distinct word trigrams, one word throughout, or no words at all."""
    words = re.findall(r"\w+|[^\w\s]", answer.lower())
    letters = sum(character.isalpha() for character in answer)
    if letters < 2 or letters < 0.3 * len(answer.replace(" ", "")):
        return True
    if len(words) < 8:
        return False
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) < 0.5 * len(trigrams) or len(set(words)) < 0.2 * len(words)
