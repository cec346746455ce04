"""The past: rows that happened, when their labels became known, and what versions say of them."""
