"""Does it know the future? Checks of features, labels and models, by changing what they must not see.

    python -m ml_actor.leaks --job FILE.json

`causality` changes the rows behind a cut and asks for the rows before it again; `chance` and `skill` measure on books
whose true skill is known (`book`): none, or a planted one. `docs/leaks.md` says what each check can and cannot catch.
"""
