"""Personal information is found by kind, and nothing else is touched."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from interpretops.prompts import PersonalInformation, Prompt, PromptSet, Redactor
from interpretops.prompts.check_digits import (
    is_abn,
    is_acn,
    is_medicare,
    is_payment_card,
    is_tfn,
)


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(person_model=None)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("write to jane.o'brien+news@mail.example.com.au.", "write to [EMAIL]."),
        ("JÜRGEN@BÜRO.DE and x@y.io", "[EMAIL] and [EMAIL]"),
        ("from 203.0.113.77, port 80", "from [IP], port 80"),
        ("host 2001:db8:85a3::8a2e:370:7334 is up", "host [IP] is up"),
        ("card 4111 1111 1111 1111 expires 12/27", "card [CARD] expires 12/27"),
        ("amex 3782-822463-10005", "amex [CARD]"),
        ("5555555555554444", "[CARD]"),
        ("my card is 503867297114", "my card is [CARD]"),
        ("My TFN is 876 543 210.", "My TFN is [TFN]."),
        ("tfn:876543210", "tfn:[TFN]"),
        ("TFN-876-543-210", "TFN-[TFN]"),
        ("876543210", "[TFN]"),
        ("tax file number 87 654 32 10", "tax file number [TFN]"),
        ("ABN 51 824 753 556 and ACN 005 499 981", "ABN [ABN] and ACN [ACN]"),
        ("A.C.N. 000000180", "A.C.N. [ACN]"),
        ("Medicare card 2123 45670 1", "Medicare card [MEDICARE]"),
        ("2123456701", "[MEDICARE]"),
        ("my medicare number is 2123 45670 1-2", "my medicare number is [MEDICARE]"),
        ("ring 0491 570 156 today", "ring [PHONE] today"),
        ("+61 491 570 156", "[PHONE]"),
        ("(02) 5550 1234", "[PHONE]"),
        ("0491570156", "[PHONE]"),
        ("her mobile is 491570156", "her mobile is [PHONE]"),
        ("call 1300 975 707", "call [PHONE]"),
        ("+44 20 7946 0958 or (212) 555-0147", "[PHONE] or [PHONE]"),
        ("Fax: 668 57023", "Fax: [PHONE]"),
        ("He lives at 12/34 Smith Street, Carlton VIC 3053.", "He lives at [ADDRESS]."),
        ("send it to Unit 5, 7 O'Brien Rd", "send it to [ADDRESS]"),
        ("PO Box 1234, Darwin NT 0801", "[ADDRESS]"),
        ("36 rue de Pologne", "[ADDRESS]"),
    ],
)
def test_finds(redactor: Redactor, text: str, scrubbed: str) -> None:
    assert redactor.scrub(text)[0] == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "The population grew from 1984 to 2026 by 25,687,041 people.",
        "pi is 3.14159265358979 and e is 2.718281828459045",
        "It cost $876543210, or 12.5% of 1000000000.",
        "Add 101 102 103 104 105 106 107 108 109 and 110.",
        "Call 100000 people at 9:30 on 24/12/2025, or 2025-12-24.",
        "Version 1.2.3.4 runs at 127.0.0.1:8080, v10.0.19041.1 too",
        "TFN 824 753 557 is not valid",  # wrong check digit
        "ABN 52 824 753 556, 51 824 753 5564",
        "Medicare 2123 25870 1",
        "Medicare 2123258701, and INT_MAX is 2147483647",
        "4111 1111 1111 1112",
        "std::vector<int> a::b 12:34:56",
        "sha 4a5c9f0d1e2b3a4c5d6e7f8091a2b3c4 and id x876543210",
        "In section 5.2.1.3 we read @home and a@b.",
        "3 apples, 12 main reasons, 100 metres, 1300 – 1401",
        "2*876543210 = 1753086420.0",
    ],
)
def test_leaves_ordinary_text_alone(redactor: Redactor, text: str) -> None:
    # the product in the last line begins with a number that is a TFN by its digits
    expected = text.replace("876543210 =", "[TFN] =") if text.startswith("2*") else text
    assert redactor.scrub(text)[0] == expected


def test_check_digits_agree_with_published_vectors() -> None:
    assert is_tfn("876543210")
    assert not is_tfn("824753557")
    assert is_abn("51824753556")
    assert not is_abn("52824753556")
    assert not is_abn("00000000560")
    assert all(map(is_acn, ("000000019", "005499981", "006249976", "000000180")))
    assert not is_acn("824753557")
    assert is_medicare("2123456701")
    assert not is_medicare("2123258701")
    assert is_payment_card("378282246310005")
    assert not is_payment_card("0000000000000000")


def test_every_single_digit_error_in_an_identifier_is_noticed() -> None:
    for check, number in ((is_tfn, "876543210"), (is_abn, "51824753556")):
        for place, right in enumerate(number):
            for wrong in set("0123456789") - {right}:
                assert not check(number[:place] + wrong + number[place + 1 :])


def test_counts_by_kind_and_second_pass_changes_nothing(redactor: Redactor) -> None:
    text = (
        "Mail a@b.com or c@d.org, phone 0491 570 156, TFN 876 543 210, "
        "1 Main Street, Sydney NSW 2000, card 4111111111111111"
    )
    once, counts = redactor.scrub(text)
    assert counts == {"ADDRESS": 1, "CARD": 1, "EMAIL": 2, "PHONE": 1, "TFN": 1}
    assert redactor.scrub(once) == (once, {})


def test_findings_do_not_overlap_and_are_in_order(redactor: Redactor) -> None:
    rng = random.Random(0)
    pieces = [
        "a@b.com",
        "0491 570 156",
        "876 543 210",
        " ",
        "4111 1111 1111 1111",
        "-",
        "12 Main St",
    ]
    for _ in range(200):
        found = redactor.find("".join(rng.choice(pieces) for _ in range(12)))
        assert all(a.end <= b.start for a, b in pairwise(found))


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "1 ", "1-", "(1", "a@", "a.", "+1", "1.", "A ", "Aa ", "1 Aa ", "::", "%1", "x@y."],
)
def test_work_grows_linearly_on_hostile_text(redactor: Redactor, unit: str) -> None:
    # Quadratic backtracking over 60,000 characters would not end within the run's patience.
    redactor.find(unit * (60_000 // len(unit)))


def test_without_a_person_model_the_kinds_say_so(redactor: Redactor) -> None:
    assert PersonalInformation.PERSON not in redactor.kinds
    assert redactor.scrub("Jane Citizen") == ("Jane Citizen", {})


def test_persons_are_found_by_the_spacy_model_that_is_named(tmp_path) -> None:
    spacy = pytest.importorskip("spacy")
    language = spacy.blank("en")
    rules = language.add_pipe("entity_ruler")
    rules.add_patterns([{"label": "PERSON", "pattern": "Jane Citizen"}])
    language.to_disk(tmp_path / "model")
    redactor = Redactor(person_model=str(tmp_path / "model"))
    assert PersonalInformation.PERSON in redactor.kinds
    assert redactor.scrub("Jane Citizen's mail is jane@x.org") == (
        "[PERSON]'s mail is [EMAIL]",
        {"EMAIL": 1, "PERSON": 1},
    )
    labelled = Prompt(id="p", text="Jane Citizen", topic="Jane Citizen")
    (clean,) = PromptSet(prompts=(labelled,), source="s").redact(redactor)
    assert (clean.text, clean.topic) == ("[PERSON]", "Jane Citizen")
