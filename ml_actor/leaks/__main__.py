"""The child process of a check for leaks.

python -m ml_actor.leaks --job FILE.json
"""

from ml_actor.child_start import become

if __name__ == "__main__":
    become("ml_actor.leaks.child")
