"""Evaluation: fit on some recordings, score on others, say how sure the scores are and what they would have earned."""
