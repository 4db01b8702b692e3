"""The child process of a search for settings.

python -m ml_actor.search --job FILE.json
"""

from ml_actor.child_start import become

if __name__ == "__main__":
    become("ml_actor.search.child")
