"""Pictures that show how a run went and what a model sees."""
