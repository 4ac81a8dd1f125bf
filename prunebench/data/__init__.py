"""Text: corpora by name, and the tokens that methods and evaluations take from them."""
