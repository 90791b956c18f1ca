"""Everyday words whose tokens belong in every shortlist, however little text has been generated so far.

First names and the things, units and doings of daily life: a draft that cannot say "Wendy" or "gallons" fails
on the first problem that has them.
"""

from __future__ import annotations

from typing import Any

NAMES = """Aaron Abby Abigail Adam Adrian Aiden Alan Albert Alex Alexander Alexis Alice Allison Alyssa Amanda Amber
Amy Andrea Andrew Andy Angela Angie Anita Ann Anna Anne Anthony April Archie Arthur Ashley Austin Ava
Barbara Barry Beatrice Becky Bella Benjamin Bernard Beth Betty Bill Billy Bob Bobby Brad Bradley Brandon
Brenda Brian Brittany Bruce Bryan Caleb Cameron Carla Carlos Carmen Carol Caroline Carter Cassie
Catherine Cathy Charles Charlie Charlotte Chelsea Cheryl Chloe Chris Christian Christina Christine
Christopher Cindy Claire Cody Colin Connor Courtney Craig Crystal Cynthia Daisy Dale Dan Dana Danny
Darren Dave David Dawn Dean Deborah Debra Denise Dennis Derek Diana Diane Don Donald Donna Doris Dorothy
Doug Douglas Drew Dylan Earl Eddie Edgar Edward Edwin Eileen Elaine Eleanor Eli Elijah Elizabeth Ella
Ellen Elliot Emily Emma Eric Erica Erin Ernest Ethan Eugene Eva Evan Eve Evelyn Faith Finn Fiona Florence
Floyd Frank Frankie Fred Gabriel Gail Gary Gavin Gene Georgia Gerald Gina Glen Gloria Gordon Grant Greg
Gregory Gwen Hannah Harold Harry Harvey Heather Heidi Helen Herbert Holly Howard Ian Isaac Isabel
Isabella Isaiah Jackie Jackson Jacob Jade Jake James Jamie Jan Jane Janet Janice Jared Jasmine Jason Jay
Jean Jeff Jeffrey Jen Jenna Jennifer Jenny Jeremy Jerry Jesse Jessica Jill Jim Jimmy Joan Joanna Joe Joel
Joey John Johnny Jon Jonathan Jordan Jose Joseph Josh Joshua Joy Joyce Juan Judy Julian Julie June Justin
Kaitlyn Kate Katherine Kathleen Kathy Katie Kayla Keith Kelly Ken Kenneth Kevin Kim Kimberly Kyle Larry
Laura Lauren Laurie Lawrence Leah Lee Leonard Leslie Lewis Linda Lindsey Lisa Logan Lois Lori Louis
Louise Lucas Lucy Luis Luke Lydia Lynn Mandy Marcus Margaret Maria Marie Marilyn Mario Marion Mark
Marlene Martha Martin Mary Mason Matt Matthew Max Megan Melanie Melissa Michael Michelle Miguel Mike
Mitchell Molly Monica Morgan Nancy Natalie Nathan Neil Nicholas Nick Nicole Nina Norman Oliver Olivia
Owen Pablo Pam Pamela Pat Patricia Patrick Paula Pauline Penny Perry Peter Philip Phillip Phyllis Rachel
Ralph Randy Raymond Rebecca Regina Rich Richard Rick Ricky Rita Rob Robin Rodney Roger Ron Ronald Ronnie
Rose Roy Ruby Russell Ruth Ryan Sabrina Sally Samantha Samuel Sandra Sandy Sara Scott Sean Seth Shane
Shannon Sharon Shawn Sheila Shelly Sherry Shirley Sidney Simon Sophia Spencer Stacy Stan Stanley Stella
Stephanie Stephen Steve Steven Stuart Sue Susie Suzanne Sydney Sylvia Tammy Tanya Tasha Taylor Ted Teresa
Terry Thomas Tiffany Tim Timmy Timothy Tina Todd Tommy Toni Tony Tracy Travis Trent Trevor Troy Tyler
Valerie Vanessa Vera Vernon Veronica Vicky Vincent Violet Virginia Wanda Warren Wayne Wendy William
Willie Winston Xavier Yvonne Zachary Zack"""

WORDS = """account acres adult afternoon airplane album allowance apartment aunt backpack bag bake basketball
bathroom battery beach bean bear bed bedroom beef bike bill bird birthday blanket block blouse boat bowl
box bracelet bread breakfast brick brother bucket budget burger butter cabbage cake calories camera camp
candy carpet carrot cash cat cent cereal chain cheese cherry chess chicken chip chocolate church cinema
classroom clothes coach coat cob coffee coin collect cook cookie corn costume cousin cow crate cream cup
cupcake customer dad daily dance daughter decorate deliver dentist desk diaper dime dinner discount dish
distance doctor dog doll dollar donate donut door double dozen dress drink drive drum duck earn egg
elephant employee envelope equally eraser evening expense family fare farmer father feet fence fewer fish
fishing flight flour flower foot football fraction freezer friend fruit fuel furniture gallon game garage
garden gas gift giraffe glass gloves goal goat gold golf grade grain grandfather grandmother grape grass
grocery guest guitar gym hair half hamburger hammer hat height hen hike hill hockey holiday homework
honey horse hospital hotdog hour house husband ice inch income ingredient interest invite jacket jar
jeans jewelry jog juice jump kilogram kilometer kitchen kitten lake lamp laundry lawn leaf lemonade
lesson letter library liter loan lunch machine mail mall mango marathon marble market meal meat mechanic
medal meter mile milk minute mom money month morning mortgage mother mountain mouse movie muffin museum
nail neighbor nephew newspaper nickel niece notebook nurse nut onion orange orchard ounce oven pack paint
pants paper parent park party passenger pasta patient paycheck peach peanut pear pen pencil penguin penny
pepper percent perimeter pet phone photo piano picnic picture pie pig pillow pineapple pitcher pizza
planet plant plate player pond pool popcorn potato pound prize profit pumpkin puppy purchase quart
quarter rabbit race rain raise ratio recipe refund rent restaurant ribbon rice ride ring river road rock
roof room rope rose round rug salad salary sale salmon sand sandwich sauce saving savings school score
scout seat seed sheep shelf shell shift ship shirt shoe shop shopping shovel shower sibling sister skirt
sleep slice snack snail snake snow soap soccer sock soda soup spider spoon square squirrel stamp station
steak sticker store story straw strawberry string student studio subway sugar suit supermarket sweater
swim table tank tax tea teacher team teaspoon teenager temperature tennis tent ticket tie tile tip tire
toilet tomato toothbrush towel tower toy track trail train tray tree trip trophy truck turkey turtle
twice uncle uniform vacation van vase vegetable video visit wage waiter walk wallet wash watch water
watermelon weather wedding weed week weekday weekend weigh weight wheel whale wife window wine winter
wood wool worker yard yarn year yogurt zebra zoo"""


def token_ids(tokenizer: Any) -> list[int]:
    """Ids of the first token of every word here, singular and plural, small and capital, after a space and without."""
    found: set[int] = set()
    for word in NAMES.split() + WORDS.split():
        for form in {word, word.capitalize(), word + "s"}:
            found.update(ids[0] for ids in tokenizer([form, " " + form]).input_ids)
    return sorted(found)
