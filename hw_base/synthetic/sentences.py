"""Everyday sentences from a small grammar: the texts of the embedded corpus.

Lower case, a to z, apostrophe and space only. No two words sound alike (no "read" beside "red", no "there" beside
"they're"), so that what was said can be written down without a language model.

There are two grammars. ``everyday`` has the small vocabulary that recognition is trained on; it lacks a third of the
phones of American English. ``wide`` adds about 200 words to it, so that every phone occurs, for synthesis of any text.
Sentences may also be the lines of a file.
"""

import hashlib
import os
import random
import re
from collections.abc import Mapping
from typing import Literal

from hw_base.errors import ConfigError, DataError
from hw_base.texts.files import read_lines

Part = Literal["train", "val", "test"]
Grammar = Literal["everyday", "wide"]

MIN_WORDS, MAX_WORDS = 3, 7

# Raise it when this module's output changes: it is part of the name of corpora on disk.
VERSION = 1

# Each line says what a symbol may become; the choices are equally likely. Words in capitals are symbols.
_RULES = """
SENTENCE: BEING SEES THING | BEING SEES THING PLACE | BEING GOES PLACE | BEING isn't MOOD TIME
SENTENCE: THEY NEG SEE THING | THEY NEG SEE THING TIME | SHE doesn't SEE THING | SHE SEES THING TIME
SENTENCE: SHORT MOOD TIME | SHORT PLACE TIME | please SEE THING TIME | don't SEE THING | let's SEE THING TIME
SENTENCE: can THEY SEE THING PLACE | why did SHE SEE THING | where is THE COLOR OBJECT
SENTENCE: THEY have NUMBER COLOR MANY | NUMBER MANY MOVE PLACE | MAYBE THEY SEE THING | i've got THING PLACE
THE: the | the | my | your | every | a
BEING: THE WHO | THE MOOD WHO
THING: THE OBJECT | THE COLOR OBJECT | NUMBER MANY | some FOOD
WHO: baker | bird | cat | child | dog | doctor | farmer | fox | horse | king | queen | teacher | uncle
OBJECT: apple | book | box | clock | cup | door | jacket | key | lamp | letter | map | piano | table | violin
FOOD: bread | cheese | jam | juice | milk | pizza | sugar
MANY: birds | boxes | houses | keys | letters | maps | oranges | pictures | questions | stones
COLOR: big | brown | cold | dark | golden | green | heavy | old | small | yellow
MOOD: big | brave | funny | happy | lazy | old | quick | quiet | small
SEES: brings | draws | finds | keeps | likes | loves | needs | opens | takes | wants
SEE: bring | carry | draw | find | fix | keep | like | love | need | open | take | watch
GOES: jumps | plays | runs | sings | sits | sleeps | walks | waits
MOVE: fall | stay | lie
PLACE: at home | at school | by the river | behind the bridge | in the garden | in the kitchen | in the village
PLACE: near the window | near the zoo | on the hill | over the fence | under the tree | outside the museum
TIME: today | tomorrow | tonight | again | every morning | this evening | next week | just now
THEY: we | you | they | i
SHE: she | he | my mother | your brother
NEG: can't | don't | didn't | won't | never
SHORT: it's | we're | they're | i'm | she's | you aren't | he wasn't
NUMBER: three | five | six | seven | nine | ten | eleven | twelve | twenty
MAYBE: maybe | perhaps
"""


# What the wide grammar adds. Its nouns take no "a": the choice of "an" goes by the letter, which some of them mislead.
_WIDE_RULES = """
SENTENCE: OUR NOUN is QUALITY | OUR NOUN and OUR NOUN | BEING SEES OUR NOUN | THEY SEE OUR QUALITY NOUN
SENTENCE: OUR NOUN of OUR NOUN | HOW THEY SEE OUR NOUN | OUR NOUN DOES OUR NOUN | are OUR QUALITY NOUN here
SENTENCE: HOW OUR NOUN isn't QUALITY | to OUR NOUN for OUR NOUN | where's OUR NOUN from | put OUR NOUN on OUR NOUN
SENTENCE: THEY SEE OUR NOUN WHERE | who was near OUR NOUN | THEY couldn't SEE OUR NOUN
SENTENCE: THEY shan't SEE OUR NOUN | don't DO OUR QUALITY NOUN
SENTENCE: OUR QUALITY NOUN DOES WHERE | OUR NOUN was into OUR NOUN | what should THEY DO | WHERE her NOUN is QUALITY
OUR: the | the | my | your | their | our | every | her | about the
NOUN: princess | subject | object | excitement | answer | master | castle | branch | basket | morning | corner
NOUN: chair | prayer | affair | song | coffee | cloth | hero | beard | appearance | education | engineer
NOUN: revolution
NOUN: autumn | column | product | opinion | companion | audience | material | voice | noise | coin | appointment
NOUN: wolf | brook | magistrate | holiday | nightingale | imagination | magazine | telegram | examination
NOUN: occupation | population | childhood | melancholy | operation | composition | pleasure | treasure | vision
NOUN: attitude | avenue | interview | multitude | fire | desire | iron | empire | acquirer | october | conversation
NOUN: curiosity | assurance | jury | european | father | envelope | grandfather | type | tower | contest | lifetime
NOUN: overcoat | telephone | studio | society | diamond | lion | idea | theater | library | nightmare | farewell
NOUN: button | cotton | kitten | expert | commerce | admiral | handkerchief | cemetery | customary | transport
NOUN: discourse | foundation | background | lookout | artillery | courtyard | determination | personality | universe
NOUN: circulation | alternative | landlord | platform | formation | escort | failure | neighborhood | underground
NOUN: correspondence | laboratory | corridor | territory | alteration | uniform | organization | fortification
NOUN: atmosphere | afternoon | photograph | paragraph | archbishop | contrast | plantation | automobile
NOUN: superiority
NOUN: cowboy | exploit | vampire | grandma | forefathers | appreciation | iroquois | governess | science
NOUN: defiance | story | storm | sword | function | engineering | mathematics | institute
QUALITY: absolute | sure | poor | pure | real | miserable | certain | written | automatic | horizontal | altogether
QUALITY: literary | ordinary | artistic | artificial | familiar | peculiar | scientific | usual | casual
QUALITY: celebrated
QUALITY: animated | national | additional | entire | nearer | wearier | royal | weird | unusual | economic
QUALITY: oriental
QUALITY: downcast | seventeenth | calm | strong | wrong | earthy | third | early | beautiful | human
QUALITY: square | careful | electric | technological
DOES: enjoys | avoids | destroys | hires | admires | assures | measures | overlooks | articulates | complicates
DO: dictate | enjoy | avoid | destroy | hire | admire | assure | measure | overlook | recall | transfer
DO: communicate
HOW: somehow | therefore | although | already | moreover | perfectly | nearly | whoever knew | anyhow | who thought
WHERE: yesterday | outside | somewhere | everywhere | in january | in the atmosphere | downstairs | upstairs
"""


def _parse(rules: str) -> dict[str, list[str]]:
    grammar: dict[str, list[str]] = {}
    for line in rules.strip().splitlines():
        symbol, _, choices = line.partition(":")
        grammar.setdefault(symbol, []).extend(choice.strip() for choice in choices.split("|"))
    return grammar


_GRAMMARS: dict[Grammar, dict[str, list[str]]] = {"everyday": _parse(_RULES), "wide": _parse(_RULES + _WIDE_RULES)}


def vocabulary(grammar: Grammar = "everyday") -> list[str]:
    """Every word that can occur, in alphabetic order."""
    words = {word for choices in _GRAMMARS[grammar].values() for text in choices for word in text.split()}
    return sorted({word for word in words if not word.isupper()} | {"an"})


def part_of(sentence: str) -> Part:
    """The part to which a sentence always belongs, whatever the seed and the number of sentences drawn."""
    place = hashlib.blake2b(sentence.encode(), digest_size=8).digest()[0]
    if place < 200:
        return "train"
    return "val" if place < 228 else "test"


def draw(part: Part, n_sentences: int, seed: int, grammar: Grammar = "everyday") -> list[str]:
    """Distinct sentences of one part, of `MIN_WORDS` to `MAX_WORDS` words.

    The same seed gives the same list on every machine, and a shorter list is the beginning of a longer one.

    Raises:
        ConfigError: so many distinct sentences cannot be found.
    """
    generator = random.Random(f"{seed}/{part}/sentences" + ("" if grammar == "everyday" else f"/{grammar}"))
    found: dict[str, None] = {}
    tries = 0
    while len(found) < n_sentences:
        sentence = _sentence(generator, _GRAMMARS[grammar])
        if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS and part_of(sentence) == part:
            found[sentence] = None
        tries += 1
        if tries > 1000 + 50 * n_sentences:
            raise ConfigError(f"n_utterances: {n_sentences} is more than the grammar has distinct sentences for")
    return list(found)


def of_file(path: str | os.PathLike[str], part: Part, n_sentences: int | None, seed: int) -> list[str]:
    """The lines of a text file that belong to one part, each once, in an order that the seed decides.

    Lines with digits are left out: how a number is read and how it is written down are two things. So are lines without
    a letter.

    Args:
        path: one sentence a line.
        part: which of them; see `part_of`.
        n_sentences: None is all of them. A shorter list is the beginning of a longer one.
        seed: of the order.

    Raises:
        ConfigError: there are fewer of this part.
        DataError: the file cannot be read, or holds none of this part.
    """
    lines = dict.fromkeys(" ".join(line.split()) for line in read_lines(path))
    found = [
        line for line in lines if re.search(r"[^\W\d_]", line) and not re.search(r"\d", line) and part_of(line) == part
    ]
    if not found:
        raise DataError(
            f"{path}: no sentence for {part} among {len(lines)} different lines; give more, with numbers in words: "
            "lines with digits are left out"
        )
    if n_sentences is not None and n_sentences > len(found):
        raise ConfigError(
            f"n_utterances: {n_sentences}, and {path} has {len(found)} sentences for {part}; null takes all of them"
        )
    random.Random(f"{seed}/{part}/file").shuffle(found)
    return found[:n_sentences]


def _sentence(generator: random.Random, grammar: Mapping[str, list[str]]) -> str:
    words = _expand("SENTENCE", generator, grammar)
    following = zip(words, [*words[1:], ""], strict=True)
    return " ".join("an" if word == "a" and after[:1] in set("aeiou") else word for word, after in following)


def _expand(symbol: str, generator: random.Random, grammar: Mapping[str, list[str]]) -> list[str]:
    if symbol not in grammar:
        return [symbol]
    choice = generator.choice(grammar[symbol]).split()
    return [word for part in choice for word in _expand(part, generator, grammar)]
