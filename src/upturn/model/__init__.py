"""What every wing knows of models: tables, signature, profile, predictors, and versions."""
