"""The questions of each lesson, built from `notebooks/source/exercises`: never edited here."""
