"""What a run left behind: model versions, each site's own model, and which of them serves where."""
