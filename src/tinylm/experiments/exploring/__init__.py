"""The page of `tinylm explore`: one model looked into at every step that its training kept."""
