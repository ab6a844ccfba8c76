"""Review: which clusters a person looks at, in which order, and what the answers say."""
