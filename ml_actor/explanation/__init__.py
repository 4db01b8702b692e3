"""Why did the model say that? Rows from the dataset, features and contributions from the version, what happened next.

    python -m ml_actor.explanation --job FILE.json

`rows` finds the window, `shapley` parts what trees say among features, `account` puts everything together.
"""
