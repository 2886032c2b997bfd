"""What learners answer wrongly in lesson 0, and what of the explanation they must read.

An edit is what is exchanged in the worked answer (a pair, or several), or a cell's code.
"""

WRONG = {
    1: {
        "both ends": (("[7, 1,", "[8, 1,"), "ends before its second number"),
        "from the first": (("[7, 1,", "[10, 1,"), "begins at 3"),
        "no channel": (("[7, 1, 28, 28]", "[7, 28, 28]"), "the channel stays"),
        "pixels in a row": (("[7, 1, 28, 28]", "[7, 784]"), "lays their pixels in a row"),
        "the channel last": (("[7, 1, 28, 28]", "[7, 28, 28, 1]"), "before height and width"),
        "some shape": (
            ("[7, 1, 28, 28]", "(2, 3)"),
            "not [2, 3]: `digits.images` has four dimensions",
        ),
        "a number": (("[7, 1, 28, 28]", "7"), "a list of sizes"),
        "an index as a slice": (("[1, 28, 28]\ngrey", "[1, 1, 28, 28]\ngrey"), "`3:4` would"),
        "one without channel": (("[1, 28, 28]\ngrey", "[28, 28]\ngrey"), "the channel stays"),
        "only divided": (("(128 / 255 - 0.1307) / 0.3081", "0.50"), "divided by 255 only"),
        "not stretched": ((" / 0.3081", ""), "not yet stretched"),
        "not divided": (("128 / 255", "128"), "divide by 255 first"),
        "no brackets": (("(128 / 255 - 0.1307)", "128 / 255 - 0.1307"), "it needs brackets"),
        "multiplied": ((") / 0.3081", ") * 0.3081"), "rather than multiply"),
        "some grey": (("(128 / 255 - 0.1307) / 0.3081", "0"), "begins with 0.50"),
    },
    2: {
        "divided only": (("(pixels / 255 - MEAN) / STD", "pixels / 255"), "divided by 255 only"),
        "not divided": (("pixels / 255", "pixels"), "first divide by 255"),
        "stretched first": (
            ("(pixels / 255 - MEAN) / STD", "pixels / 255 / STD - MEAN"),
            "take MEAN away first",
        ),
        "multiplied": (("- MEAN) / STD", "- MEAN) * STD"), "rather than multiply"),
        "exchanged": (("- MEAN) / STD", "- STD) / MEAN"), "have changed places"),
        "no brackets": (("(pixels / 255 - MEAN)", "pixels / 255 - MEAN"), "in brackets"),
        "something else": (("/ 255", "/ 256"), "divide by 255, shift, stretch"),
        "from 0 to 1": (
            ("((images * STD + MEAN) * 255).round()", "images * STD + MEAN"),
            "multiply by 255, too",
        ),
        "not undone": (
            ("((images * STD + MEAN) * 255).round()", "images * 255"),
            "undone first: times STD",
        ),
        "undone in order": (
            ("((images * STD + MEAN) * 255).round()", "(images + MEAN) * STD * 255"),
            "in reverse",
        ),
        "undone in order, rounded": (
            ("(images * STD + MEAN) * 255", "(images + MEAN) * STD * 255"),
            "undo the steps in reverse, then round",
        ),
        "not rounded": ((".round()", ""), "not whole yet: round them"),
        "cut off": ((".round()", ".byte()"), "Round first"),
        "one number": ((".round()", ".mean()"), "yours has shape []"),
    },
    3: {
        "kept once": ((('"dfa"', '"df"'), ('"c"', '"ac"')), "draws 1 of 28 rows. `a`"),
        "returned at once": ((('"dfa"', '"dfac"'), ('"c"', '""')), "draws 1 of 28 rows. `c`"),
        "begun anew": ((('"bge"', '"bg"'), ('"dfa"', '"edfa"')), "draws 1 of 28 rows. `e`"),
        "ink before there are rows": ((('"bge"', '"bged"'), ('"dfa"', '"fa"')), "asks one row"),
        "undone in the loop": ((('"bge"', '"be"'), ('"dfa"', '"gdfa"')), "for all pixels, once"),
        "undone at the end": ((('"bge"', '"be"'), ('"c"', '"gc"')), "for all pixels, once"),
        "all in the loop": ((('"bge"', '""'), ('"dfa"', '"bgedfa"')), "`b`, `pixels = image[0]`"),
        "a line left out": (("bge", "be"), "1 line has no place yet: `g`"),
        "a line placed twice": (('"c"', '"cd"'), "placed more than once: `d`"),
    },
    4: {
        "nothing set": (
            "settings = {}",
            "COURSE_DATA is not set, so it is 'auto', which may ask",
        ),
        "mistyped": (('"sample"', '"smaple"'), "Known values: auto, sample"),
        "a folder": (('"COURSE_DATA": "sample"', '"COURSE_DATA_DIR": "data"'), "need not be"),
        "an invented variable": (("COURSE_ACCELERATOR", "COURSE_DEVICE"), "no variable `COURSE_D"),
        "small letters": (("COURSE_DATA", "course_data"), "no variable `course_data`"),
        "not text": (('"sample"', "True"), "text only, and `COURSE_DATA` is a bool"),
        "the device left": ((', "COURSE_ACCELERATOR": "cpu"', ""), "takes a GPU where there is"),
        "a GPU": (('"cpu"', '"gpu"'), "stops without a GPU"),
        "the folder left": ((', "COURSE_RUNS": "my_runs"', ""), "write into 'runs'"),
        "a set": ('settings = {"COURSE_DATA", "sample"}', "should be a dictionary"),
        "all digits": (("4_000", "5_000"), "a fifth of them is kept"),
        "full MNIST": (("4_000", "60_000"), "that is full MNIST"),
        "some number": (("4_000", "4_001"), "4,001 is not it: try the settings"),
    },
}

ALSO_RIGHT = {
    1: {
        "by asking Python": (
            "several = digits.images[3:10].shape\n"
            "one = tuple(digits.images[3].shape)\n"
            "grey = torch.tensor(1.2)"
        ),
    },
    2: {
        "by torch's own functions, as bytes": (
            "def normalised(pixels):\n"
            "    return pixels.float().div(255).sub(MEAN).div(STD)\n"
            "def grey_levels(images):\n"
            "    return images.mul(STD).add(MEAN).mul(255).add(0.5).to(torch.uint8)\n"
        ),
    },
    3: {
        "lists": ('"dfa"', '["d", "f", "a"]'),
        "the list first": ('"bge"', '"ebg"'),
    },
    4: {
        "capitals, and a path": ((('"sample"', '" Sample"'), ("my_runs", "~/my_runs/"))),
    },
}
