"""Parts of the dock Annotators."""
