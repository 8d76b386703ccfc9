"""The evidence pack of a model version: live controls, documents, proofs. What it says it has looked at just now."""
