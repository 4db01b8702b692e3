"""The child process of an evaluation.

python -m ml_actor.evaluate --job FILE.json
"""

from ml_actor.child_start import become

if __name__ == "__main__":
    become("ml_actor.evaluate.child")
