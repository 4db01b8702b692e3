"""What is asked of recordings, models and past runs: evaluations, leak tests, explanations, differences. Nothing here trades."""
