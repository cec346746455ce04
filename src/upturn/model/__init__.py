"""What every wing knows of a model: its tables, signature, profile, how it is called, and its versions."""
