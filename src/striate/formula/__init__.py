"""What an operation means: index formulas and scalar expressions, and everything read off them."""
