"""What the tasks beside this file count as a right answer."""

import re


def contains(doc: dict, results: list[str]) -> dict[str, float]:
    """Whether an accepted answer occurs in what was said, as whole words and whatever the case."""
    said = results[0].lower()
    found = any(re.search(rf"\b{re.escape(answer.lower())}\b", said) for answer in doc["answers"])
    return {"contains": float(found)}
