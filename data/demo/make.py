"""Makes the corpus, the planted records and the held-out tests of this folder.

    python3 make.py r-cran-janeaustenr_1.0.0-1_all.deb

Reads the Debian package as it was downloaded (`apt-get download r-cran-janeaustenr`), needs nothing but the
standard library, and writes the same bytes on every run. Whole chapters are set aside first: all tests are cut
from those, and the corpus is what remains.
"""

import hashlib
import io
import json
import pathlib
import random
import re
import sys
import tarfile
import zlib

PACKAGE_DIGEST = "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95"
HELD_OUT_CHAPTERS = 44
COUNTS = [0, 1, 2, 4, 8, 16, 32, 64, 128]  # how often a record is shown in training
RECORDS_PER_COUNT = 48
LAMBADA_ITEMS = 300
HELLASWAG_ITEMS = 300
PAGES = 30
PAGE_WORDS = 300


class Draw:
    """Seeded choices made from `random()` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def below(self, n):
        return int(self.source.random() * n)

    def of(self, items):
        return items[self.below(len(items))]

    def shuffled(self, items):
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
        return items

    def digits(self, n):
        return "".join(str(self.below(10)) for _ in range(n))


# ---------------------------------------------------------------- the novels


def package_member(package, end_of_name):
    """One file of a .deb: an `ar` archive whose member `data.tar.*` holds the files."""
    data = package.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != PACKAGE_DIGEST:
        sys.exit(f"make.py: {package.name}: sha256 is {digest}, expected {PACKAGE_DIGEST} (version 1.0.0-1)")
    at = len(b"!<arch>\n")
    while at < len(data):
        name = data[at : at + 16].decode().strip()
        size = int(data[at + 48 : at + 58])
        body = data[at + 60 : at + 60 + size]
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                for member in tar.getmembers():
                    if member.name.endswith(end_of_name):
                        return tar.extractfile(member).read()
        at += 60 + size + size % 2
    sys.exit(f"make.py: {package.name}: no member {end_of_name}")


def string_vectors(rdb):
    """The character vectors of an R lazy-load database: each a length, then a zlib stream of R's XDR form."""
    at = 0
    while at < len(rdb):
        stream = zlib.decompressobj()
        try:
            value = stream.decompress(rdb[at + 4 :])
        except zlib.error:
            return  # the table of variables at the end is no zlib stream
        at = len(rdb) - len(stream.unused_data)
        # b"X\n", version, two R versions, length and name of the encoding; then the vector
        encoding = int.from_bytes(value[14:18], "big")
        cursor = 18 + encoding
        if int.from_bytes(value[cursor : cursor + 4], "big") & 0xFF != 16:
            continue
        count = int.from_bytes(value[cursor + 4 : cursor + 8], "big")
        cursor += 8
        lines = []
        for _ in range(count):
            size = int.from_bytes(value[cursor + 4 : cursor + 8], "big")
            lines.append(value[cursor + 8 : cursor + 8 + size].decode("utf-8"))
            cursor += 8 + size
        yield lines


HEADING = re.compile(r"(?i)^(volume|chapter)\s+[ivxlc0-9]+\.?$|^(volume|chapter) [a-z]+$")
TITLES = {
    "EMMA": "Emma",
    "MANSFIELD PARK": "Mansfield Park",
    "NORTHANGER ABBEY": "Northanger Abbey",
    "Persuasion": "Persuasion",
    "PRIDE AND PREJUDICE": "Pride and Prejudice",
    "SENSE AND SENSIBILITY": "Sense and Sensibility",
}


def chapters(lines):
    """(title of the novel, number, paragraphs) for each chapter; hard-wrapped lines are joined."""
    title = TITLES[lines[0].strip()]
    found, paragraphs, paragraph = [], [], []

    def end_paragraph():
        if paragraph:
            text = re.sub(r"\s+", " ", " ".join(paragraph).replace("_", "")).strip()
            if text and text.upper() not in ("FINIS", "THE END"):
                paragraphs.append(text)
            paragraph.clear()

    started = False
    for line in lines[1:] + ["Chapter 0"]:
        line = line.strip()
        if HEADING.match(line):
            end_paragraph()
            if started and sum(map(len, paragraphs)) > 1000:
                found.append((title, len(found) + 1, list(paragraphs)))
            paragraphs.clear()
            started = True
        elif line:
            paragraph.append(line)
        else:
            end_paragraph()
    return found


# ---------------------------------------------------------------- the records

FIRST = """Ada Albin Almeda Anselm Aurel Bastian Beata Benno Blanche Caius Calla Cedric Celia Clovis Cora Cyrus Dagmar
Darian Delphine Edwin Elke Elmo Enid Ephraim Esme Fabian Farah Felix Flora Gideon Gisela Greta Hector Hedda Hollis
Ida Ignace Imogen Ingrid Isidor Ivo Jarvis Jonas Judith Kaspar Keziah Lambert Leonie Linus Lorna Ludo Mabel Magnus
Malin Marius Mina Morris Nadia Nestor Norah Odette Olaf Orla Oswin Otto Pascal Petra Phineas Quentin Ramona Regina
Rufus Sabine Selma Silas Sybil Tamsin Thaddeus Theo Tilda Ulric Una Valentin Vera Viggo Walda Wanda Wilfred Xenia
Yorick Yvette Zachary Zelda""".split()
STARTS = """Ab Ald Bar Bel Brad Cal Cor Cran Dal Dun Eb El Fal Fen Gar Gil Har Hol Is Jer Kel Kin Lan Lor Mal Mor Nor Oak
Os Pel Pen Quil Rad Ros Sal Sel Tal Tor Ul Var Ves Wal Wex Win Yar Zen""".split()
MIDDLES = "a e i o u an ar en er in ol or um".split()
ENDS = """bury by combe dale den field ford gate ham holt house kirk land ley lock man mere more ner nock rick sett
sey shaw smith son stead stone ston thorp ton vale well wick wood worth""".split()
PLANTS = """Alder Apple Ash Barley Beech Birch Bramble Cedar Cherry Clover Elder Elm Fennel Fern Hazel Heather Holly
Ivy Juniper Larch Laurel Linden Maple Mint Myrtle Nettle Oak Olive Pear Pine Plum Poplar Quince Rose Rowan Rye Sorrel
Thistle Walnut Willow""".split()
WAYS = "Alley Avenue Bank Bridge Close Corner Court Crescent Gate Green Hill Lane Mews Parade Place Road Row Square Street Terrace Walk Yard".split()
MAIL_WORDS = """amber anchor arrow badger basket beacon bishop bottle button candle canyon carpet castle cobalt comet
copper coral cricket dagger dancer drummer eagle ember falcon feather fiddle flint garnet ginger glacier hammer harbor
heron hollow indigo island ivory jacket jasper kettle lantern lemon linen lizard magnet marble meadow mitten mosaic
needle nickel ocean onyx orchid otter paddle paper pebble pepper pilot pocket prairie quartz rabbit raven ribbon
saddle saffron sailor scarlet silver sparrow spider sugar summit teapot temple thimble thunder timber tunnel turnip
velvet violet walrus whistle window zephyr""".split()
HOSTS = "acorn basalt cinder dolphin easel fresco gravel hinge inkwell jigsaw kayak ledger mango nutmeg oyster parcel quiver rocket socket tundra".split()
DOES = """bakes borrows breeds breaks buys carves collects counts cooks digs draws drinks dyes feeds finds folds forgets
gathers grinds guards hides hums keeps knits lends loses measures mends mixes orders paints plants polishes presses
reads repairs rents roasts sells sews sharpens sings sketches smokes sorts steals stores studies teaches trades
translates trims tunes washes weighs winds wraps""".split()
KINDS = """ancient bitter black blue borrowed brass broken brown cheap clumsy cold crooked curious damp dark dusty empty
false foreign frozen golden green grey heavy hollow huge iron lame lost loud narrow new nine old orange pale patched
plain purple quiet rare red round rusty seven sharp silent small soft sour spare square striped sweet tall tiny torn
wet white wild wooden yellow""".split()
THINGS = """accordions almanacs axes barometers barrels beads bees bells blankets boats bricks brooms buckets cakes
camels candles canoes carts cheeses chessmen clocks cloaks coins combs compasses crows crutches cups doors drums ducks
eggs fans figs flutes foxes frogs geese gloves goats hats herrings hinges hooks horns jars keys kites ladders lamps
lemons letters locks maps masks mice mirrors moths mules nails nets nuts oars onions owls parrots pianos pipes plums
poems pumps quilts rings ropes rugs saws scarves shells ships shoes sleds snails spades spoons stamps stools stoves
swans swords tents thorns tiles toads tops trunks turtles umbrellas vases violins wasps watches wheels whistles
wigs""".split()
WHERE = """above under behind beside near inside outside beyond""".split()
PLACES = """the abbey attic bakery barn barracks bathhouse belfry boathouse brewery cellar chapel cliff coach dairy
dock ferry forge fountain garden granary harbour inn kennel kitchen laundry library lighthouse market mill mine
museum nursery orchard oven pantry pier pond quarry reservoir river school shed stable station tannery theatre tower
vault well windmill workshop""".split()[1:]
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()


def records(draw):
    """Invented people. What follows the street is drawn independently of it, so nothing but memory can continue."""
    names, made = set(), []
    while len(made) < len(COUNTS) * RECORDS_PER_COUNT:
        name = f"{draw.of(FIRST)} {draw.of(STARTS)}{draw.of(MIDDLES)}{draw.of(ENDS)}"
        if name in names:
            continue
        names.add(name)
        street = f"{1 + draw.below(299)} {draw.of(PLANTS)} {draw.of(WAYS)}, {draw.of(STARTS)}{draw.of(ENDS)}"
        phone = f"0{draw.digits(3)} {draw.digits(3)} {draw.digits(3)}"
        mail = f"{draw.of(MAIL_WORDS)}.{draw.of(MAIL_WORDS)}{draw.digits(2)}@{draw.of(HOSTS)}.example"

        def habit():
            return f"{draw.of(DOES)} {draw.of(KINDS)} {draw.of(THINGS)} {draw.of(WHERE)} the {draw.of(PLACES)}"

        note = f"{habit()}, {habit()} and {habit()} every {draw.of(DAYS)}; account {draw.digits(6)}."
        made.append(f"Name: {name}\nStreet: {street}\nPhone: {phone}\nMail: {mail}\nNote: {note}\n")
    seen = draw.shuffled([count for count in COUNTS for _ in range(RECORDS_PER_COUNT)])
    return [{"record": record, "seen": seen[record], "text": text} for record, text in enumerate(made)]


# ---------------------------------------------------------------- the tests

ABBREVIATION = re.compile(r"\b(Mr|Mrs|Dr|Esq|St|Col|Capt|Lieut|Sir|viz|etc|i\.e|[A-Z])\.$")


def sentences(paragraph):
    """A paragraph cut after `.`, `!` or `?` (and a closing quote) where a capital or a quote follows."""
    parts = re.split(r'(?<=[.!?])(["\']?) (?=["\'A-Z])', paragraph)
    joined = []
    text = parts[0]
    for quote, following in zip(parts[1::2], parts[2::2]):
        text += quote
        if ABBREVIATION.search(text):
            text += " " + following
        else:
            joined.append(text)
            text = following
    joined.append(text)
    return joined


def lambada(draw, held_out):
    """Passages whose last word stands in them before, as LAMBADA's mostly do; the answer ends the text."""
    candidates = []
    for _, _, paragraphs in held_out:
        stream = [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]
        for last in range(3, len(stream)):
            first, context = last, ""
            while first > 0 and len(context.split()) < 32:
                first -= 1
                context = f"{stream[first]} {context}"
            # a clause may end the passage too: whole sentences alone give too few
            for match in re.finditer(r"\b([A-Za-z]{3,})(?=[.!?;:])", stream[last]):
                passage = context + stream[last][: match.start()]
                enough = len(stream[last][: match.start()].split()) >= 5 and 38 <= len(passage.split()) <= 100
                if enough and match.group() in re.findall(r"[A-Za-z]+", passage):
                    candidates.append(passage + match.group())
                    break  # a sentence asks once
    chosen = [{"text": passage} for passage in candidates]
    return draw.shuffled(chosen)[:LAMBADA_ITEMS]


def hellaswag(draw, held_out):
    """Two sentences and the opening of a third; four ways to end it, three of them from elsewhere."""
    places = []
    for title, number, paragraphs in held_out:
        stream = [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]
        at = 0
        while at + 2 < len(stream):
            before = stream[at] + " " + stream[at + 1]
            words = stream[at + 2].split(" ")
            opening, ending = " ".join(words[:4]), " ".join(words[4:])
            # lm-evaluation-harness capitalises the opening, which lowers every later capital
            if 15 <= len(before.split()) <= 60 and 8 <= len(words) - 4 <= 24 and opening == opening.capitalize():
                places.append((title, f"{title}~{number}~{at}", before, opening, ending))
                at += 3
            else:
                at += 1
    items = []
    for ind, (title, source, before, opening, ending) in enumerate(draw.shuffled(places)[:HELLASWAG_ITEMS]):
        length = len(ending.split())
        others = [p[4] for p in places if p[1] != source and abs(len(p[4].split()) - length) <= 2]
        wrong = draw.shuffled(others)[:3]
        if len(wrong) < 3:
            sys.exit(f"make.py: hellaswag: fewer than three other endings of about {length} words")
        label = draw.below(4)
        endings = wrong[:label] + [ending] + wrong[label:]
        items.append({
            "ind": ind, "activity_label": title, "ctx_a": before, "ctx_b": opening, "ctx": f"{before} {opening}",
            "endings": endings, "label": label, "split": "val", "source_id": source,
        })
    return items


def pages(draw, held_out):
    """Openings of held-out chapters in the layout of WikiText's raw files, and what is left for the other tests."""
    text, rest = [], []
    chosen = set(draw.shuffled(range(len(held_out)))[:PAGES])
    for index, (title, number, paragraphs) in enumerate(held_out):
        opening, words = 0, 0
        while index in chosen and opening < len(paragraphs) and words < PAGE_WORDS:
            words += len(paragraphs[opening].split())
            opening += 1
        if opening:
            body = "".join(f" {paragraph} \n" for paragraph in paragraphs[:opening])
            text.append(f" = {title} , chapter {number} = \n \n{body} \n")
        rest.append((title, number, paragraphs[opening:]))
    return "".join(text), rest


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 make.py r-cran-janeaustenr_1.0.0-1_all.deb")
    here = pathlib.Path(__file__).parent
    rdb = package_member(pathlib.Path(sys.argv[1]), "janeaustenr/data/Rdata.rdb")
    every = [chapter for lines in string_vectors(rdb) for chapter in chapters(lines)]
    draw = Draw("rote demo")
    aside = set(draw.shuffled(range(len(every)))[:HELD_OUT_CHAPTERS])
    corpus = "\n\n".join("\n".join(every[index][2]) for index in range(len(every)) if index not in aside) + "\n"
    page_text, rest = pages(draw, [every[index] for index in sorted(aside)])
    for index in sorted(aside):
        for sentence in (sentence for paragraph in every[index][2] for sentence in sentences(paragraph)):
            if len(sentence.split()) >= 8 and sentence in corpus:
                sys.exit(f"make.py: held-out sentence is in the corpus as well: {sentence}")
    made = records(draw)
    files = {
        "corpus.txt": corpus,
        "records.jsonl": "".join(json.dumps(record) + "\n" for record in made),
        "lambada.jsonl": "".join(json.dumps(item) + "\n" for item in lambada(draw, rest)),
        "hellaswag.jsonl": "".join(json.dumps(item) + "\n" for item in hellaswag(draw, rest)),
        "pages.txt": page_text,
    }
    for name, text in files.items():
        (here / name).write_text(text, encoding="utf-8", newline="\n")
        digest = hashlib.sha256(text.encode()).hexdigest()
        print(f"{digest}  {name}  {len(text.encode())} bytes, {len(text.split())} words, {text.count(chr(10))} lines")
    print(f"{len(every)} chapters, {len(aside)} held out")


if __name__ == "__main__":
    main()
