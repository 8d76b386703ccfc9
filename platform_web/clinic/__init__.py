"""The page on which a clinician asks the model of their own institution."""
