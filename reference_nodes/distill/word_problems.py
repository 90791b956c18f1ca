"""Arithmetic word problems from templates: everyday stories with two to four steps, all made here.

A template is text with slots: ``{n}``, ``{m}`` and ``{k}`` are people, ``{o}`` and ``{p}`` two kinds of thing,
``{place}`` a place, ``{day}`` a weekday, ``{job}`` a worker; ``{a}`` and ``{b}`` are numbers up to 100, ``{small}`` is
2..9, ``{few}`` 2..12, ``{big}`` 60..1200, ``{pct}`` a round percentage, ``{price}`` a price. The questions need not
have whole answers: the text is for a draft model to learn its target's way of answering, right or wrong.
"""

from __future__ import annotations

import random

NAMES = [
    "Amelia",
    "Noah",
    "Priya",
    "Mateo",
    "Hana",
    "Leo",
    "Fatima",
    "Oscar",
    "Greta",
    "Samir",
    "Ivy",
    "Hugo",
    "Nadia",
    "Felix",
    "Rosa",
    "Theo",
    "Yuki",
    "Omar",
    "Clara",
    "Dmitri",
    "Zoe",
    "Kofi",
    "Elena",
    "Arjun",
    "Maya",
    "Victor",
    "Lucia",
    "Ben",
    "Aisha",
    "Pedro",
    "Nora",
    "Ravi",
    "Sofia",
    "Liam",
    "Mei",
    "Jonas",
    "Tara",
    "Diego",
    "Anna",
    "Marcus",
    "Julia",
    "Peter",
    "Emma",
    "Tom",
    "Grace",
    "Henry",
    "Lily",
    "Sam",
    "Olivia",
    "Jack",
    "Sarah",
    "Daniel",
    "Karen",
    "Robert",
    "Linda",
    "Paul",
    "Susan",
    "George",
    "Betty",
    "Frank",
    "Alice",
    "Walter",
    "Irene",
    "Carl",
]
THINGS = [
    "apples",
    "pencils",
    "marbles",
    "stickers",
    "books",
    "cookies",
    "balloons",
    "cards",
    "coins",
    "oranges",
    "shells",
    "toys",
    "bananas",
    "cupcakes",
    "flowers",
    "beads",
    "stamps",
    "eggs",
    "buttons",
    "candles",
    "ribbons",
    "notebooks",
    "muffins",
    "sandwiches",
    "tickets",
    "plants",
    "bottles of juice",
    "boxes of cereal",
    "tomatoes",
    "peaches",
    "bracelets",
    "puzzles",
    "erasers",
    "bricks",
    "chairs",
    "lemons",
    "postcards",
    "mugs",
    "hats",
    "scarves",
    "pies",
    "crayons",
    "rocks",
    "fish",
    "chickens",
    "potatoes",
]
PLACES = [
    "market",
    "bakery",
    "school",
    "library",
    "farm",
    "park",
    "museum",
    "factory",
    "zoo",
    "garden",
    "office",
    "theater",
    "stadium",
    "bookshop",
    "café",
    "beach",
    "shop",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
JOBS = [
    "baker",
    "teacher",
    "farmer",
    "painter",
    "carpenter",
    "nurse",
    "driver",
    "gardener",
    "chef",
    "tailor",
    "plumber",
    "coach",
    "mechanic",
    "librarian",
]
VEHICLES = ["car", "train", "bus", "bicycle", "truck", "boat", "van", "motorbike"]
ANIMALS = ["dogs", "cats", "cows", "goats", "sheep", "horses", "ducks", "rabbits", "pigs", "hens"]

STORIES = [
    "{n} has {a} {o}. {m} gives {n} {b} more {o}, and then {n} loses {small}. How many {o} does {n} have now?",
    "{n} buys {small} boxes of {o}. Each box holds {a} {o}. If {n} gives away {b} {o}, how many are left?",
    "A {job} sells {a} {o} on {day} and twice as many on the next day. How many {o} are sold over the two days?",
    "{n} earns ${a} per hour and works {small} hours a day. How much does {n} earn in {few} days?",
    "There are {a} {animals} and {b} {animals2} at the {place}. Each of the {animals} eats {small} "
    "pounds of food a day and "
    "each of the {animals2} eats {few} pounds. How many pounds of food do they eat in a week?",
    "{n} reads {a} pages on {day}. The next day {n} reads {small} times as many pages. If the book has {big} pages, "
    "how many pages remain?",
    "A {vehicle} travels at {speed} miles per hour for {small} hours and then at {speed2} miles per hour "
    "for {few} hours. "
    "How far does it travel in total?",
    "{n} saves ${a} each week. After {few} weeks {n} spends ${b} on {o}. How much money is left?",
    "The {place} has {small} rows of {a} seats. If {b} seats are empty, how many people are seated?",
    "{n} is {a} years old. {m} is {small} years older than {n}. What will be the sum of their ages in {few} years?",
    "{n} is {small} times as old as {m}. If {m} is {a} years old, how old will {n} be in {few} years?",
    "A pack of {o} costs ${price} and a pack of {p} costs ${price2}. {n} buys {small} packs of {o} and "
    "{few} packs of {p}. "
    "How much does {n} pay?",
    "{n} pays with a ${big} bill for {small} {o} that cost ${price} each. How much change does {n} get back?",
    "{pct}% of the {big} students in a school walk to class. The rest take the bus. How many students take the bus?",
    "A shop sells a jacket for ${big}. During a sale the price drops by {pct}%. How much does the jacket "
    "cost in the sale?",
    "{n} baked {a} {o}. {n} ate {small} and shared the rest equally among {few} friends. How many did each friend get?",
    "{n}, {m} and {k} collect {o}. {n} has {a}, {m} has {small} times as many as {n}, and {k} has {b} "
    "fewer than {m}. "
    "How many {o} do they have together?",
    "A tank holds {big} liters of water. It leaks {small} liters every hour. How much water is left after {few} hours?",
    "A {job} can make {a} {o} in an hour. How many {o} can {small} such workers make in {few} hours?",
    "{n} walks {small} miles to the {place} and back every day. How many miles does {n} walk in {few} weeks?",
    "{n} plants {small} rows of {o} with {a} in each row. If {pct}% of them do not grow, how many grow?",
    "A recipe needs {small} cups of flour for {a} {o}. How many cups does {n} need to make {b} {o}?",
    "The length of a rectangular garden is {a} feet and its width is {small} feet less. What is its perimeter?",
    "The perimeter of a rectangle is {big} cm. Its length is {a} cm. What is its width?",
    "{n} has half as many {o} as {m}. {m} has {small} times as many {o} as {k}. If {k} has {a} {o}, how "
    "many does {n} have?",
    "On {day}, {a} people visited the {place}. On the following day {b} more people came than on {day}. "
    "If each ticket costs ${small}, how much money did the {place} make in the two days?",
    "{n} drinks {small} glasses of water a day. Each glass holds {a} ounces. How many ounces does {n} "
    "drink in {few} days?",
    "{n} rents a {vehicle} for ${a} per day plus ${small} per mile. How much does it cost to keep it "
    "{few} days and drive {b} miles?",
    "{n} wants to buy a bicycle that costs ${big}. {n} has ${a} and earns ${small} for every lawn mowed. "
    "How many lawns must {n} mow?",
    "A bag has {a} red marbles, {b} blue marbles and {small} times as many green marbles as red ones. "
    "How many marbles are there?",
    "{n} makes {a} {o} a day and sells each for ${small}. The materials cost ${few} a day. What is the "
    "profit in a week?",
    "A class of {a} students is split into groups of {small}. Each group needs {few} {o}. How many {o} are needed?",
    "{n} ran {small} miles on {day}, twice as far the next day, and {few} miles on the third day. How "
    "many miles did {n} run?",
    "A phone plan costs ${a} a month and {small} cents for each message. {n} sent {b} messages. What is "
    "the bill for the month?",
    "{n} has {a} quarters, {b} dimes and {small} nickels. How much money does {n} have in dollars?",
    "The {place} bought {small} cases of {o} at ${a} a case and sold all of them for ${big}. What was the profit?",
    "{n} took {a} minutes to finish the homework. {m} took {small} minutes longer, and {k} took half as long as {m}. "
    "How many minutes did {k} take?",
    "A {job} works {small} hours on weekdays and {few} hours on Saturday, for ${a} an hour. How much is that per week?",
    "If {small} {o} cost ${a}, how much do {b} {o} cost?",
    "{n} cut a rope of {big} inches into {small} equal pieces, then used {few} of them. How many inches "
    "of rope are left?",
    "A train has {small} cars with {a} seats each. If {pct}% of the seats are taken, how many seats are free?",
    "{n} spends 1/{small} of ${big} on {o} and ${a} on {p}. How much money does {n} have left?",
    "Last year {n} was {a} cm tall. Since then {n} grew {small} cm, and {m} is {few} cm taller than {n}. "
    "How tall is {m}?",
    "There were {big} {o} in the {place}. {n} took {a} and {m} took {small} times as many. How many {o} were left?",
    "{n} uploads {small} videos a day, each {a} minutes long. How many hours of video does {n} upload in {few} weeks?",
    "A water bottle costs ${price} and a sandwich costs ${small} more. How much do {few} of each cost?",
    "{n}'s team scored {a} points in the first half and {pct}% more in the second half. How many points "
    "did they score?",
    "{n} had {big} {o}. {n} sold {pct}% of them on {day} and {a} on the next day. How many {o} does {n} still have?",
    "The sum of two numbers is {big}. One of them is {a}. What is {small} times the other number?",
    "A number is multiplied by {small} and then {a} is added, which gives {big}. What is the number?",
    "What is {a} plus {b} minus {small}?",
    "Calculate {a} * {small} + {b}.",
    "Find the average of {a}, {b}, {small} and {few}.",
    "What is {pct}% of {big}?",
    "{n} needs {big} {o} for a party. {n} already has {a} and {m} will bring {b}. How many more are needed?",
    "{n} takes {small} pills every {few} hours. How many pills does {n} take in {a} days?",
    "A {vehicle} uses {small} gallons of fuel for every {a} miles. Fuel costs ${price} a gallon. What "
    "does a trip of {big} miles cost?",
    "{n} and {m} share ${big}. {n} gets ${a} more than {m}. How much does {m} get?",
    "The ratio of {o} to {p} in a box is {small}:{few}. If there are {a} {o}, how many {p} are there?",
    "{n} types {a} words per minute. How long will it take to type {big} words with a break of {small} minutes?",
]
OPENERS = [
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "It is {day} at the {place}. ",
    "{n} likes to keep count of things. ",
    "{n} lives near a {place}. ",
    "{n} and {m} are good friends. ",
    "{n} is getting ready for a birthday party. ",
    "A {job} named {n} is busy this week. ",
    "{n} loves {o}. ",
    "Every {day}, {n} goes to the {place}. ",
    "In a small town there is a {place}. ",
]
MIDDLES = [
    "",
    "",
    "",
    "",
    " {m} also brings {few} {o}.",
    " Each one weighs {small} pounds.",
    " {m} pays for half of it.",
    " There is a tax of {pct}%.",
    " {m} has {a} {p}.",
    " {n} does this {few} times.",
]


def word_problem(rng: random.Random) -> str:
    """One problem, drawn with ``rng``."""
    story = rng.choice(STORIES)
    head, stop, question = story.rpartition(". ")
    story = rng.choice(OPENERS) + (head + "." + rng.choice(MIDDLES) + " " + question if stop else question)
    n, m, k = rng.sample(NAMES, 3)
    o, p = rng.sample(THINGS, 2)
    animals, animals2 = rng.sample(ANIMALS, 2)
    scale = rng.choice([12, 20, 30, 50, 100])
    return story.format(
        n=n,
        m=m,
        k=k,
        o=o,
        p=p,
        animals=animals,
        animals2=animals2,
        place=rng.choice(PLACES),
        day=rng.choice(DAYS),
        job=rng.choice(JOBS),
        vehicle=rng.choice(VEHICLES),
        a=rng.randint(4, scale),
        b=rng.randint(3, scale),
        small=rng.randint(2, 9),
        few=rng.randint(2, 12),
        big=rng.choice([60, 72, 80, 96, 100, 120, 144, 150, 180, 200, 240, 300, 360, 400, 500, 600, 750, 1000, 1200]),
        pct=rng.choice([5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80]),
        price=rng.choice(["1.50", "2", "2.25", "3", "4.50", "6", "0.75"]),
        price2=rng.choice(["1.20", "3.50", "5", "7", "8", "10", "12"]),
        speed=rng.choice([30, 40, 45, 50, 60, 65, 70]),
        speed2=rng.choice([20, 35, 55, 75, 80]),
    )
