"""The words of the world, by meaning."""

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MEN: Final = _words(
    "Adam Ben Carl David Eric Frank George Henry Ivan Jack Kurt Leo Mark Nils Otto Paul Ralph Simon Tom Victor "
    "Alan Bruno Colin Felix Hugo"
)
WOMEN: Final = _words(
    "Alice Beth Clara Diana Emma Flora Grace Helen Irene Julia Kate Laura Mary Nora Olga Paula Rosa Sarah Tina Vera "
    "Anna Cora Edith Greta Lucy"
)
SURNAMES: Final = _words(
    "Abbot Archer Barlow Bishop Carter Dalton Drake Ellis Foster Garner Hale Hill Irving "
    "Keller Lane Marsh Mercer Nash Palmer Quinn Reed Shaw Turner Vance Webb "
    "Atkins Bolton Cooke Dixon Everett Flynn Gibson Hurst Jarvis Knight Lowe Norris Osborne Pratt Rowe "
    "Adler Barton Bell Bryant Coleman Craig Curtis Doyle Easton Fisher Goodwin Graham Harding Holt Ingram "
    "Jenkins Kemp Lambert Lloyd Mason Moss Nolan Owens Parrish Pearce Preston Randall Rhodes Savage Sutton "
    "Talbot Thorne"
)

TOWNS: Final = _words(
    "Ashby Aston Barrow Burford Calder Corby Darnley Dunster Elmwood Epsom Fairford "
    "Farley Glenfield Goole Hanley Hexham Ilford Jarrow Kendal Linton Marlow Newton "
    "Oakham Penrith Quarley Redford Selby Thirsk Upton Verwood Whitby Yarm"
)
TRADES: Final = _words(
    "baker barber brewer butcher carpenter cobbler dancer dentist doctor driver farmer "
    "florist gardener glazier guard jeweller joiner judge lawyer miller miner nurse "
    "painter pilot plumber porter potter sailor singer tailor teacher weaver"
)
ANIMALS: Final = {
    "badger": "badgers",
    "beetle": "beetles",
    "cat": "cats",
    "cow": "cows",
    "crow": "crows",
    "dog": "dogs",
    "donkey": "donkeys",
    "dove": "doves",
    "duck": "ducks",
    "fox": "foxes",
    "frog": "frogs",
    "goat": "goats",
    "hamster": "hamsters",
    "hedgehog": "hedgehogs",
    "hen": "hens",
    "horse": "horses",
    "lizard": "lizards",
    "mouse": "mice",
    "parrot": "parrots",
    "pig": "pigs",
    "rabbit": "rabbits",
    "snake": "snakes",
    "toad": "toads",
    "turtle": "turtles",
}
"""Singular to plural."""
FOODS: Final = _words(
    "bacon beans bread butter cabbage cake cheese chicken cream curry custard garlic "
    "ham honey lentils noodles onions pasta porridge rice salad soup toast trifle"
)
INSTRUMENTS: Final = _words(
    "banjo bassoon cello clarinet cornet drum fiddle flute guitar harp horn lute oboe piano trumpet viola"
)

FODDER: Final = _words("berries clover corn fish grass hay insects leaves moss nuts seeds worms")
OBJECTS: Final = _words(
    "bell brush button candle clock compass hammer kettle key knife lamp map mirror ring rope whistle"
)
CONTAINERS: Final = _words("bag barrel basket box bucket chest crate cupboard drawer jar pot trunk")
COUNTED: Final = _words("cards coins eggs marbles pearls shells stamps tickets")
NUMBERS: Final = _words("zero one two three four five six seven eight nine ten")
DEEDS: Final = {
    "read": _words("book letter newspaper poem"),
    "drank": _words("juice milk tea water"),
    "wore": _words("coat hat scarf shirt"),
    "climbed": _words("ladder tower tree wall"),
    "mended": _words("boat fence gate roof"),
}
"""Verbs of what a person does, each with the objects it is done to."""

ADJECTIVES: Final = _words("big black brown old small white")
THINGS: Final = {
    "barn": "barns",
    "bush": "bushes",
    "cart": "carts",
    "house": "houses",
    "pond": "ponds",
    "shed": "sheds",
}
"""Things that animals are near, singular to plural."""
NEAR: Final = _words("behind beside near")
VERBS: Final = {
    "hides": "hide",
    "jumps": "jump",
    "rests": "rest",
    "runs": "run",
    "sits": "sit",
    "sleeps": "sleep",
}
"""What animals do, singular to plural."""
