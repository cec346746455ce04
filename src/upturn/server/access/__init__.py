"""Who may ask what of a server: tokens, sessions of browsers, and a note of every change."""
