"""Write the contrast pairs of sentiment.jsonl: 14 templates, each a group, with 10 nouns each."""

import json
from pathlib import Path

GOOD = (
    *("wonderful", "excellent", "delightful", "superb", "lovely", "brilliant", "fantastic"),
    *("charming", "great", "perfect"),
)
BAD = (
    *("terrible", "awful", "dreadful", "horrible", "nasty", "dismal", "disgusting"),
    *("boring", "poor", "useless"),
)
TEMPLATES = {
    "was": "The {noun} was {word}",
    "found": "Everybody at the table found the {noun} {word}",
    "think": "I think that this {noun} is {word}",
    "review": "Review of the {noun}: simply {word}",
    "friend": "My friend told me the new {noun} is {word}",
    "after": "After two weeks with the {noun}, I can say it is {word}",
    "what": "What a {word} {noun}, said the old man",
    "honest": "To be honest, the {noun} we got turned out {word}",
    "such": "It was such a {word} {noun} that we talked about it for days",
    "critic": "Critics called the {noun} {word} from start to finish",
    "letter": "Dear team, your {noun} is {word}, and I will tell others",
    "stars": "How would you rate the {noun}? In one word: {word}",
    "children": "Our children said the {noun} looked {word}",
    "year": "It has been a {word} year for the {noun}",
}
NOUNS = (
    *("film", "soup", "hotel", "garden", "concert", "phone", "lecture", "train", "novel", "coat"),
    *("museum", "play", "coffee", "beach", "camera", "party", "song", "market", "class", "bike"),
    *("dinner", "office", "game", "bread", "theatre", "lamp", "journey", "dress", "show", "bed"),
    *(
        "painting",
        "service",
        "cake",
        "island",
        "radio",
        "festival",
        "poem",
        "bridge",
        "team",
        "desk",
    ),
)


def pairs():
    """Yield the pairs: each template goes on in the nouns, and begins at another word."""
    for at, (group, template) in enumerate(TEMPLATES.items()):
        for step in range(10):
            noun = NOUNS[(10 * at + 3 * step) % len(NOUNS)]
            word = (3 * at + step) % 10
            yield {
                "positive": template.format(noun=noun, word=GOOD[word]),
                "negative": template.format(noun=noun, word=BAD[word]),
                "group": group,
            }


if __name__ == "__main__":
    lines = [json.dumps(one) + "\n" for one in pairs()]
    Path(__file__).with_name("sentiment.jsonl").write_text("".join(lines), encoding="utf-8")
