"""The evidence pack of a model version: live controls, documents, proofs."""
